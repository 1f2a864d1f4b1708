"""Writes figures as PNG files."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.text import Text

from keras_scgm.files import replaced


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
