"""Writes figures as PNG files."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from keras_scgm.files import replaced


def write_figure(path: Path, figure: Figure, dpi: int = 100) -> None:
    """Replace a PNG file by a figure, as `keras_scgm.files.replaced` does, with the same bytes for the same figure.

    Args:
        path: File to replace.
        figure: Figure to draw.
        dpi: Pixels per inch of the figure's size.
    """
    with replaced(path) as temporary:
        figure.savefig(temporary, format="png", dpi=dpi, metadata={"Software": None})
