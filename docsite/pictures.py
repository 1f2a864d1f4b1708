"""Picture of a result for README and the first page: `python -m docsite.pictures` writes `docs/images/tissues.png`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from keras_scgm.datasets.phantom import PhantomConfig, draw_subject
from keras_scgm.figures import write_figure
from keras_scgm.picture import CONTOUR, CORD_CONTOUR
from keras_scgm.segmentation import Segmentation, Segmenter

PICTURE = Path(__file__).parents[1] / "docs/images/tissues.png"
SEED, SLICES, HALF_WIDTH_PX = 20171004, (2, 6), 26
WHITE_MATTER = "#ffd84d"


def draw_tissues(result: Segmentation, path: Path) -> None:
    """Two slices, each beside itself with the tissues that were found.

    Args:
        result: A segmentation with a cord.
        path: PNG file to write.
    """
    image = np.asarray(result.volume.voxels, np.float32)
    gray_matter, cord = (np.asarray(mask.dataobj) > 0 for mask in (result.mask, result.cord))
    figure = Figure(figsize=(11, 3.2), layout="constrained", facecolor="white")
    for k, (before, after) in zip(SLICES, figure.subplots(1, 4).reshape(2, 2), strict=True):
        middle = [round(float(axis.mean())) for axis in np.nonzero(cord[..., k])]
        part = (*(slice(at - HALF_WIDTH_PX, at + HALF_WIDTH_PX) for at in middle), k)
        shown = image[part] / (1.8 * np.percentile(image[part][cord[part]], 95))
        painted = np.repeat(np.clip(shown, 0, 1)[..., np.newaxis], 3, axis=2)
        for mask, colour in ((cord[part] & ~gray_matter[part], WHITE_MATTER), (gray_matter[part], CONTOUR)):
            painted[mask] = 0.55 * painted[mask] + 0.45 * np.array(to_rgb(colour))
        for axes, picture in ((before, shown), (after, painted)):
            axes.imshow(np.rot90(picture), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axes.set_axis_off()
        after.contour(np.rot90(cord[part]), [0.5], colors=CORD_CONTOUR, linewidths=2)
    names = {"gray matter": CONTOUR, "white matter": WHITE_MATTER}
    handles = [Patch(color=colour, alpha=0.7, label=name) for name, colour in names.items()]
    handles.append(Patch(facecolor="none", edgecolor=CORD_CONTOUR, linewidth=2, label="cord"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=12)
    write_figure(path, figure, dpi=130)


def main() -> None:
    subject = draw_subject(PhantomConfig(spacing_mm=0.5, matrix_size=200, n_slices=10), SEED)
    draw_tissues(Segmenter("synthetic").segment(subject.image), PICTURE)
    print(PICTURE)


if __name__ == "__main__":
    main()
