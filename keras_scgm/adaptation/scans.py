"""The scans of an adaptation: those that are learned from, those that the guard keeps, and their slices."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from keras_scgm import checks
from keras_scgm.datasets import AnnotatedVolume
from keras_scgm.datasets.annotated_volume import annotated_volumes
from keras_scgm.datasets.labelled_slices import slices_with_labels
from keras_scgm.errors import InputError, first_of
from keras_scgm.files import check_folder, nifti_files, nifti_stem, read_text
from keras_scgm.images import check_is_image, find_images
from keras_scgm.nifti import read_volume
from keras_scgm.prediction import Ensemble
from keras_scgm.segmentation.placement import place_windows
from keras_scgm.slices import evenly_spaced, is_varied, read_windows

SLICES_PER_SCAN = 64
"""Slices of a long scan that are used, evenly spaced."""
RESCAN = re.compile(r"(?<![a-z0-9])(?:re)?scan(?![a-z0-9])|(?<=_run-)\d+", re.IGNORECASE)
"""What differs between the names of a scan and its repetition: `_scan`, `_rescan`, or BIDS' `_run-1`, `_run-2`."""

pairs_of_paths = checks.several(checks.several(checks.path, "two paths", length=2), "pairs of paths")
"""The rule for rescans."""


@dataclass(frozen=True)
class Scans:
    """Files of an adaptation.

    Args:
        images: Images without labels.
        labelled: Images with labels in some slices.
        rescans: Pairs of images of the same person on the same scanner, which may be among `images` or not; the guard
            alone reads their masks' areas.

    Raises:
        InputError: A field breaks its rule, or there are no images.
    """

    images: tuple[Path, ...]
    labelled: tuple[AnnotatedVolume, ...] = ()
    rescans: tuple[tuple[Path, Path], ...] = ()

    def __post_init__(self) -> None:
        checks.check_fields(
            self,
            images=checks.several(checks.path, "paths of images"),
            labelled=annotated_volumes,
            rescans=pairs_of_paths,
        )
        if not self.images:
            checks.refuse("images", "at least one image", self.images)

    def split(self, held_back: float, seed: int) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
        """Images to learn from, and those that only the guard sees.

        Scan and rescan stay together, and scans with labels are learned from. A single scan, or a single pair, is both.

        Args:
            held_back: Part of the scans that the guard keeps, at least one.
            seed: Seed of the choice.
        """
        group = {path: path for path in self.images}
        for first, second in self.rescans:
            if first in group and second in group:
                group[second] = group[first]
        names = list(dict.fromkeys(group.values()))
        if len(names) == 1:
            return self.images, self.images
        count = min(max(1, round(held_back * len(names))), len(names) - 1)
        labelled = {group.get(volume.image) for volume in self.labelled}
        candidates = [name for name in names if name not in labelled] or names
        chosen = np.random.default_rng((seed, 3)).permutation(len(candidates))[:count]
        kept = {candidates[index] for index in chosen}
        return (
            tuple(path for path in self.images if group[path] not in kept),
            tuple(path for path in self.images if group[path] in kept),
        )


def find_scans(
    images: Sequence[str | Path] | str | Path,
    labels: str | Path | None = None,
    rescans: str | Path | None = None,
    label_value: int | None = None,
) -> tuple[Scans, tuple[str, ...]]:
    """The scans in folders, and labels and rescans that belong to them.

    Args:
        images: Files, folders or patterns, as in `keras_scgm.images.find_images`.
        labels: Folder of masks whose names begin with those of the images. Slices without any label are taken as
            not labelled.
        rescans: CSV file with the columns `scan` and `rescan`; paths count from its folder. Without it, rescans are
            found by name: `A_scan.nii.gz` and `A_rescan.nii.gz`, or BIDS' `_run-1` and `_run-2`.
        label_value: Value of gray matter in the masks; None for masks with one value beside 0.

    Returns:
        The scans, and what was left out, one line each.

    Raises:
        InputError: No image, a mask without an image or with several labels, or a table that cannot be read.
    """
    alone = isinstance(images, (str, Path))
    found = find_images(
        checks.several(checks.path, "paths of images")("images", [images] if alone else images)
    )
    if found.problems:
        raise InputError(found.problems[0])
    paths = tuple(image.path for image in found.images)
    pairs = _named_pairs(paths) if rescans is None else _read_pairs(checks.path("rescans", rescans))
    labelled = () if labels is None else _labelled(checks.path("labels", labels), paths, label_value)
    return Scans(paths, labelled, pairs), tuple(found.notes)


def _named_pairs(paths: Iterable[Path]) -> tuple[tuple[Path, Path], ...]:
    """The first two images of each person whose names differ in nothing but `RESCAN`."""
    groups: dict[tuple[Path, str], list[Path]] = {}
    for path in sorted(paths):
        stem = nifti_stem(path)
        if RESCAN.search(stem):
            groups.setdefault((path.parent, RESCAN.sub("", stem)), []).append(path)
    return tuple((group[0], group[1]) for group in groups.values() if len(group) > 1)


def _read_pairs(table: Path) -> tuple[tuple[Path, Path], ...]:
    text = read_text(table)
    try:
        rows = list(csv.DictReader(io.StringIO(text)))
        pairs = tuple((table.parent / row["scan"], table.parent / row["rescan"]) for row in rows)
    except csv.Error as error:
        raise InputError(f"{table}: cannot be read as a CSV table ({error})") from error
    except (KeyError, TypeError) as error:
        raise InputError(f"{table}: needs the columns scan and rescan") from error
    if not pairs:
        raise InputError(f"{table}: names no rescan")
    if missing := [path for pair in pairs for path in pair if not path.is_file()]:
        raise InputError(f"{table}: no such file as its {missing[0]}")
    return pairs


def _labelled(folder: Path, images: Sequence[Path], label_value: int | None) -> tuple[AnnotatedVolume, ...]:
    check_folder(folder)
    masks: dict[Path, list[Path]] = {}
    strays = []
    for path in nifti_files(folder):
        fits = [image for image in images if nifti_stem(path).startswith(f"{nifti_stem(image)}_")]
        if fits:
            masks.setdefault(max(fits, key=lambda image: len(nifti_stem(image))), []).append(path)
        elif path not in images:
            strays.append(path)
    if strays:
        raise InputError(
            f"{strays[0]}: the beginning of its name is that of no image "
            f"({first_of([image.name for image in images])}); name a mask IMAGE_gmseg.nii.gz"
        )
    if not masks:
        raise InputError(f"{folder}: no mask of an image in it; name a mask IMAGE_gmseg.nii.gz")
    volumes = []
    for image, paths in sorted(masks.items()):
        volume = AnnotatedVolume(image, tuple(sorted(paths)), nifti_stem(image), label_value=label_value)
        marked = slices_with_labels(volume)
        if not marked:
            raise InputError(f"{paths[0]}: no voxel is marked; mend the mask, or take it away")
        volumes.append(replace(volume, labelled_slices=marked))
    return tuple(volumes)


@dataclass(frozen=True, eq=False)
class RealSlices:
    """Slices without labels, in memory.

    Args:
        images: Float32 (slice, window, window, 1), z-scored as in segmentation.
        centers: (slice, 2) pixels, where the cord is.
        scans: (slice,) index of the scan.
        names: Names of the scans.
        warnings: Scans that were left out, one line each.
    """

    images: np.ndarray
    centers: np.ndarray
    scans: np.ndarray
    names: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)


def read_real_slices(paths: Sequence[Path], networks: Ensemble) -> RealSlices:
    """Read the slices of scans in the windows that segmentation places.

    Args:
        paths: The images.
        networks: The network that finds the cord.

    Raises:
        InputError: A file cannot be used, or no scan has a cord that the network finds.
    """
    images, centers, scans = [], [], []
    names: list[str] = []
    warnings: list[str] = []
    for path in paths:
        volume = read_volume(path)
        check_is_image(volume)
        windows = place_windows(volume, networks.config, networks.predict, "auto")
        if windows.cord is None:
            warnings.append(f"{path}: the weights find no cord in it; it is left out")
            continue
        chosen = evenly_spaced(volume.n_slices, SLICES_PER_SCAN)
        slices = np.concatenate(
            [read_windows(volume, windows.geometry, windows.statistics, k, k + 1) for k in chosen]
        )
        varied = is_varied(slices)
        images.append(slices[varied])
        centers.append(windows.cord[chosen][varied])
        scans.append(np.full(np.count_nonzero(varied), len(names)))
        names.append(path.name)
    if not names:
        raise InputError(f"{paths[0]}: no cord was found in any of the {len(paths)} scans; use other weights")
    return RealSlices(
        np.concatenate(images), np.concatenate(centers), np.concatenate(scans), tuple(names), tuple(warnings)
    )
