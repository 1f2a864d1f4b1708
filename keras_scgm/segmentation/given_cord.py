"""A mask of the cord that the user has, in place of what a network finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_scgm.errors import InputError
from keras_scgm.grids import check_same_grid
from keras_scgm.localization import CordTrack
from keras_scgm.morphometry import TissueAreas
from keras_scgm.morphometry.tissue_areas import Slices
from keras_scgm.nifti import read_mask
from keras_scgm.quality.verdicts import cord_doubts, rare_gray_matter
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
    def read(cls, path: Path, image: Volume) -> GivenCord:
        """Read a mask, and check that it fits.

        Args:
            path: NIfTI file of the mask.
            image: The image; a mask whose header has no orientation is stored as it is.

        Raises:
            InputError: the file cannot be read, lies on another grid, is no mask, or is empty.
        """
        volume = read_mask(path, image.affine)
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

    def doubts(self, gray_matter: Slices, tissues: Sequence[TissueAreas]) -> list[str]:
        """Measurements outside the limits of anatomy, one line each.

        Args:
            gray_matter: Mask found in the cord.
            tissues: Measurements of every slice, from the inferior end.
        """
        rows = []
        for k, center, area_mm2 in zip(self.slices.tolist(), self.centers, self.areas_mm2, strict=True):
            pixels, one = np.argwhere(gray_matter(k, k + 1)[0]), tissues[k]
            if len(pixels):
                apart_mm = np.linalg.norm((pixels.mean(axis=0) - center) * self.volume.in_plane_spacing_mm)
                offset = apart_mm / np.sqrt(area_mm2 / np.pi)
                rows.append((area_mm2, one.cord_aspect, one.gm_cord_ratio, offset))
        if not rows:
            return []
        return cord_doubts(*np.median(rows, axis=0)) + rare_gray_matter(len(rows), len(self.slices))

    def track(self, geometry: SliceGeometry) -> CordTrack:
        """Positions of the cord on the resampled grid of a geometry."""
        centers = self.centers * np.divide(geometry.native_spacing_mm, geometry.pixel_spacing_mm)
        return CordTrack(self.slices, centers, self.areas_mm2, len(self.slices))
