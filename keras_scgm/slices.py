"""Resampling of a volume into the network's windows and back, and the z-score (Perone et al. 2018, Figure 4).

Training, inference, export and evaluation share these transforms.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from keras_scgm import checks
from keras_scgm.json_config import JsonConfig
from keras_scgm.volume import Volume

CHUNK_SLICES = 8
"""Slices read at a time, which bounds memory whatever their number."""

READERS = 2
"""Chunks that are measured at the same time."""

ROUNDING_TOLERANCE = 1e-6
"""Of a pixel. Centres often lie exactly between two pixels, where rounding errors must not choose."""

LEAST_RANGE = 1e-100
"""Range of intensities below which a window is constant: squares of smaller numbers cannot be told from 0."""

EMPTY_RANGE = 1e-5
"""Range of a window's values, in standard deviations of the volume, below which the window is empty."""

Region = tuple[slice, slice]
"""Part of a slice, (right-left, posterior-anterior)."""

EDGE_MM = 2.0
"""Gray matter this close to the end of what the network saw may be cut off: white matter surrounds it."""


@dataclass(frozen=True)
class SliceConfig(JsonConfig):
    """Slices that the network expects (paper 3.4.1).

    Args:
        spacing_mm: Pixel spacing in both directions, mm.
        window_px: Height and width of the window in pixels.

    Raises:
        InputError: a number that is not positive.
    """

    spacing_mm: float = 0.25
    window_px: int = 200

    def __post_init__(self) -> None:
        checks.check_fields(self, spacing_mm=checks.number(above=0), window_px=checks.integer(1))


@dataclass(frozen=True)
class SliceGeometry:
    """Positions of the network's windows on the axial slices of a volume.

    The resampled grid keeps the centre of the first canonical voxel, as the Spinal Cord Toolbox does; its
    pixel t is at native coordinate t * pixel_spacing_mm / native_spacing_mm. A window that extends past the
    field of view holds its reflection.

    Args:
        native_shape: Voxels of an axial slice (right-left, posterior-anterior).
        native_spacing_mm: Voxel spacing in the same order, mm.
        pixel_spacing_mm: Pixel spacing of the resampled grid, mm.
        window_shape: Pixels of the window in the same order.
        starts: (slice, 2), first resampled pixel of each slice's window; may be negative, and between two
            pixels after `magnified`.
    """

    native_shape: tuple[int, int]
    native_spacing_mm: tuple[float, float]
    pixel_spacing_mm: float
    window_shape: tuple[int, int]
    starts: np.ndarray

    @classmethod
    def centered(cls, volume: Volume, config: SliceConfig) -> SliceGeometry:
        """Every window in the middle of the field of view (paper 3.4.1)."""
        geometry = cls(
            native_shape=volume.in_plane_shape,
            native_spacing_mm=volume.in_plane_spacing_mm,
            pixel_spacing_mm=config.spacing_mm,
            window_shape=(config.window_px, config.window_px),
            starts=np.zeros((volume.n_slices, 2), dtype=int),
        )
        middle = [(length - config.window_px) // 2 for length in geometry.resampled_shape]
        return replace(geometry, starts=geometry.starts + np.array(middle))

    def recentered(self, centers: np.ndarray) -> SliceGeometry:
        """Windows of the same size around given points.

        Args:
            centers: (slice, 2) resampled pixel coordinates (right-left, posterior-anterior).
        """
        first = centers - (np.array(self.window_shape) - 1) / 2
        starts = np.rint(first + ROUNDING_TOLERANCE).astype(int)
        return replace(self, starts=starts)

    def magnified(self, factor: float, shift_px: tuple[float, float] = (0.0, 0.0)) -> SliceGeometry:
        """Windows of the same number of pixels with a smaller pixel spacing, moved by a part of a pixel or more.

        Args:
            factor: Magnification about the middle of each window.
            shift_px: Shift of the windows (right-left, posterior-anterior) in pixels before magnification.
        """
        middle = (np.array(self.window_shape) - 1) / 2
        centers = self.starts + middle + shift_px
        spacing_mm = self.pixel_spacing_mm / factor
        return replace(self, pixel_spacing_mm=spacing_mm, starts=centers * factor - middle)

    @property
    def resampled_shape(self) -> tuple[int, int]:
        """Pixels of the whole field of view on the resampled grid."""
        rows, columns = (
            max(1, round(n * native_mm / self.pixel_spacing_mm))
            for n, native_mm in zip(self.native_shape, self.native_spacing_mm, strict=True)
        )
        return rows, columns

    def to_windows(self, slices: np.ndarray, first: int) -> np.ndarray:
        """Resample native slices into their windows, bilinearly.

        Args:
            slices: (slice, right-left, posterior-anterior) on the native grid.
            first: index of the first of them in the volume, from the inferior end.

        Returns:
            float64 array (slice, *window_shape).
        """
        windows = np.empty((len(slices), *self.window_shape))
        for window, part, start in zip(windows, slices, self.starts[first:], strict=False):
            rows, columns = (self._native_coordinates(axis, start[axis]) for axis in (0, 1))
            # Files hold an axial slice column by column.
            part = _interpolate_rows(part[_reach(rows, len(part))].T, columns)
            window[:] = _interpolate_rows(np.ascontiguousarray(part.T), rows - int(rows.min()))
        return windows

    def to_native(self, windows: np.ndarray, first: int) -> Iterator[tuple[Region, np.ndarray]]:
        """Sample windows at the native voxel centres, bilinearly: the inverse of `to_windows`.

        Args:
            windows: (slice, *window_shape).
            first: index of the first of them in the volume.

        Yields:
            For each window a native region outside which it gives zero, and its float64 values there.
        """
        for part, start in zip(windows, self.starts[first:], strict=False):
            occupied = part != 0
            regions, boxes, coordinates = [], [], []
            for axis in (0, 1):
                covered, pixels = self._window_coordinates(axis, start[axis])
                places = np.flatnonzero(occupied.any(axis=1 - axis))
                low, high = (int(places[0]), int(places[-1])) if len(places) else (0, -1)
                # Bilinear interpolation reaches one pixel further.
                near = np.flatnonzero((pixels > low - 1) & (pixels < high + 1))
                begin, end = (int(near[0]), int(near[-1]) + 1) if len(near) else (0, 0)
                regions.append(slice(covered.start + begin, covered.start + end))
                boxes.append(slice(max(low - 1, 0), high + 2))
                coordinates.append(pixels[begin:end] - max(low - 1, 0))
            values = _interpolate_rows(part[boxes[0], boxes[1]], coordinates[0])
            values = _interpolate_rows(np.ascontiguousarray(values.T), coordinates[1]).T
            yield (regions[0], regions[1]), values

    def clear_past_field(self, windows: np.ndarray, first: int) -> None:
        """Set windows to 0 past the field of view, where they show its mirror image; `windows` changes in place.

        Args:
            windows: (slice, *window_shape), and further axes.
            first: index of the first of them in the volume.
        """
        for window, start in zip(windows, self.starts[first:], strict=False):
            for along, first_pixel, length in zip(
                (window, window.swapaxes(0, 1)), start, self.resampled_shape, strict=True
            ):
                along[: max(math.ceil(-first_pixel), 0)] = 0
                along[max(math.floor(length - 1 - first_pixel) + 1, 0) :] = 0

    def covered(self, index: int) -> Region:
        """Native region that the window of a slice covers."""
        rows, columns = (self._window_coordinates(axis, self.starts[index][axis])[0] for axis in (0, 1))
        return rows, columns

    def _step(self, axis: int) -> float:
        return self.pixel_spacing_mm / self.native_spacing_mm[axis]

    def _native_coordinates(self, axis: int, start: int) -> np.ndarray:
        pixels = reflected(start + np.arange(self.window_shape[axis]), self.resampled_shape[axis])
        return np.clip(pixels * self._step(axis), 0, self.native_shape[axis] - 1)

    def _window_coordinates(self, axis: int, start: int) -> tuple[slice, np.ndarray]:
        pixels = np.arange(self.native_shape[axis]) / self._step(axis) - start
        last = self.window_shape[axis] - 1
        covered = np.flatnonzero((pixels >= -0.5) & (pixels <= last + 0.5))
        if not len(covered):
            return slice(0, 0), np.empty(0)
        # Pixels past the field of view hold its mirror image, which must not leak into the last voxel.
        pixels = np.clip(pixels[covered], max(0, -start), min(last, self.resampled_shape[axis] - 1 - start))
        return slice(int(covered[0]), int(covered[-1]) + 1), pixels


@dataclass(frozen=True)
class IntensityStatistics:
    """Mean and standard deviation of a volume's windows, for the z-score of paper 3.4.1.

    Args:
        mean: Mean of all windows that are not constant: empty slices, which some scanners and tools add, do not
            change the normalization of the others.
        std: Standard deviation, 0 for a constant volume.
        n_not_finite: Number of NaN or infinite voxels, which were replaced (see `Volume.read_slices`).
    """

    mean: float
    std: float
    n_not_finite: int

    @property
    def is_constant(self) -> bool:
        return self.std <= 1e-12 * abs(self.mean)

    def normalize(self, windows: np.ndarray) -> np.ndarray:
        """Z-scored float32 copy; zeros for a constant volume, which holds nothing to see."""
        if self.is_constant:
            return np.zeros(windows.shape, np.float32)
        return ((windows - self.mean) / self.std).astype(np.float32)


def measure_intensities(
    volume: Volume, geometry: SliceGeometry, indices: np.ndarray | None = None
) -> IntensityStatistics:
    """One pass over the windows of a volume, a chunk at a time.

    Args:
        volume: The image.
        geometry: Its windows.
        indices: Slices to use, from the inferior end; all by default.
    """

    def measure(run: tuple[int, int]) -> tuple[int, float, float, int]:
        slices, n_replaced = volume.view_slices(*run)
        windows = geometry.to_windows(slices, run[0])
        varied = _is_not_constant(windows)
        if not varied.any():
            return 0, 0.0, 0.0, n_replaced
        if not varied.all():
            windows = windows[varied]
        mean = float(windows.mean())
        windows -= mean
        windows *= windows
        return windows.size, mean, float(windows.sum()), n_replaced

    count, mean, squares, n_not_finite = 0, 0.0, 0.0, 0
    with ThreadPoolExecutor(READERS) as pool:
        # Chan's update: exact for intensities with a large offset, where sum(x^2) - mean^2 is not.
        for size, chunk_mean, chunk_squares, n_replaced in pool.map(
            measure, _spans(volume.n_slices, indices)
        ):
            n_not_finite += n_replaced
            if not size:
                continue
            shift = chunk_mean - mean
            total = count + size
            squares += chunk_squares + shift**2 * count * size / total
            mean += shift * size / total
            count = total
    return IntensityStatistics(mean, float(np.sqrt(squares / max(count, 1))), n_not_finite)


def is_varied(windows: np.ndarray) -> np.ndarray:
    """Which z-scored windows, float32 (slice, rows, columns, 1), hold something: bool (slice,)."""
    return np.ptp(windows, axis=(1, 2, 3)) > EMPTY_RANGE


def _is_not_constant(windows: np.ndarray) -> np.ndarray:
    low, high = windows.min(axis=(1, 2)), windows.max(axis=(1, 2))
    return high - low > np.maximum(1e-12 * np.maximum(np.abs(low), np.abs(high)), LEAST_RANGE)


def read_windows(
    volume: Volume, geometry: SliceGeometry, statistics: IntensityStatistics, start: int, stop: int
) -> np.ndarray:
    """The network's input for slices [start, stop): float32 (slice, *window_shape, 1), z-scored."""
    slices, _ = volume.view_slices(start, stop)
    return statistics.normalize(geometry.to_windows(slices, start))[..., np.newaxis]


def chunks(n_slices: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of consecutive chunks of at most `CHUNK_SLICES` slices."""
    for start in range(0, n_slices, CHUNK_SLICES):
        yield start, min(start + CHUNK_SLICES, n_slices)


def evenly_spaced(length: int, most: int) -> np.ndarray:
    """At most so many of the indices below a length, evenly spaced from the first to the last."""
    return np.linspace(0, length - 1, min(most, length)).round().astype(int)


def _spans(n_slices: int, indices: np.ndarray | None) -> Iterator[tuple[int, int]]:
    if indices is None:
        yield from chunks(n_slices)
    else:
        yield from ((int(index), int(index) + 1) for index in indices)


def reflected(coordinates: Any, length: Any, library: Any = np) -> Any:
    """Coordinates reflected into [0, length - 1] about the first and the last pixel.

    Args:
        coordinates: Array or tensor.
        length: Number of pixels, a scalar of the same type.
        library: Library of the array: `numpy`, `tensorflow` or `keras.ops`.

    >>> reflected(np.arange(-2, 6), 4)
    array([2, 1, 0, 1, 2, 3, 2, 1])
    """
    period = library.maximum(2 * (length - 1), 1)
    coordinates = abs(coordinates) % period
    return library.minimum(library.minimum(coordinates, period - coordinates), length - 1)


def _reach(coordinates: np.ndarray, length: int) -> slice:
    """Samples that an interpolation at these coordinates reads."""
    return slice(int(coordinates.min()), min(int(coordinates.max()) + 2, length))


def _interpolate_rows(array: np.ndarray, coordinates: np.ndarray) -> np.ndarray:
    low = np.minimum(coordinates.astype(int), max(len(array) - 2, 0))
    high = np.minimum(low + 1, len(array) - 1)
    weight = (coordinates - low)[:, np.newaxis]
    lower, upper = (array[near].astype(np.float64, copy=False) for near in (low, high))
    lower *= 1 - weight
    upper *= weight
    lower += upper
    return lower
