"""Annotated volumes: what a network is trained on, whatever data set they come from.

A data set is found (`find_challenge`, `find_bids`, or `AnnotatedVolume` by hand), checked from its headers,
split by subject and loaded as slices, through the transforms that inference uses.
"""

from __future__ import annotations

import json
import math
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from nibabel.orientations import aff2axcodes, io_orientation

from keras_scgm import checks
from keras_scgm.datasets.raters import check_mode, draw_raters, fuse, smooth_contour
from keras_scgm.errors import InputError
from keras_scgm.files import replaced
from keras_scgm.grids import grid_difference, shape_text
from keras_scgm.nifti import Layout, read_layout, read_volume
from keras_scgm.slices import EDGE_MM, SliceConfig, SliceGeometry, chunks, measure_intensities, read_windows
from keras_scgm.volume import Volume

STATISTICS_SLICES = 64
"""Of a volume with few labelled slices, this many evenly spaced ones stand for its intensities."""

Notes = defaultdict[str, list[str]]
"""What was noticed, and in which volumes."""


@dataclass(frozen=True)
class AnnotatedVolume:
    """An image and its raters' masks.

    Args:
        image: NIfTI file.
        masks: NIfTI files on the image's grid, one per rater; none for an image without labels.
        subject_id: unique in the data set; several volumes of a subject share it.
        site_id: where it was acquired, if that is known.
        label_value: what marks gray matter in the masks; None takes everything that is not zero.
        labelled_slices: indices of the slices that the raters worked on, as stored in the file (what a
            viewer shows); None means all of them.

    Raises:
        InputError: a field breaks its rule, such as slices that are none or named twice.
    """

    image: Path
    masks: tuple[Path, ...]
    subject_id: str
    site_id: str | None = None
    label_value: int | None = None
    labelled_slices: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        wanted = "different indices from 0"
        checks.check_fields(
            self,
            image=checks.path,
            masks=checks.several(checks.path, "paths of masks"),
            subject_id=checks.text,
            site_id=checks.optional(checks.text),
            label_value=checks.optional(checks.integer(1)),
            labelled_slices=checks.optional(checks.several(checks.integer(0), wanted)),
        )
        slices = self.labelled_slices
        if slices is not None and (not slices or len(set(slices)) < len(slices)):
            checks.refuse("labelled_slices", wanted, slices)

    def slices_of(self, volume: Volume) -> list[int]:
        """The slices with labels, in the order in which the image's volume is read."""
        stored = range(volume.n_slices) if self.labelled_slices is None else self.labelled_slices
        return sorted(volume.stored_slice_index(index) for index in stored)

    def is_gray_matter(self, values: np.ndarray) -> np.ndarray:
        """Where the values of a mask mean gray matter, bool of the same shape."""
        return values != 0 if self.label_value is None else np.rint(values) == self.label_value

    def read_mask(self, path: Path, volume: Volume) -> np.ndarray:
        """Gray matter by one of the raters, bool (slice, right-left, posterior-anterior) in the image's order."""
        values, _ = _mask_volume(path, volume).read_slices(0, volume.n_slices)
        return self.is_gray_matter(values)


@dataclass(frozen=True, eq=False)
class AnnotatedSlices:
    """Samples for training or validation, all in memory.

    Args:
        images: float32 (n, size, size, 1), z-scored.
        masks: float32 (n, size, size, 1), fraction of gray matter from 0 to 1.
        volume_indices: int (n,), index into the volumes that were loaded.
        rater_indices: int (n,), index into the volume's masks; -1 where they were fused.
        slice_indices: int (n,), index of the slice as stored in the file.
        raters: how the raters' masks are used, one of `RATER_MODES`.
        seed: of the draws of raters.
        warnings: what may be wrong with the data, one line each.
    """

    images: np.ndarray
    masks: np.ndarray
    volume_indices: np.ndarray
    rater_indices: np.ndarray
    slice_indices: np.ndarray
    raters: str
    seed: int
    warnings: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    def samples_of_epoch(self, epoch: int) -> np.ndarray:
        """Indices of the samples to show in an epoch: all, or one rater's per slice for "random"."""
        if self.raters != "random":
            return np.arange(len(self))
        slices = np.stack([self.volume_indices, self.slice_indices])
        _, groups = np.unique(slices, axis=1, return_inverse=True)
        return draw_raters(groups.reshape(-1), self.seed, epoch)


@dataclass(frozen=True)
class Split:
    """Which volumes train, validate and test.

    Raises:
        InputError: a subject is in two parts, other than with different labelled slices.
    """

    train: tuple[AnnotatedVolume, ...]
    validation: tuple[AnnotatedVolume, ...]
    test: tuple[AnnotatedVolume, ...] = ()

    def __post_init__(self) -> None:
        checks.check_fields(self, **dict.fromkeys(self._parts(), annotated_volumes))
        for (name, part), (other_name, other) in combinations(self._parts().items(), 2):
            for volume in part:
                if any(_overlap(volume, candidate) for candidate in other):
                    raise InputError(
                        f"{volume.image}: subject {volume.subject_id} is in {name} and in {other_name}; "
                        "keep every subject in one part"
                    )

    def _parts(self) -> dict[str, tuple[AnnotatedVolume, ...]]:
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def write(self, path: str | Path) -> None:
        """Write as JSON, with paths relative to the file's own folder, so that both can move together."""
        path = checks.path("path", path)
        parts = {
            name: [_to_json(volume, path.parent) for volume in part] for name, part in self._parts().items()
        }
        with replaced(path) as temporary:
            temporary.write_text(json.dumps(parts, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: str | Path) -> Split:
        """Inverse of `write`.

        Raises:
            InputError: the file is missing or not a split.
        """
        path = checks.path("path", path)
        try:
            parts = json.loads(path.read_text(encoding="utf-8"))
            return cls(
                **{name: tuple(_from_json(v, path.parent) for v in part) for name, part in parts.items()}
            )
        except FileNotFoundError as error:
            raise InputError(f"{path}: no such file; write it with Split.write") from error
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(f"{path}: not a split ({error}); write it with Split.write") from error


class SliceSplit(NamedTuple):
    """Indices of slices of one volume."""

    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]


def evenly_spaced_split(
    n_slices: int, n_train: int = 15, n_validation: int = 7, n_test: int = 8
) -> SliceSplit:
    """The few-slices protocol of paper 3.4.3: three disjoint sets, each evenly spaced over the volume.

    All slices together are evenly spaced and the sets take turns, so that no slice lies next to one of
    another set as long as there are slices to leave out.

    Args:
        n_slices: slices of the volume.
        n_train: how many to train on, at least 1.
        n_validation: how many to validate on.
        n_test: how many to test on.

    Raises:
        InputError: a negative number, or more slices than there are.

    >>> evenly_spaced_split(12, n_train=3, n_validation=1, n_test=2)
    SliceSplit(train=(1, 5, 11), validation=(7,), test=(3, 9))
    """
    counts = (
        checks.integer(1)("n_train", n_train),
        checks.integer(0)("n_validation", n_validation),
        checks.integer(0)("n_test", n_test),
    )
    total = sum(counts)
    if total > checks.integer(1)("n_slices", n_slices):
        raise InputError(f"n_slices must be at least the {total} asked for, received {n_slices}")
    turns = sorted(((i + 0.5) / count, part) for part, count in enumerate(counts) for i in range(count))
    parts: tuple[list[int], list[int], list[int]] = ([], [], [])
    for turn, (_, part) in enumerate(turns):
        parts[part].append((2 * turn + 1) * n_slices // (2 * total))
    return SliceSplit(*map(tuple, parts))


def annotated_volumes(name: str, value: Any) -> tuple[AnnotatedVolume, ...]:
    """Sequences of annotated volumes, a rule as in `keras_scgm.checks`."""
    volume = checks.instance(AnnotatedVolume, "an AnnotatedVolume")
    return tuple(checks.several(volume, "AnnotatedVolume objects")(name, value))


def check_volumes(volumes: Sequence[AnnotatedVolume]) -> tuple[str, ...]:
    """Check that all files exist and fit together, from their headers alone.

    Returns:
        Warnings, one line each, with the number of volumes concerned.

    Raises:
        InputError: the first file that cannot be used, why, and what to do.
    """
    volumes = annotated_volumes("volumes", volumes)
    notes: Notes = defaultdict(list)
    for volume in volumes:
        _labelled_count(volume, notes)
    _compare_raters(volumes, notes)
    return _in_lines(notes, len(volumes))


def load_slices(
    volumes: Sequence[AnnotatedVolume],
    config: SliceConfig,
    raters: str = "all",
    contour_smoothing_mm: float = 0.0,
    seed: int = 0,
) -> AnnotatedSlices:
    """Load the labelled slices as the network sees them at inference.

    Masks go through the image's transform, linearly, and become fractions. Windows lie in the middle of the
    field of view (paper 3.4.1) unless a slice's gray matter would come within `EDGE_MM` of the edge or past
    it; the windows of that volume are then centred on the gray matter of each slice, and between labelled
    slices on a line. If `labelled_slices` is given, only these and up to `STATISTICS_SLICES` others, for the
    z-score, are read.

    Args:
        volumes: with at least one mask each.
        config: the network's slices.
        raters: one of `RATER_MODES`; "all" is the paper's.
        contour_smoothing_mm: width of `smooth_contour` on every mask, 0 for none.
        seed: of the draws of raters for "random", non-negative.

    Raises:
        InputError: a setting is out of its range, or a file cannot be used; the message says which, why and
            what to do.
    """
    check_mode(raters)
    volumes = annotated_volumes("volumes", volumes)
    checks.instance(SliceConfig, "a SliceConfig")("config", config)
    contour_smoothing_mm = checks.number(0)("contour_smoothing_mm", contour_smoothing_mm)
    seed = checks.seed("seed", seed)
    notes: Notes = defaultdict(list)
    n_slices = [_labelled_count(volume, notes) for volume in volumes]
    _compare_raters(volumes, notes)
    keeps_raters = raters in ("all", "random")
    n_targets = [len(volume.masks) if keeps_raters else 1 for volume in volumes]
    ends = np.cumsum(np.multiply(n_slices, n_targets))

    images = np.empty((ends[-1], config.window_px, config.window_px, 1), np.float32)
    masks = np.empty_like(images)
    volume_indices, rater_indices, slice_indices = np.empty((3, ends[-1]), int)
    for index, annotated in enumerate(volumes):
        sizes = n_targets[index], n_slices[index]
        part = slice(ends[index] - math.prod(sizes), ends[index])
        samples = _Samples(
            images=images[part].reshape(*sizes, config.window_px, config.window_px),
            masks=masks[part].reshape(*sizes, config.window_px, config.window_px),
        )
        stored = _load_volume(annotated, config, raters, contour_smoothing_mm, samples, notes)
        volume_indices[part] = index
        rater_indices[part] = np.repeat(np.arange(sizes[0]) if keeps_raters else -1, sizes[1])
        slice_indices[part] = np.tile(stored, sizes[0])
    return AnnotatedSlices(
        images=images,
        masks=masks,
        volume_indices=volume_indices,
        rater_indices=rater_indices,
        slice_indices=slice_indices,
        raters=raters,
        seed=seed,
        warnings=_in_lines(notes, len(volumes)),
    )


class _Samples(NamedTuple):
    """Where the samples of one volume go: views (target, slice, rows, columns) of the result."""

    images: np.ndarray
    masks: np.ndarray


def _load_volume(
    annotated: AnnotatedVolume,
    config: SliceConfig,
    raters: str,
    contour_smoothing_mm: float,
    samples: _Samples,
    notes: Notes,
) -> list[int]:
    """Fill the samples of one volume; returns the stored indices of its slices in their order."""
    volume = read_volume(annotated.image)
    for warning in volume.warnings:
        notes[warning].append(annotated.image.name)
    slices = np.array(annotated.slices_of(volume))
    labels = _read_labels(annotated, volume, slices, notes)
    geometry = _windows(annotated, volume, config, slices, labels, notes)

    use_all = annotated.labelled_slices is None or volume.n_slices <= STATISTICS_SLICES
    probes = None if use_all else np.linspace(0, volume.n_slices - 1, STATISTICS_SLICES).astype(int)
    statistics = measure_intensities(volume, geometry, probes)
    if statistics.n_not_finite:
        notes["NaN or infinite voxels, each was given the mean of its slice"].append(annotated.image.name)
    if statistics.is_constant:
        notes["image constant inside the window"].append(annotated.image.name)

    labels = fuse(labels, raters)
    for first, start, stop in _runs(slices):
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


def _mask_volume(path: Path, volume: Volume) -> Volume:
    # The headers were found to agree. A mask that is stored like its image takes its affine, and so its slices.
    mask = read_volume(path, orientation="".join(aff2axcodes(volume.affine)))
    stored_alike = aff2axcodes(mask.affine) == aff2axcodes(volume.affine)
    return replace(mask, affine=volume.affine) if stored_alike else mask


def _read_labels(annotated: AnnotatedVolume, volume: Volume, slices: np.ndarray, notes: Notes) -> np.ndarray:
    """Bool array (rater, slice, right-left, posterior-anterior)."""
    labels = np.empty((len(annotated.masks), len(slices), *volume.in_plane_shape), bool)
    for path, label in zip(annotated.masks, labels, strict=True):
        mask = _mask_volume(path, volume)
        found: set[int] = set()
        for first, start, stop in _runs(slices):
            values, _ = mask.read_slices(start, stop)
            marked = values[values != 0]
            if np.any(np.abs(marked - np.rint(marked)) > 0.01):
                raise InputError(f"{path}: holds fractions, not labels; cut it at 0.5 and save it again")
            found.update(int(value) for value in np.unique(np.rint(marked)))
            label[first : first + stop - start] = annotated.is_gray_matter(values)
        if not label.any():
            where = "" if annotated.labelled_slices is None else " in the labelled slices"
            wanted_text = "not zero" if annotated.label_value is None else str(annotated.label_value)
            held = ", ".join(map(str, sorted({0, *found})))
            raise InputError(
                f"{path}: no voxel is {wanted_text}{where}, it holds {held}; set label_value, or leave it out"
            )
        if annotated.label_value is None and len(found) > 1:
            notes["mask with several labels, all taken as gray matter; set label_value to choose"].append(
                path.name
            )
    n_empty = int(np.count_nonzero(~labels.any(axis=(0, 2, 3))))
    if n_empty:
        notes["slices without any label, taken as free of gray matter; if not, set labelled_slices"].append(
            f"{annotated.image.name} ({n_empty})"
        )
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


def _runs(slices: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """(position of the first, start, stop) of consecutive ascending slices, a chunk at a time."""
    first = 0
    for run in np.split(slices, np.flatnonzero(np.diff(slices) != 1) + 1):
        for start, stop in chunks(len(run)):
            yield first + start, int(run[0]) + start, int(run[0]) + stop
        first += len(run)


def _labelled_count(annotated: AnnotatedVolume, notes: Notes) -> int:
    """Check the headers of one volume; returns how many slices are labelled."""
    if not annotated.masks:
        raise InputError(
            f"{annotated.image}: has no mask; add one, or leave out the volumes whose masks are empty"
        )
    grid = _read_grid(annotated.image)
    if grid.affine is None:
        raise InputError(
            f"{annotated.image}: qform and sform codes are both 0, so the axial axis is unknown; "
            "mend the header"
        )
    for path in annotated.masks:
        _check_mask(path, annotated.image, _read_grid(path), grid.grid_shape, grid.affine, notes)
    n_slices = grid.grid_shape[int(np.flatnonzero(io_orientation(grid.affine)[:, 0] == 2)[0])]
    if annotated.labelled_slices is None:
        return n_slices
    if max(annotated.labelled_slices) >= n_slices:
        raise InputError(
            f"{annotated.image}: labelled slice {max(annotated.labelled_slices)} does not exist; "
            f"it has slices 0 to {n_slices - 1}"
        )
    return len(annotated.labelled_slices)


def _check_mask(
    path: Path, image: Path, mask: Layout, shape: tuple[int, ...], affine: np.ndarray, notes: Notes
) -> None:
    if mask.affine is None:
        notes["mask without orientation, taken as stored like its image"].append(path.name)
    own_affine = affine if mask.affine is None else mask.affine
    difference = grid_difference(mask.grid_shape, own_affine, shape, affine)
    if difference:
        raise InputError(
            f"{path}: not on the grid of its image {image.name}, {difference}; "
            "bring the mask to the image's grid, or mend its header"
        )


def _read_grid(path: Path) -> Layout:
    layout = read_layout(path)
    if math.prod(layout.shape[3:]) > 1:
        raise InputError(f"{path}: {shape_text(layout.shape)} voxels; keep one frame of it, or average them")
    return layout


def _compare_raters(volumes: Sequence[AnnotatedVolume], notes: Notes) -> None:
    if not volumes:
        raise InputError("no annotated volume; check the folder and the split")
    most = max(len(volume.masks) for volume in volumes)
    for volume in volumes:
        if len(volume.masks) < most:
            notes[f"fewer raters than {most}"].append(f"{volume.image.name} ({len(volume.masks)})")


def _in_lines(notes: Notes, total: int) -> tuple[str, ...]:
    return tuple(
        f"{what}: {len(names)} in {total} volumes, {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"
        for what, names in notes.items()
    )


def _overlap(one: AnnotatedVolume, other: AnnotatedVolume) -> bool:
    if one.subject_id != other.subject_id:
        return False
    if one.labelled_slices is None or other.labelled_slices is None or one.image != other.image:
        return True
    return not set(one.labelled_slices).isdisjoint(other.labelled_slices)


def _to_json(volume: AnnotatedVolume, folder: Path) -> dict[str, Any]:
    def relative(path: Path) -> str:
        return Path(os.path.relpath(path, folder)).as_posix()

    return asdict(volume) | {"image": relative(volume.image), "masks": [*map(relative, volume.masks)]}


def _from_json(values: dict[str, Any], folder: Path) -> AnnotatedVolume:
    def absolute(path: str) -> Path:
        return Path(os.path.normpath(folder / path))

    slices = values["labelled_slices"]
    paths = {"image": absolute(values["image"]), "masks": tuple(map(absolute, values["masks"]))}
    return AnnotatedVolume(**values | paths | {"labelled_slices": None if slices is None else tuple(slices)})
