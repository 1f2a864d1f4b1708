"""Finds the cord in the field of view, so that the network's windows can be put around it.

The network itself is the detector: it is convolutional, so it takes a field of view of any size. It looks for the cord
or, if it does not know the cord, for gray matter. A few slices across the volume (probes) are enough, since the cord is
continuous.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.ndimage import gaussian_filter, maximum_filter

from keras_scgm.predict import Predict
from keras_scgm.slices import (
    CHUNK_SLICES,
    IntensityStatistics,
    SliceConfig,
    SliceGeometry,
    is_varied,
    measure_intensities,
    read_windows,
)
from keras_scgm.volume import Volume

PROBE_DISTANCE_MM = 20.0
MIN_PROBES, MAX_PROBES = 5, 33
# Gray matter and cord are 10 to 15 mm wide: a Gaussian of this width gathers all of it into one peak.
GRAY_MATTER_SIGMA_MM = 4.0
GAUSSIAN_TRUNCATE = 3.0
# The peaks of a symmetric cord are equal up to rounding errors, which must not choose between them.
EVIDENCE_DECIMALS = 4
# For gray matter and for the cord. The thinnest gray matter, at mid-thoracic levels, is about 4 mm2 in section, and the
# cord around it 40 mm2, of which the Gaussian gathers 33.
MIN_AREA_MM2 = (2.0, 16.0)
CANDIDATES = 3
# Penalty of a lateral step between neighbouring probes for gray matter and for the cord, mm2 of evidence per mm.
STEP_COST = (0.2, 1.0)
# Feature maps of the network at this size still fit in a few hundred MB; a multiple of any size divisor.
MAX_TILE = 640
# No less than the receptive field of the paper's network, 109 pixels.
TILE_OVERLAP = 112
SIZE_DIVISOR = 8
# Pixels that the search outside the middle may show the network, as a share of those in all windows, and what it
# may always: one slice of 144 x 144 mm.
SEARCH_SHARE = 0.55
MIN_SEARCH_PX = 576 * 576


@dataclass(frozen=True)
class CordTrack:
    """Positions of the cord in the probes.

    Args:
        slices: (n,) indices of the probed slices in which it was seen.
        centers: (n, 2) resampled pixel coordinates (right-left, posterior-anterior).
        areas_mm2: (n,) cord gathered around them, or gray matter if the network does not know the cord.
        n_probes: Probed slices that are not empty.
    """

    slices: np.ndarray
    centers: np.ndarray
    areas_mm2: np.ndarray
    n_probes: int

    @property
    def is_convincing(self) -> bool:
        return 2 * len(self.slices) >= self.n_probes > 0

    def centers_of_all(self, n_slices: int) -> np.ndarray:
        """(n_slices, 2): straight from probe to probe, and on past the first and the last."""
        if len(self.slices) == 1:
            return np.tile(self.centers, (n_slices, 1))
        wanted = np.arange(n_slices)
        before = np.clip(np.searchsorted(self.slices, wanted, side="right") - 1, 0, len(self.slices) - 2)
        steps = np.diff(self.centers, axis=0) / np.diff(self.slices)[:, np.newaxis]
        return self.centers[before] + steps[before] * (wanted - self.slices[before])[:, np.newaxis]


@dataclass(frozen=True)
class Windows:
    """The network's input windows of a volume.

    Args:
        geometry: Where the windows lie.
        statistics: Intensity statistics of all windows.
        probabilities: Slice -> (rows, columns, tissue), predictions already computed for these windows.
        cord: (slice, 2) pixels of the windows, where the cord is; None if it was not found.
    """

    geometry: SliceGeometry
    statistics: IntensityStatistics
    probabilities: Mapping[int, np.ndarray] = field(default_factory=dict)
    cord: np.ndarray | None = None

    @property
    def cord_steps(self) -> np.ndarray:
        """(slice,) pixels from the cord to the cord in a neighbouring slice, the larger of two; it must be found."""
        steps = np.linalg.norm(np.diff(self.cord + self.geometry.starts, axis=0), axis=1)
        return np.maximum(np.append(steps, 0), np.append(0, steps))

    @classmethod
    def of(cls, volume: Volume, geometry: SliceGeometry) -> Windows:
        return cls(geometry, measure_intensities(volume, geometry))

    def with_cord(self, track: CordTrack) -> Windows:
        """The same windows, and where a cord with at least one known position is in them."""
        return replace(self, cord=_centers(track, self.geometry) - self.geometry.starts)


def windows_on_cord(volume: Volume, config: SliceConfig, predict: Predict) -> Windows:
    """Windows that hold the cord.

    They stay in the middle of the field of view, as in the paper, while the cord lies in their inner half,
    and otherwise move onto the cord. Only if most probes show no cord in the middle, the rest of the field is
    searched, in as many slices as `SEARCH_SHARE` allows, and the windows around what was found there are tracked.

    Args:
        volume: The image.
        config: The network's slices.
        predict: The network.
    """
    middle = SliceGeometry.centered(volume, config)
    windows, track = _tracked(volume, middle, predict)
    if not track.is_convincing and max(middle.resampled_shape) > config.window_px:
        elsewhere = _search(volume, middle, predict)
        if len(elsewhere.slices):
            around, track_there = _tracked(volume, _around(elsewhere, middle), predict)
            if track_there.is_convincing:
                windows, track = around, track_there
            elif elsewhere.is_convincing and len(elsewhere.slices) > 1:
                windows, track = around, elsewhere
    if not track.is_convincing:
        return windows
    if not _in_inner_half(track, windows.geometry):
        windows, again = _tracked(volume, _around(track, middle), predict)
        track = again if again.is_convincing else track
    return windows.with_cord(track)


def fixed_windows(volume: Volume, geometry: SliceGeometry, predict: Predict) -> Windows:
    """Windows that stay where they are, and the cord in them.

    Args:
        volume: The image.
        geometry: Where the windows lie.
        predict: The network.
    """
    windows, track = _tracked(volume, geometry, predict)
    return windows.with_cord(track) if track.is_convincing else windows


def geometry_on_track(geometry: SliceGeometry, track: CordTrack) -> SliceGeometry:
    """Windows that hold a cord whose place is known; they stay where they are as in `windows_on_cord`.

    Args:
        geometry: Where the windows lie.
        track: Positions of the cord, at least one.
    """
    return geometry if _in_inner_half(track, geometry) else _around(track, geometry)


def _tracked(volume: Volume, geometry: SliceGeometry, predict: Predict) -> tuple[Windows, CordTrack]:
    """Windows, the predictions for the probes among them, and the cord in these."""
    windows = Windows.of(volume, geometry)
    maps = _look(volume, geometry, windows.statistics, _probes(volume), predict, CHUNK_SLICES)
    probabilities = {index: found for index, found in maps if found is not None}
    return replace(windows, probabilities=probabilities), track_cord(geometry, probabilities.items())


def _search(volume: Volume, middle: SliceGeometry, predict: Predict) -> CordTrack:
    """Search the whole field of view for the cord, in a few probes."""
    window_px = math.prod(middle.window_shape) * volume.n_slices
    budget_px = max(round(SEARCH_SHARE * window_px), MIN_SEARCH_PX)
    field = _field(middle, budget_px)
    probes = _probes(volume)
    count = min(max(budget_px // math.prod(field.window_shape), 1), len(probes))
    probes = probes[(2 * np.arange(count) + 1) * len(probes) // (2 * count)]
    statistics = measure_intensities(volume, field, probes)
    maps = _look(volume, field, statistics, probes, predict, 1)
    return track_cord(field, ((index, found) for index, found in maps if found is not None))


def _around(track: CordTrack, geometry: SliceGeometry) -> SliceGeometry:
    """Windows around the cord in every slice."""
    return geometry.recentered(_centers(track, geometry))


def _centers(track: CordTrack, geometry: SliceGeometry) -> np.ndarray:
    centers = track.centers_of_all(len(geometry.starts))
    return np.clip(centers, 0, np.subtract(geometry.resampled_shape, 1))


def track_cord(geometry: SliceGeometry, maps: Iterable[tuple[int, np.ndarray]]) -> CordTrack:
    """Follow the strongest continuous evidence of the cord from slice to slice.

    Args:
        geometry: The area seen in each slice.
        maps: Index of each probed slice, from the inferior end, and the probabilities in its window, (rows, columns,
            tissue), of which the last tissue counts.
    """
    probes, centers, areas_mm2 = [], [], []
    tissue = 0
    for index, probabilities in maps:
        tissue = probabilities.shape[-1] - 1
        inside = probabilities[..., tissue].copy()
        geometry.clear_past_field(inside[np.newaxis], index)
        peaks, areas = _peaks(inside, geometry.pixel_spacing_mm)
        probes.append(index)
        centers.append(peaks + geometry.starts[index])
        areas_mm2.append(areas)
    if not probes:
        return CordTrack(np.empty(0, int), np.empty((0, 2)), np.empty(0), 0)
    places, areas_of_all, slices = np.array(centers), np.array(areas_mm2), np.array(probes)
    chosen = _best_path(places * geometry.pixel_spacing_mm, areas_of_all, STEP_COST[tissue])
    rows = np.arange(len(probes))
    seen = areas_of_all[rows, chosen] >= MIN_AREA_MM2[tissue]
    return CordTrack(slices[seen], places[rows, chosen][seen], areas_of_all[rows, chosen][seen], len(probes))


def _look(
    volume: Volume,
    geometry: SliceGeometry,
    statistics: IntensityStatistics,
    probes: np.ndarray,
    predict: Predict,
    at_once: int,
) -> Iterator[tuple[int, np.ndarray | None]]:
    """Probabilities in the windows of the probed slices, None for empty windows."""
    for first in range(0, len(probes), at_once):
        indices = [int(index) for index in probes[first : first + at_once]]
        windows = np.concatenate(
            [read_windows(volume, geometry, statistics, index, index + 1) for index in indices]
        )
        shown = is_varied(windows)
        found = iter(_predict_in_tiles(windows[shown], predict) if shown.any() else ())
        yield from (
            (index, next(found) if seen else None) for index, seen in zip(indices, shown, strict=True)
        )


def _probes(volume: Volume) -> np.ndarray:
    wanted = math.ceil(volume.n_slices * volume.slice_spacing_mm / PROBE_DISTANCE_MM) + 1
    count = min(max(wanted, MIN_PROBES), MAX_PROBES, volume.n_slices)
    return np.unique(np.rint(np.linspace(0, volume.n_slices - 1, count + 2)[1:-1]).astype(int))


def _in_inner_half(track: CordTrack, geometry: SliceGeometry) -> bool:
    window = np.array(geometry.window_shape)
    offsets = track.centers - geometry.starts[track.slices] - (window - 1) / 2
    return bool(np.all(np.abs(offsets) <= window / 4))


def _field(geometry: SliceGeometry, max_px: int) -> SliceGeometry:
    """Windows of the whole field of view, or of as much in its middle as `max_px` pixels hold."""
    whole = np.array([-(-length // SIZE_DIVISOR) * SIZE_DIVISOR for length in geometry.resampled_shape])
    side = math.isqrt(max_px)
    shape = np.minimum(whole, np.maximum(side, max_px // np.minimum(whole[::-1], side)))
    shape -= shape % SIZE_DIVISOR
    starts = np.maximum(np.subtract(geometry.resampled_shape, shape), 0) // 2
    rows, columns = (int(length) for length in shape)
    return replace(geometry, window_shape=(rows, columns), starts=np.tile(starts, (len(geometry.starts), 1)))


def _predict_in_tiles(windows: np.ndarray, predict: Predict) -> np.ndarray:
    tiles = [(rows, columns) for rows in _tiles(windows.shape[1]) for columns in _tiles(windows.shape[2])]
    found = [predict(windows[:, rows, columns]) for rows, columns in tiles]
    if len(found) == 1:
        return found[0]
    probabilities = np.zeros((*windows.shape[:3], found[0].shape[-1]), np.float32)
    for (rows, columns), tile in zip(tiles, found, strict=True):
        np.maximum(probabilities[:, rows, columns], tile, out=probabilities[:, rows, columns])
    return probabilities


def _tiles(length: int) -> list[slice]:
    """Equal parts of at most `MAX_TILE` pixels that overlap."""
    if length <= MAX_TILE:
        return [slice(0, length)]
    count = math.ceil((length - TILE_OVERLAP) / (MAX_TILE - TILE_OVERLAP))
    size = math.ceil((length + (count - 1) * TILE_OVERLAP) / count / SIZE_DIVISOR) * SIZE_DIVISOR
    starts = np.rint(np.linspace(0, length - size, count)).astype(int)
    return [slice(start, start + size) for start in starts]


def _peaks(probabilities: np.ndarray, spacing_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """The strongest peaks of the smoothed map, and the area each gathers in mm2."""
    sigma = GRAY_MATTER_SIGMA_MM / spacing_mm
    smooth = gaussian_filter(
        probabilities.astype(np.float64), sigma, mode="constant", truncate=GAUSSIAN_TRUNCATE
    )
    evidence = np.round(smooth * (2 * np.pi * GRAY_MATTER_SIGMA_MM**2), EVIDENCE_DECIMALS)
    summits = evidence == maximum_filter(evidence, size=2 * round(2 * sigma) + 1)
    rows, columns = np.nonzero(summits & (evidence > 0))
    strongest = np.argsort(-evidence[rows, columns], kind="stable")[:CANDIDATES]
    centers, areas_mm2 = np.zeros((CANDIDATES, 2)), np.zeros(CANDIDATES)
    centers[: len(strongest)] = np.stack([rows, columns], axis=1)[strongest]
    areas_mm2[: len(strongest)] = evidence[rows, columns][strongest]
    return centers, areas_mm2


def _best_path(centers_mm: np.ndarray, areas_mm2: np.ndarray, step_cost: float) -> np.ndarray:
    """Index of one candidate per slice: the largest areas for the least sideways movement (Viterbi)."""
    n_slices = len(areas_mm2)
    score = areas_mm2[0]
    origin = np.zeros((n_slices, CANDIDATES), int)
    for row in range(1, n_slices):
        steps_mm = np.linalg.norm(centers_mm[row][:, np.newaxis] - centers_mm[row - 1], axis=-1)
        # A slice that shows nothing has no place, so moving to or from it costs nothing.
        known = (areas_mm2[row] > 0)[:, np.newaxis] & (areas_mm2[row - 1] > 0)
        arrivals = score - step_cost * steps_mm * known
        origin[row] = arrivals.argmax(axis=1)
        score = arrivals.max(axis=1) + areas_mm2[row]
    path = np.empty(n_slices, int)
    path[-1] = int(score.argmax())
    for row in range(n_slices - 1, 0, -1):
        path[row - 1] = origin[row, path[row]]
    return path
