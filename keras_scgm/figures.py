"""Writes figures as PNG files, and has their colours."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.text import Text

from keras_scgm.files import replaced

PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#000000")
"""Colours of Okabe and Ito, which readers of every colour vision tell apart."""


def write_figure(path: Path, figure: Figure, dpi: int = 100) -> None:
    """Replace a PNG file by a figure, as `keras_scgm.files.replaced` does, with the same bytes for the same figure.

    Dollar signs are plain characters, as in names of files.

    Args:
        path: File to replace.
        figure: Figure to draw.
        dpi: Pixels per inch of the figure's size.
    """
    for text in figure.findobj(Text):
        text.set_parse_math(False)
    with replaced(path) as temporary:
        figure.savefig(temporary, format="png", dpi=dpi, metadata={"Software": None})
