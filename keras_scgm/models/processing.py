"""Preprocessing and binarization as in segmentation, for an array of slices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import nibabel as nib
import numpy as np

from keras_scgm import checks
from keras_scgm.errors import InputError
from keras_scgm.pretrained import DEFAULT_WEIGHTS, WeightsCard, find_card
from keras_scgm.slices import SliceGeometry, measure_intensities, read_windows
from keras_scgm.volume import Volume


def preprocess_input(x: Any) -> np.ndarray:
    """Normalizes the slices of one volume for the networks, as `keras_scgm.segment` does.

    All slices together get mean 0 and standard deviation 1, so give those of one volume in one call. Constant
    slices do not count in these two numbers. NaN and infinite pixels take the mean of their slice first.
    Only intensities are changed: the networks also expect 0.25 mm per pixel, rows from right to left and columns
    from posterior to anterior, to which `keras_scgm.segment` resamples slices.

    Args:
        x: (slice, height, width) or (slice, height, width, 1), in any unit; not changed.

    Returns:
        float32 (slice, height, width, 1); zeros if all of `x` is constant.

    Raises:
        keras_scgm.errors.InputError: `x` has another shape or type, or intensities beyond 1e18.

    Example:

    >>> import numpy as np
    >>> preprocess_input(np.array([[[10.0, 30.0]]])).ravel()
    array([-1.,  1.], dtype=float32)
    """
    slices = _array("x", x)
    if slices.ndim == 4 and slices.shape[3] == 1:
        slices = slices[..., 0]
    if slices.ndim != 3 or not slices.size:
        raise InputError(
            "x must be (slice, height, width) or (slice, height, width, 1), with at least one pixel, "
            f"received {np.shape(x)}"
        )
    # Slices on a grid that is that of their windows: the steps of a volume, none written twice.
    volume = Volume(
        voxels=np.moveaxis(slices, 0, 2),
        affine=np.diag([-1.0, 1.0, 1.0, 1.0]),
        header=nib.Nifti1Header(),
        shape=(*slices.shape[1:], len(slices)),
        slope=1.0,
        intercept=0.0,
        source="x",
    )
    size = volume.in_plane_shape
    geometry = SliceGeometry(
        native_shape=size,
        native_spacing_mm=(1.0, 1.0),
        pixel_spacing_mm=1.0,
        window_shape=size,
        starts=np.zeros((len(slices), 2), dtype=int),
    )
    return read_windows(volume, geometry, measure_intensities(volume, geometry), 0, len(slices))


def binarize_predictions(
    preds: Any, weights: str | Path = DEFAULT_WEIGHTS, threshold: float | None = None
) -> np.ndarray:
    """Gray matter masks from the probabilities that a network predicts, as `keras_scgm.segment` cuts them.

    Args:
        preds: Probabilities in [0, 1], of any shape.
        weights: Name or file of the weights that predicted them, whose card has the threshold; a file without
            a card has that of the package.
        threshold: Probability above which a pixel is gray matter, between 0 and 1; None takes the card's.

    Returns:
        bool array of the same shape.

    Raises:
        keras_scgm.errors.InputError: The weights are unknown, or an argument breaks its rule.

    Example:

    >>> binarize_predictions([[0.2, 0.5, 0.8]]).tolist()
    [[False, False, True]]
    """
    threshold = checks.optional(checks.number(above=0, below=1))("threshold", threshold)
    if threshold is None:
        threshold = (find_card(weights) or WeightsCard).threshold
    return _array("preds", preds) > threshold


def _array(name: str, value: Any) -> np.ndarray:
    """The numbers of an array or a tensor of any backend."""
    wanted = "an array of real numbers"
    try:
        array = keras.ops.convert_to_numpy(value) if keras.ops.is_tensor(value) else np.asarray(value)
    except (TypeError, ValueError, RuntimeError, NotImplementedError):
        checks.refuse(name, wanted, value)
    if array.dtype.name == "bfloat16":
        array = array.astype(np.float32)
    if array.dtype.kind not in "iuf":
        checks.refuse(name, wanted, value)
    return array
