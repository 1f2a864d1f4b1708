"""A mask of the cord that the user has, in place of what a network finds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_scgm.errors import InputError
from keras_scgm.localization import CordTrack
from keras_scgm.morphometry.inputs import check_same_grid
from keras_scgm.nifti import read_volume
from keras_scgm.slices import SliceGeometry, chunks
from keras_scgm.volume import Volume


@dataclass(frozen=True)
class GivenCord:
    """The cord of an image, on its grid.

    Args:
        volume: The mask.
        slices: (n,) indices of the slices with cord, from the inferior end, at least one.
        centers: (n, 2) centroids in native voxels (right-left, posterior-anterior).
        areas_mm2: (n,) areas.
    """

    volume: Volume
    slices: np.ndarray
    centers: np.ndarray
    areas_mm2: np.ndarray

    @classmethod
    def read(cls, path: Path, image: Volume, orientation: str | None) -> GivenCord:
        """Read a mask, and check that it fits.

        Args:
            path: NIfTI file of the mask.
            image: The image.
            orientation: Axis codes for a file whose header has no orientation.

        Raises:
            InputError: the file cannot be read, lies on another grid, is no mask, or is empty.
        """
        volume = read_volume(path, None, orientation)
        check_same_grid(image, volume)
        indices, centers, areas_mm2 = [], [], []
        for start, stop in chunks(volume.n_slices):
            values, n_replaced = volume.view_slices(start, stop)
            if n_replaced or values.min() < 0 or values.max() > 1:
                raise InputError(f"{path}: not a mask of the cord, which is 0 and 1; make one of it")
            for k, mask in enumerate(values > 0.5):
                if mask.any():
                    indices.append(start + k)
                    centers.append(np.argwhere(mask).mean(axis=0))
                    areas_mm2.append(np.count_nonzero(mask) * volume.voxel_area_mm2)
        if not indices:
            raise InputError(f"{path}: holds no cord; give a mask that is 1 in the cord")
        return cls(volume, np.array(indices), np.array(centers), np.array(areas_mm2))

    def masks(self, start: int, stop: int) -> np.ndarray:
        """Bool (slice, right-left, posterior-anterior) of slices [start, stop)."""
        return self.volume.view_slices(start, stop)[0] > 0.5

    def track(self, geometry: SliceGeometry) -> CordTrack:
        """Positions of the cord on the resampled grid of a geometry."""
        centers = self.centers * np.divide(geometry.native_spacing_mm, geometry.pixel_spacing_mm)
        return CordTrack(self.slices, centers, self.areas_mm2, len(self.slices))
