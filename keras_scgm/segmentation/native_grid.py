"""Binarization and measurements on the native grid, slice by slice."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from keras_scgm.localization import Windows
from keras_scgm.quality.cord_features import with_cord
from keras_scgm.quality.features import SliceFeatures, compare_with_neighbours, noise_level, slice_features
from keras_scgm.segmentation.config import SegmentationConfig
from keras_scgm.segmentation.window_prediction import WindowPrediction
from keras_scgm.slices import EDGE_MM, Region
from keras_scgm.uncertainty import Uncertainty
from keras_scgm.volume import Volume, Voxels, bounding_box, zeros


@dataclass(frozen=True)
class Chunk:
    """Consecutive slices of a volume, as they were read.

    Args:
        start: Index of the first slice, from the inferior end.
        native: (slice, right-left, posterior-anterior) intensities.
        windows: Z-scored windows, float32 (slice, rows, columns, 1).
        cord: Bool (slice, right-left, posterior-anterior), if the user gave the cord.
    """

    start: int
    native: np.ndarray
    windows: np.ndarray
    cord: np.ndarray | None

    def of(self, part: slice) -> Chunk:
        """Some of the slices."""
        cord = None if self.cord is None else self.cord[part]
        return Chunk(self.start + part.start, self.native[part], self.windows[part], cord)


@dataclass(frozen=True)
class SliceMeasurement:
    """Gray matter and cord of one axial slice on the image's grid.

    Args:
        n_voxels: Number of voxels in the mask of the gray matter.
        n_cord_voxels: Number of voxels in the mask of the cord, 0 without one.
        mask_probability: Sum of the probabilities over the mask.
        probability_sum: Sum of the probabilities over the slice.
        near_edge: Whether the mask comes within `EDGE_MM` of the border of the network input, or of rows or columns of
            one intensity at that border.
        removed_mm2: Gray matter that was removed because it lies away from the cord.
        area_std: Standard deviation of `probability_sum` over the passes of test-time augmentation; NaN without passes.
        uncertainty_sum: Sum of the uncertainty map; NaN without passes.
    """

    n_voxels: int = 0
    n_cord_voxels: int = 0
    mask_probability: float = 0.0
    probability_sum: float = 0.0
    near_edge: bool = False
    removed_mm2: float = 0.0
    area_std: float = math.nan
    uncertainty_sum: float = math.nan


@dataclass(frozen=True)
class _Sampled:
    """A tissue in one slice on the image's grid.

    Args:
        region: Native region that holds it.
        probabilities: Float64, in the region.
        mask: Bool, in the region.
    """

    region: Region
    probabilities: np.ndarray
    mask: np.ndarray

    @cached_property
    def place(self) -> Region:
        """Native region that the mask covers; of size 0 if it is empty."""
        rows, columns = (
            slice(outer.start + inner.start, outer.start + inner.stop)
            for inner, outer in zip(bounding_box(self.mask), self.region, strict=True)
        )
        return rows, columns

    def within(self, cord: _Sampled) -> _Sampled:
        """Gray matter in the region of the cord, and nowhere outside the cord."""
        probabilities, mask = (
            _placed(self.region, values, cord.region) for values in (self.probabilities, self.mask)
        )
        return _Sampled(cord.region, np.minimum(probabilities, cord.probabilities), mask & cord.mask)


class NativeGrid:
    """Masks, probabilities and uncertainty of a volume, filled chunk by chunk.

    Args:
        volume: The image.
        windows: Input windows of the volume.
        config: Settings of the segmentation.
        thresholds: Probability above which a voxel is of a tissue, for each tissue of the network.
        has_cord: Whether the cord is segmented, or given by the user.

    Attributes:
        mask: Uint8 on the stored grid, gray matter.
        cord: Uint8 on the stored grid, if there is one.
        probabilities: Of gray matter, float32 on the stored grid, if wanted.
        cord_probabilities: Float32 on the stored grid, if wanted and if there is a cord.
        uncertainty: Standard deviation of the probability of gray matter, float32 on the stored grid, if wanted.
        measurements: One for each slice, from the inferior end.
        features: Quality features, one set for each slice, from the inferior end.
    """

    def __init__(
        self,
        volume: Volume,
        windows: Windows,
        config: SegmentationConfig,
        thresholds: Sequence[float],
        has_cord: bool,
    ) -> None:
        self._volume, self._windows, self._thresholds = volume, windows, thresholds
        self._binarizes_windows = config.binarize == "paper"

        def filled_if(is_wanted: bool, dtype: type) -> Voxels | None:
            return zeros(np.dtype(dtype), volume.voxels.shape) if is_wanted else None

        self.mask: Voxels = zeros(np.dtype(np.uint8), volume.voxels.shape)
        self.cord = filled_if(has_cord, np.uint8)
        self.probabilities = filled_if(config.keep_probabilities, np.float32)
        self.cord_probabilities = filled_if(config.keep_probabilities and has_cord, np.float32)
        self.uncertainty = filled_if(config.uncertainty_passes > 0, np.float32)
        self.measurements = [SliceMeasurement()] * volume.n_slices
        self._knows_cord = len(thresholds) > 1
        nothing = SliceFeatures(area_mm2=0.0, cord_area_mm2=0.0 if self._knows_cord else math.nan)
        self.features = [nothing] * volume.n_slices

    def add(self, chunk: Chunk, prediction: WindowPrediction, uncertainty: Uncertainty | None) -> None:
        """Resample the predictions for a chunk to the native grid, store and measure them.

        Args:
            chunk: The slices.
            prediction: Probabilities in their windows.
            uncertainty: Variation over the passes, if there were any.
        """
        geometry = self._windows.geometry
        spacing_mm = geometry.pixel_spacing_mm
        for k, (found, cord) in enumerate(self._sampled(prediction.probabilities, chunk.start, chunk.cord)):
            index = chunk.start + k
            std = None if uncertainty is None else uncertainty.std[k]
            self._store(index, found, cord, std)
            seen = _seen(chunk.native[k], geometry.covered(index))
            measured = SliceMeasurement(
                n_voxels=int(np.count_nonzero(found.mask)),
                n_cord_voxels=0 if cord is None else int(np.count_nonzero(cord.mask)),
                mask_probability=float(found.probabilities[found.mask].sum()),
                probability_sum=float(found.probabilities.sum()),
                near_edge=self._is_near_edge(found.place, seen),
                removed_mm2=float(prediction.n_removed[k] * spacing_mm**2),
                area_std=math.nan if uncertainty is None else float(uncertainty.area_std[k]),
                uncertainty_sum=math.nan if std is None else float(std.sum()),
            )
            self.measurements[index] = measured
            window = prediction.probabilities[k]
            if measured.n_voxels:
                noise = noise_level(chunk.native[k], found.place, self._volume.in_plane_spacing_mm)
                self.features[index] = self._features(
                    index, chunk.windows[k, ..., 0], window, measured, noise
                )
            if self._knows_cord and cord is not None and measured.n_cord_voxels:
                self.features[index] = with_cord(
                    self.features[index],
                    window[..., 1],
                    spacing_mm,
                    threshold=self._thresholds[1],
                    origin=geometry.starts[index],
                    near_edge=self._is_near_edge(cord.place, seen),
                )
        compare_with_neighbours(self.features, chunk.start, chunk.start + len(chunk.native), spacing_mm)

    def _store(self, index: int, found: _Sampled, cord: _Sampled | None, std: np.ndarray | None) -> None:
        """Write a slice into the arrays that are wanted."""
        stored: list[tuple[Voxels | None, Region, np.ndarray]] = [
            (self.mask, found.region, found.mask),
            (self.probabilities, found.region, found.probabilities),
        ]
        if cord is not None:
            stored += [
                (self.cord, cord.region, cord.mask),
                (self.cord_probabilities, cord.region, cord.probabilities),
            ]
        if std is not None:
            stored.append((self.uncertainty, np.s_[:, :], std))
        for voxels, region, values in stored:
            if voxels is not None:
                self._volume.axial_view(voxels)[(*region, index)] = values

    def _features(
        self,
        index: int,
        window: np.ndarray,
        probabilities: np.ndarray,
        measured: SliceMeasurement,
        noise: float,
    ) -> SliceFeatures:
        """Quality features of the gray matter in a slice, from the z-scored window and the probabilities in it."""
        windows = self._windows
        return slice_features(
            window,
            probabilities[..., 0],
            windows.geometry.pixel_spacing_mm,
            threshold=self._thresholds[0],
            origin=windows.geometry.starts[index],
            unit=windows.statistics.std,
            near_edge=measured.near_edge,
            noise=noise,
            voxel_mm=math.sqrt(self._volume.voxel_area_mm2),
            removed_mm2=measured.removed_mm2,
            within=probabilities[..., 1] > self._thresholds[1] if self._knows_cord else None,
        )

    def _sampled(
        self, probabilities: np.ndarray, start: int, given_cord: np.ndarray | None
    ) -> Iterator[tuple[_Sampled, _Sampled | None]]:
        """Gray matter and cord in each slice, both in the region of the cord; the cord is None if there is none."""
        tissues = [
            self._tissue(probabilities[..., tissue], threshold, start)
            for tissue, threshold in enumerate(self._thresholds)
        ]
        cords: Iterable[_Sampled | None] = itertools.repeat(None)
        if given_cord is not None:
            cords = map(_given, given_cord)
        elif len(tissues) > 1:
            cords = tissues[1]
        for found, cord in zip(tissues[0], cords, strict=False):
            yield (found if cord is None else found.within(cord)), cord

    def _tissue(self, probabilities: np.ndarray, threshold: float, start: int) -> Iterator[_Sampled]:
        geometry = self._windows.geometry
        native = geometry.to_native(probabilities, start)
        if not self._binarizes_windows:
            yield from (_Sampled(region, values, values > threshold) for region, values in native)
            return
        cut = geometry.to_native((probabilities > threshold).astype(np.float32), start)
        for (region, values), (part, share) in zip(native, cut, strict=True):
            yield _Sampled(region, values, _placed(part, share, region) > 0.5)

    def _is_near_edge(self, place: Region, seen: Region) -> bool:
        for part, along, spacing_mm in zip(place, seen, self._volume.in_plane_spacing_mm, strict=True):
            margin = max(1, round(EDGE_MM / spacing_mm))
            if (
                part.start < part.stop
                and not along.start + margin <= part.start < part.stop <= along.stop - margin
            ):
                return True
        return False


def _seen(intensities: np.ndarray, covered: Region) -> Region:
    """A region without rows and columns of one intensity at its borders, where the image was cut and filled."""
    part, seen = intensities[covered], []
    for axis in (0, 1):
        varied = np.flatnonzero(np.ptp(part, axis=1 - axis)) if part.size else np.empty(0)
        first, last = (varied[0], varied[-1]) if len(varied) else (part.shape[axis], -1)
        seen.append(slice(covered[axis].start + int(first), covered[axis].start + int(last) + 1))
    return seen[0], seen[1]


def _given(mask: np.ndarray) -> _Sampled:
    rows, columns = mask.shape
    return _Sampled((slice(0, rows), slice(0, columns)), mask.astype(float), mask)


def _placed(part: Region, values: np.ndarray, region: Region) -> np.ndarray:
    """Values of a part of a region, in the whole region with zeros around them."""
    placed = np.zeros([along.stop - along.start for along in region], values.dtype)
    rows, columns = (
        slice(inner.start - outer.start, inner.stop - outer.start)
        for inner, outer in zip(part, region, strict=True)
    )
    placed[rows, columns] = values
    return placed
