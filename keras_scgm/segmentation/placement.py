"""Placement of the network's input windows in a volume."""

from __future__ import annotations

from typing import Literal

import numpy as np

from keras_scgm.errors import InputError
from keras_scgm.localization import Windows, fixed_windows, windows_on_cord
from keras_scgm.predict import Predict
from keras_scgm.slices import SliceConfig, SliceGeometry
from keras_scgm.volume import Volume


def place_windows(
    volume: Volume,
    config: SliceConfig,
    predict: Predict,
    window: Literal["auto", "center"] | tuple[float, float],
) -> Windows:
    """Place the windows, and find the cord in them.

    Args:
        volume: The image.
        config: The network's slices.
        predict: The network.
        window: Value of `SegmentationConfig.window`.

    Raises:
        InputError: the window's centre is outside the field of view.
    """
    if window == "auto":
        return windows_on_cord(volume, config, predict)
    centered = SliceGeometry.centered(volume, config)
    if window == "center":
        return fixed_windows(volume, centered, predict)
    field_mm = np.multiply(volume.in_plane_shape, volume.in_plane_spacing_mm)
    if not np.all((np.array(window) >= 0) & (np.array(window) <= field_mm)):
        raise InputError(
            f"{volume.source}: window centre {window[0]:g},{window[1]:g} mm is outside the field "
            f"of view of {field_mm[0]:g} x {field_mm[1]:g} mm"
        )
    center = np.divide(window, centered.pixel_spacing_mm)
    return fixed_windows(volume, centered.recentered(np.tile(center, (volume.n_slices, 1))), predict)
