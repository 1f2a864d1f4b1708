"""A mask for pictures, and where its colours are in them."""

from collections.abc import Iterable

import numpy as np
from PIL import Image, ImageColor

VOXEL_MM = 0.5
TILE = 304
"""Side of the section of a slice, in pixels."""


def bar(n_slices: int, empty: Iterable[int] = (), shape: tuple[int, int] = (100, 90)) -> np.ndarray:
    """A mask with 20 x 10 voxels in every slice but the empty ones."""
    mask = np.zeros((*shape, n_slices), bool)
    mask[40:60, 40:50] = True
    mask[..., list(empty)] = False
    return mask


def pixels_of(picture: Image.Image | np.ndarray, colour: str) -> np.ndarray:
    """Where a picture has a colour."""
    return np.abs(np.asarray(picture, int) - ImageColor.getrgb(colour)).max(axis=-1) < 40
