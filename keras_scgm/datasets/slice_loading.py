"""Loads the labelled slices of annotated volumes as the network sees them, through the transforms of inference."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from nibabel.orientations import io_orientation

from keras_scgm import checks
from keras_scgm.datasets.annotated_volume import AnnotatedVolume, annotated_volumes, contiguous_chunks
from keras_scgm.datasets.header_checks import Notes, check_headers, check_volumes, in_lines
from keras_scgm.datasets.labelled_slices import statistics_slices
from keras_scgm.datasets.raters import check_mode, draw_raters, fuse, smooth_contour
from keras_scgm.errors import InputError
from keras_scgm.nifti import read_layout, read_volume
from keras_scgm.slices import (
    EDGE_MM,
    IntensityStatistics,
    SliceConfig,
    SliceGeometry,
    measure_intensities,
    read_windows,
)
from keras_scgm.volume import Volume, to_nanometre

MAX_DIFFERENCE = 1e-3
"""Of a pixel spacing, below which two are the same: 0.2 pixels over a window of 200."""


@dataclass(frozen=True, eq=False)
class AnnotatedSlices:
    """Samples for training or validation, all in memory.

    Args:
        images: Slices (n, size, size, 1), float32, z-scored.
        masks: Fraction of gray matter (n, size, size, 1), float32, from 0 to 1.
        volume_indices: Index (n,) into the volumes that were loaded.
        rater_indices: Index (n,) into the volume's masks; -1 where they were fused.
        slice_indices: Index (n,) of the slice as stored in the file.
        raters: Use of the raters' masks, one of `RATER_MODES`.
        seed: Seed of the choice of raters.
        spacing_mm: Pixel spacing in both directions, mm.
        contour_smoothing_mm: Width of the label smoothing on the contours, mm.
        warnings: Possible problems of the data, one line each.
        labels_sha256: `labels_sha256` of the volumes; empty if the slices are of no files.
    """

    images: np.ndarray
    masks: np.ndarray
    volume_indices: np.ndarray
    rater_indices: np.ndarray
    slice_indices: np.ndarray
    raters: str
    seed: int
    spacing_mm: float
    contour_smoothing_mm: float
    warnings: tuple[str, ...]
    labels_sha256: str = ""

    def __len__(self) -> int:
        return len(self.images)

    def samples_of_epoch(self, epoch: int) -> np.ndarray:
        """Indices of the samples to show in an epoch: all, or one rater's per slice for "random"."""
        if self.raters != "random":
            return np.arange(len(self))
        slices = np.stack([self.volume_indices, self.slice_indices])
        _, groups = np.unique(slices, axis=1, return_inverse=True)
        return draw_raters(groups.reshape(-1), self.seed, epoch)


def load_slices(
    volumes: Sequence[AnnotatedVolume],
    config: SliceConfig,
    raters: str = "all",
    contour_smoothing_mm: float = 0.0,
    seed: int = 0,
    also_checked: Sequence[AnnotatedVolume] = (),
) -> AnnotatedSlices:
    """Load the labelled slices as the network sees them at inference.

    Masks go through the image's transform, linearly, and become fractions. Windows lie in the middle of the
    field of view (paper 3.4.1) unless a slice's gray matter would come within `EDGE_MM` of the edge or past
    it; the windows of that volume are then centred on the gray matter of each slice, and between labelled
    slices on a line. If `labelled_slices` is given, only these are read, and those of `statistics_slices` for the
    z-score.

    Args:
        volumes: Volumes with at least one mask each.
        config: The network's slices.
        raters: One of `RATER_MODES`; "all" is the paper's.
        contour_smoothing_mm: Width of `smooth_contour` on every mask, 0 for none.
        seed: Seed of the choice of raters for "random", non-negative.
        also_checked: Volumes that pass the same checks together with the others, such as those for validation, and
            are not loaded.

    Raises:
        InputError: A setting is out of its range, or a file cannot be used; the message says which, why and
            what to do.
    """
    check_mode(raters)
    volumes = annotated_volumes("volumes", volumes)
    checks.instance(SliceConfig)("config", config)
    contour_smoothing_mm = checks.number(0)("contour_smoothing_mm", contour_smoothing_mm)
    seed = checks.seed("seed", seed)
    also_checked = annotated_volumes("also_checked", also_checked)
    notes: Notes = defaultdict(list)
    n_slices = check_headers(volumes, notes, also_checked)
    keeps_raters = raters in ("all", "random")
    n_targets = [len(volume.masks) if keeps_raters else 1 for volume in volumes]
    ends = np.cumsum(np.multiply(n_slices, n_targets))

    images = np.empty((ends[-1], config.window_px, config.window_px, 1), np.float32)
    masks = np.empty_like(images)
    volume_indices, rater_indices, slice_indices = np.empty((3, ends[-1]), int)
    digest = _LabelsDigest()
    for index, annotated in enumerate(volumes):
        sizes = n_targets[index], n_slices[index]
        part = slice(ends[index] - math.prod(sizes), ends[index])
        samples = _Samples(
            images=images[part].reshape(*sizes, config.window_px, config.window_px),
            masks=masks[part].reshape(*sizes, config.window_px, config.window_px),
        )
        stored = _load_volume(annotated, config, raters, contour_smoothing_mm, samples, notes, digest)
        volume_indices[part] = index
        rater_indices[part] = np.repeat(np.arange(sizes[0]) if keeps_raters else -1, sizes[1])
        slice_indices[part] = np.tile(stored, sizes[0])
    for annotated in also_checked:
        _open(annotated, config, notes)
    return AnnotatedSlices(
        images=images,
        masks=masks,
        volume_indices=volume_indices,
        rater_indices=rater_indices,
        slice_indices=slice_indices,
        raters=raters,
        seed=seed,
        spacing_mm=config.spacing_mm,
        contour_smoothing_mm=contour_smoothing_mm,
        warnings=in_lines(notes, len(volumes) + len(also_checked)),
        labels_sha256=digest.hexdigest(),
    )


def check_slices(volumes: Sequence[AnnotatedVolume], config: SliceConfig) -> tuple[str, ...]:
    """Make every check of `load_slices` without loading the slices.

    Args:
        volumes: Volumes with at least one mask each.
        config: The network's slices.

    Returns:
        Possible problems of the data, one line each.

    Raises:
        InputError: As `load_slices`.
    """
    volumes = annotated_volumes("volumes", volumes)
    checks.instance(SliceConfig)("config", config)
    notes: Notes = defaultdict(list)
    check_headers(volumes, notes)
    for annotated in volumes:
        _open(annotated, config, notes)
    return in_lines(notes, len(volumes))


def labels_sha256(volumes: Sequence[AnnotatedVolume]) -> str:
    """Hash of the gray matter that all raters drew in the labelled slices, however the files are stored.

    Raises:
        InputError: A file cannot be used.
    """
    digest = _LabelsDigest()
    for annotated in annotated_volumes("volumes", volumes):
        volume = read_volume(annotated.image)
        slices = np.array(annotated.slices_of(volume))
        labels = [annotated.read_labels(path, volume, slices)[0] for path in annotated.masks]
        digest.add(slices, np.stack(labels))
    return digest.hexdigest()


class _LabelsDigest:
    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()

    def add(self, slices: np.ndarray, labels: np.ndarray) -> None:
        self._sha256.update(f"{labels.shape} {slices.tolist()}".encode())
        self._sha256.update(np.packbits(labels).tobytes())

    def hexdigest(self) -> str:
        return self._sha256.hexdigest()


class _Opened(NamedTuple):
    """An image and its masks before their slices are cut out.

    `slices` are the labelled ones in the image's order, `labels` (rater, slice, right-left, posterior-anterior).
    """

    volume: Volume
    slices: np.ndarray
    labels: np.ndarray
    geometry: SliceGeometry
    statistics: IntensityStatistics


def native_spacing_mm(volumes: Sequence[AnnotatedVolume]) -> float:
    """The in-plane pixel spacing that all volumes share, from their headers.

    Raises:
        InputError: A spacing differs between the directions or the volumes, or a file cannot be used.
    """
    volumes = annotated_volumes("volumes", volumes)
    check_volumes(volumes)
    found: dict[tuple[float, ...], Path] = {}
    for volume in volumes:
        affine = read_layout(volume.image).affine
        in_plane = io_orientation(affine)[:, 0] != 2
        spacing_mm = to_nanometre(np.linalg.norm(np.asarray(affine)[:3, :3], axis=0))[in_plane]
        found.setdefault(tuple(map(float, spacing_mm)), volume.image)
    different = np.ptp([spacing_mm for pair in found for spacing_mm in pair])
    first = next(iter(found))[0]
    if different > MAX_DIFFERENCE * first:
        shown = ", ".join(f"{a:g} x {b:g} mm ({path.name})" for (a, b), path in list(found.items())[:3])
        raise InputError(f"pixels of {shown}: no spacing that needs no resampling; choose one with --spacing")
    return first


class _Samples(NamedTuple):
    """Views of the result for the samples of one volume, (target, slice, rows, columns)."""

    images: np.ndarray
    masks: np.ndarray


def _load_volume(
    annotated: AnnotatedVolume,
    config: SliceConfig,
    raters: str,
    contour_smoothing_mm: float,
    samples: _Samples,
    notes: Notes,
    digest: _LabelsDigest,
) -> list[int]:
    """Fill the samples of one volume; returns the stored indices of its slices in their order."""
    volume, slices, labels, geometry, statistics = _open(annotated, config, notes)
    digest.add(slices, labels)
    labels = fuse(labels, raters)
    for first, start, stop in contiguous_chunks(slices):
        part = slice(first, first + stop - start)
        samples.images[:, part] = read_windows(volume, geometry, statistics, start, stop)[..., 0]
        windows = np.stack(
            [
                geometry.to_windows(_soft(masks, volume.in_plane_spacing_mm, contour_smoothing_mm), start)
                for masks in labels[:, part]
            ]
        )
        samples.masks[:, part] = windows.mean(axis=0) if raters == "mean" else windows
    return [volume.stored_slice_index(int(k)) for k in slices]


def _open(annotated: AnnotatedVolume, config: SliceConfig, notes: Notes) -> _Opened:
    volume = read_volume(annotated.image)
    for warning in volume.warnings:
        notes[warning].append(annotated.image.name)
    slices = np.array(annotated.slices_of(volume))
    labels = _read_labels(annotated, volume, slices, notes)
    geometry = _windows(annotated, volume, config, slices, labels, notes)

    statistics = measure_intensities(volume, geometry, statistics_slices(annotated, volume))
    if statistics.n_not_finite:
        notes["NaN or infinite voxels, each was given the mean of its slice"].append(annotated.image.name)
    if statistics.is_constant:
        notes["image constant inside the window"].append(annotated.image.name)
    return _Opened(volume, slices, labels, geometry, statistics)


def _read_labels(annotated: AnnotatedVolume, volume: Volume, slices: np.ndarray, notes: Notes) -> np.ndarray:
    """Bool array (rater, slice, right-left, posterior-anterior)."""
    labels = np.empty((len(annotated.masks), len(slices), *volume.in_plane_shape), bool)
    for path, label in zip(annotated.masks, labels, strict=True):
        label[:], found = annotated.read_labels(path, volume, slices)
        annotated.check_labels(path, found)
    n_empty = int(np.count_nonzero(~labels.any(axis=(0, 2, 3))))
    if n_empty:
        what = "slices without any label, taken as free of gray matter; if not, name the labelled ones in the split"
        notes[f"{what} (labelled_slices)"].append(f"{annotated.image.name} ({n_empty})")
    return labels


def _windows(
    annotated: AnnotatedVolume,
    volume: Volume,
    config: SliceConfig,
    slices: np.ndarray,
    labels: np.ndarray,
    notes: Notes,
) -> SliceGeometry:
    centered = SliceGeometry.centered(volume, config)
    marked = np.asarray(labels.any(axis=0))
    present = np.asarray(marked.any(axis=(1, 2)))
    slices, marked = slices[present], marked[present]
    low, high = np.empty((2, len(slices), 2))
    for axis, native_mm in enumerate(volume.in_plane_spacing_mm):
        along = np.asarray(marked.any(axis=2 - axis))
        low[:, axis] = along.argmax(axis=1) * native_mm / config.spacing_mm
        last = along.shape[1] - 1 - along[:, ::-1].argmax(axis=1)
        high[:, axis] = last * native_mm / config.spacing_mm

    def reaches_past(geometry: SliceGeometry, margin: float) -> np.ndarray:
        starts = geometry.starts[slices]
        return ((low - margin < starts) | (high + margin > starts + config.window_px - 1)).any(axis=1)

    if not reaches_past(centered, EDGE_MM / config.spacing_mm).any():
        return centered
    middles = (low + high) / 2
    of_all = [np.interp(np.arange(volume.n_slices), slices, middles[:, axis]) for axis in (0, 1)]
    moved = centered.recentered(np.stack(of_all, axis=1))
    notes["window moved onto the gray matter, which the middle of the image would cut"].append(
        annotated.image.name
    )
    n_cut = int(np.count_nonzero(reaches_past(moved, 0.0)))
    if n_cut:
        notes[f"slices with gray matter wider than the window of {config.window_px} pixels"].append(
            f"{annotated.image.name} ({n_cut})"
        )
    return moved


def _soft(masks: np.ndarray, spacing_mm: tuple[float, float], width_mm: float) -> np.ndarray:
    return np.stack([smooth_contour(mask, spacing_mm, width_mm) for mask in masks])
