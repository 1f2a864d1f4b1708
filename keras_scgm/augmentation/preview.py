"""A picture of slices before and after the augmentation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from keras import ops
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from keras_scgm import checks
from keras_scgm.augmentation.config import AugmentationConfig
from keras_scgm.augmentation.transforms import apply_geometric, apply_intensity, sample_parameters
from keras_scgm.errors import InputError
from keras_scgm.figures import write_figure
from keras_scgm.slices import evenly_spaced

ROWS = 4
VARIATIONS = 6
CONTOUR = "#ff4d5a"


def preview(
    images: np.ndarray,
    masks: np.ndarray,
    config: AugmentationConfig,
    seed: int,
    path: Path,
    title: str | None = None,
) -> None:
    """Draws slices with the contours of their masks, and augmented variations of each beside it.

    At most 4 slices, evenly spaced, in 6 variations: those of the first 6 batches of a training that has
    these slices in each. Anterior is up. All pictures of a row share the original's window of brightness, so
    that changes of brightness show.

    Args:
        images: (slice, height, width, channels), right-left and posterior-anterior; the first channel is
            drawn.
        masks: (slice, height, width, classes), in [0, 1]; the first class is drawn.
        config: Settings of the augmentation.
        seed: 0 to 2**32 - 1.
        path: PNG file to write.
        title: Line of text above the slices, such as the name of the settings.

    Raises:
        InputError: The shapes do not fit, or the path does not end in .png.
    """
    path = checks.path("path", path)
    if path.suffix != ".png":
        raise InputError(f"{path}: the picture is PNG; give a name ending in .png")
    shapes = np.shape(images), np.shape(masks)
    if [len(shape) for shape in shapes] != [4, 4] or shapes[0][:3] != shapes[1][:3] or not shapes[0][0]:
        raise InputError(
            "images and masks must be (slice, height, width, channels) of at least one slice, "
            f"received {shapes[0]} and {shapes[1]}"
        )
    checks.instance(AugmentationConfig)("config", config)
    seed, title = checks.seed("seed", seed), checks.optional(checks.text)("title", title)
    chosen = evenly_spaced(len(images), ROWS)
    images, masks = images[chosen], masks[chosen]
    pairs = [(images, masks), *(_variation(images, masks, config, seed, step) for step in range(VARIATIONS))]

    head = 0.3 if title is None else 0.5
    height = 1.8 * len(chosen) + head
    figure = Figure(figsize=(1.8 * len(pairs), height), facecolor="black")
    if title is not None:
        figure.suptitle(title, color="white", fontsize=9, y=1 - 0.08 / height)
    grid = figure.subplots(len(chosen), len(pairs), squeeze=False)
    figure.subplots_adjust(0.005, 0.005, 0.995, 1 - head / height, 0.02, 0.02)
    for column, (changed_images, changed_masks) in enumerate(pairs):
        title = f"variation {column}" if column else "original, red: mask"
        grid[0, column].set_title(title, color="white", fontsize=8, pad=3)
        for row, original in enumerate(images):
            window = np.percentile(original[..., 0], (0.5, 99.5))
            _draw(grid[row, column], changed_images[row, ..., 0], changed_masks[row, ..., 0], window)
    write_figure(path, figure, dpi=120)


def _variation(
    images: np.ndarray, masks: np.ndarray, config: AugmentationConfig, seed: int, step: int
) -> tuple[np.ndarray, np.ndarray]:
    parameters = sample_parameters(config, images.shape, seed, step)
    changed, changed_masks = apply_geometric(
        ops.convert_to_tensor(images),
        ops.convert_to_tensor(masks),
        parameters,
        "linear",
        config.mask_interpolation,
    )
    return ops.convert_to_numpy(apply_intensity(changed, parameters)), ops.convert_to_numpy(changed_masks)


def _draw(axes: Axes, image: np.ndarray, mask: np.ndarray, window: np.ndarray) -> None:
    axes.imshow(image.T, origin="lower", cmap="gray", vmin=window[0], vmax=window[1])
    if mask.any() and not mask.all():
        axes.contour(mask.T.astype(float), levels=[0.5], colors=[CONTOUR], linewidths=0.8)
    axes.set_axis_off()
