"""Placement of the network's input windows in a volume."""

from __future__ import annotations

from typing import Literal

import numpy as np

from keras_scgm.errors import InputError
from keras_scgm.localization import Windows, fixed_windows, geometry_on_track, windows_on_cord
from keras_scgm.predict import Predict
from keras_scgm.segmentation.given_cord import GivenCord
from keras_scgm.slices import SliceConfig, SliceGeometry
from keras_scgm.volume import Volume


def place_windows(
    volume: Volume,
    config: SliceConfig,
    predict: Predict,
    window: Literal["auto", "center"] | tuple[float, float],
    cord: GivenCord | None = None,
) -> Windows:
    """Place the windows, and find the cord in them if it is not known.

    Args:
        volume: The image.
        config: The network's slices.
        predict: The network.
        window: Value of `SegmentationConfig.window`.
        cord: The cord of the image, if the user gave it.

    Raises:
        InputError: the window's centre is outside the field of view.
    """
    centered = SliceGeometry.centered(volume, config)
    track = None if cord is None else cord.track(centered)
    if window == "auto":
        if track is None:
            return windows_on_cord(volume, config, predict)
        geometry = geometry_on_track(centered, track)
    elif window == "center":
        geometry = centered
    else:
        geometry = centered.recentered(_center(volume, centered, window))
    if track is None:
        return fixed_windows(volume, geometry, predict)
    return Windows.of(volume, geometry).with_cord(track)


def _center(volume: Volume, centered: SliceGeometry, window: tuple[float, float]) -> np.ndarray:
    """(slice, 2) resampled pixels of the same place in every slice."""
    field_mm = np.multiply(volume.in_plane_shape, volume.in_plane_spacing_mm)
    if not np.all((np.array(window) >= 0) & (np.array(window) <= field_mm)):
        raise InputError(
            f"{volume.source}: window centre {window[0]:g},{window[1]:g} mm is outside the field "
            f"of view of {field_mm[0]:g} x {field_mm[1]:g} mm"
        )
    return np.tile(np.divide(window, centered.pixel_spacing_mm), (volume.n_slices, 1))
