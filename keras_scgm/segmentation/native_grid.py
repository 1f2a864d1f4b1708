"""Binarization and measurements on the native grid, slice by slice."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from keras_scgm.localization import Windows
from keras_scgm.quality.features import SliceFeatures, compare_with_neighbours, noise_level, slice_features
from keras_scgm.segmentation.config import SegmentationConfig
from keras_scgm.segmentation.window_prediction import WindowPrediction
from keras_scgm.slices import EDGE_MM, Region
from keras_scgm.uncertainty import Uncertainty
from keras_scgm.volume import Volume, Voxels, zeros


@dataclass(frozen=True)
class SliceMeasurement:
    """Gray matter of one axial slice on the image's grid.

    Args:
        n_voxels: Number of voxels in the mask.
        mask_probability: Sum of the probabilities over the mask.
        probability_sum: Sum of the probabilities over the slice.
        near_edge: Whether the mask comes within `EDGE_MM` of the border of the network input.
        removed_mm2: Gray matter that was removed because it lies away from the cord.
        area_std: Standard deviation of `probability_sum` over the passes of test-time augmentation; NaN without passes.
        uncertainty_sum: Sum of the uncertainty map; NaN without passes.
    """

    n_voxels: int = 0
    mask_probability: float = 0.0
    probability_sum: float = 0.0
    near_edge: bool = False
    removed_mm2: float = 0.0
    area_std: float = math.nan
    uncertainty_sum: float = math.nan


class NativeGrid:
    """Mask, probabilities and uncertainty of a volume, filled chunk by chunk.

    Args:
        volume: The image.
        windows: Input windows of the volume.
        config: Settings of the segmentation.
        threshold: Probability above which a voxel is gray matter.

    Attributes:
        mask: Uint8 on the stored grid.
        probabilities: Float32 on the stored grid, if wanted.
        uncertainty: Standard deviation of the probability, float32 on the stored grid, if wanted.
        measurements: One for each slice, from the inferior end.
        features: Quality features, one set for each slice, from the inferior end.
    """

    def __init__(
        self, volume: Volume, windows: Windows, config: SegmentationConfig, threshold: float
    ) -> None:
        self._volume, self._windows, self._threshold = volume, windows, threshold
        self._binarizes_windows = config.binarize == "paper"
        shape = volume.voxels.shape
        self.mask: Voxels = zeros(np.dtype(np.uint8), shape)
        self.probabilities = zeros(np.dtype(np.float32), shape) if config.keep_probabilities else None
        self.uncertainty = zeros(np.dtype(np.float32), shape) if config.uncertainty_passes else None
        self.measurements = [SliceMeasurement()] * volume.n_slices
        self.features = [SliceFeatures(area_mm2=0.0)] * volume.n_slices

    def add(
        self,
        start: int,
        native_slices: np.ndarray,
        slices: np.ndarray,
        prediction: WindowPrediction,
        uncertainty: Uncertainty | None,
    ) -> None:
        """Resample predictions to the native grid, and measure them.

        Args:
            start: Index of the first slice.
            native_slices: (slice, right-left, posterior-anterior) intensities.
            slices: Z-scored windows, float32 (slice, rows, columns, 1).
            prediction: Probabilities in the windows.
            uncertainty: Variation over the passes, if there were any.
        """
        volume, windows = self._volume, self._windows
        geometry, spacing_mm = windows.geometry, windows.geometry.pixel_spacing_mm
        mask_view = volume.axial_view(self.mask)
        probability_view = None if self.probabilities is None else volume.axial_view(self.probabilities)
        uncertainty_view = None if self.uncertainty is None else volume.axial_view(self.uncertainty)
        for k, (mask, region, native) in enumerate(self._binarized(prediction.probabilities, start)):
            index = start + k
            box = _extent(mask)
            gray_matter, place = mask[box], _shifted(box, region)
            mask_view[(*place, index)] = gray_matter
            if probability_view is not None:
                probability_view[(*region, index)] = native
            area_std = uncertainty_sum = math.nan
            if uncertainty is not None and uncertainty_view is not None:
                uncertainty_view[..., index] = uncertainty.std[k]
                area_std, uncertainty_sum = float(uncertainty.area_std[k]), float(uncertainty.std[k].sum())
            measured = SliceMeasurement(
                n_voxels=int(np.count_nonzero(gray_matter)),
                mask_probability=float(native[box][gray_matter].sum()),
                probability_sum=float(native.sum()),
                near_edge=self._is_near_edge(place, geometry.covered(index)),
                removed_mm2=float(prediction.n_removed[k] * spacing_mm**2),
                area_std=area_std,
                uncertainty_sum=uncertainty_sum,
            )
            self.measurements[index] = measured
            if measured.n_voxels:
                self.features[index] = slice_features(
                    slices[k, ..., 0],
                    prediction.probabilities[k],
                    spacing_mm,
                    threshold=self._threshold,
                    origin=geometry.starts[index],
                    unit=windows.statistics.std,
                    near_edge=measured.near_edge,
                    noise=noise_level(native_slices[k], place, volume.in_plane_spacing_mm),
                    voxel_mm=math.sqrt(volume.voxel_area_mm2),
                    removed_mm2=measured.removed_mm2,
                )
        compare_with_neighbours(self.features, start, start + len(slices), spacing_mm)

    def _binarized(
        self, probabilities: np.ndarray, start: int
    ) -> Iterator[tuple[np.ndarray, Region, np.ndarray]]:
        """Native region of each slice that holds its gray matter, with the mask and the probabilities there."""
        geometry = self._windows.geometry
        native = geometry.to_native(probabilities, start)
        if not self._binarizes_windows:
            yield from ((values > self._threshold, region, values) for region, values in native)
            return
        cut = geometry.to_native((probabilities > self._threshold).astype(np.float32), start)
        for (region, values), (part, share) in zip(native, cut, strict=True):
            yield _placed(part, share, region) > 0.5, region, values

    def _is_near_edge(self, place: Region, covered: Region) -> bool:
        for part, seen, spacing_mm in zip(place, covered, self._volume.in_plane_spacing_mm, strict=True):
            margin = max(1, round(EDGE_MM / spacing_mm))
            if (
                part.start < part.stop
                and not seen.start + margin <= part.start < part.stop <= seen.stop - margin
            ):
                return True
        return False


def _placed(part: Region, values: np.ndarray, region: Region) -> np.ndarray:
    """Values of a part of a region, in the whole region with zeros around them."""
    placed = np.zeros([along.stop - along.start for along in region])
    rows, columns = (
        slice(inner.start - outer.start, inner.stop - outer.start)
        for inner, outer in zip(part, region, strict=True)
    )
    placed[rows, columns] = values
    return placed


def _extent(mask: np.ndarray) -> Region:
    """Bounding box of a mask; of size 0 if the mask is empty."""
    box = []
    for axis in (0, 1):
        marked = np.flatnonzero(mask.any(axis=1 - axis))
        box.append(slice(int(marked[0]), int(marked[-1]) + 1) if len(marked) else slice(0, 0))
    return box[0], box[1]


def _shifted(box: Region, region: Region) -> Region:
    """Region of the slice that a box inside a region covers."""
    rows, columns = (
        slice(outer.start + inner.start, outer.start + inner.stop)
        for inner, outer in zip(box, region, strict=True)
    )
    return rows, columns
