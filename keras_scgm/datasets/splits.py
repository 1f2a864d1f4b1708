"""Splits of volumes, or of the slices of one volume, into training, validation and test sets."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_scgm import checks
from keras_scgm.datasets.annotated_volume import AnnotatedVolume, annotated_volumes, labelled_volumes
from keras_scgm.datasets.header_checks import check_volumes
from keras_scgm.datasets.labelled_slices import slices_with_labels
from keras_scgm.errors import InputError, counted
from keras_scgm.files import read_text, write_text


@dataclass(frozen=True)
class Split:
    """Which volumes train, validate and test.

    Args:
        train: Volumes to train on.
        validation: Volumes that choose the epoch and the threshold.
        test: Volumes that have no part in the training.

    Raises:
        InputError: A subject is in two parts, other than with different labelled slices.
    """

    train: tuple[AnnotatedVolume, ...]
    validation: tuple[AnnotatedVolume, ...]
    test: tuple[AnnotatedVolume, ...] = ()

    def __post_init__(self) -> None:
        checks.check_fields(self, **dict.fromkeys(self.by_name, annotated_volumes))
        for (name, part), (other_name, other) in combinations(self.by_name.items(), 2):
            for volume in part:
                if any(_overlap(volume, candidate) for candidate in other):
                    raise InputError(
                        f"{volume.image}: subject {volume.subject_id} is in {name} and in {other_name}; "
                        "keep every subject in one part"
                    )

    @property
    def by_name(self) -> dict[str, tuple[AnnotatedVolume, ...]]:
        """The volumes of each part."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def write(self, path: str | Path) -> None:
        """Write as JSON, with paths relative to the file's own folder, so that both can move together."""
        path = checks.path("path", path)
        parts = {
            name: [_to_json(volume, path.parent) for volume in part] for name, part in self.by_name.items()
        }
        write_text(path, json.dumps(parts, indent=1) + "\n")

    @classmethod
    def read(cls, path: str | Path) -> Split:
        """Inverse of `write`.

        Raises:
            InputError: The file is missing or not a split.
        """
        path = checks.path("path", path)
        if not path.exists():
            raise InputError(f"{path}: no such file; write it with Split.write")
        text = read_text(path)
        try:
            parts = json.loads(text)
            return cls(
                **{name: tuple(_from_json(v, path.parent) for v in part) for name, part in parts.items()}
            )
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise InputError(f"{path}: not a split ({error}); write it with Split.write") from error


def paper_split(volumes: Sequence[AnnotatedVolume], seed: int = 0, validation_per_site: int = 2) -> Split:
    """Two subjects of each site, eight in all, for validation and the rest for training (paper 3.4.1).

    The paper does not say which; the seed draws them. Volumes without masks are left out.

    Args:
        volumes: Any order gives the same split; volumes without a site count as one site.
        seed: Non-negative integer.
        validation_per_site: Subjects, at least 1.

    Raises:
        InputError: Nothing is labelled, a site has no subject left for training, or an argument breaks its rule.
    """
    seed = checks.seed("seed", seed)
    validation_per_site = checks.integer(1)("validation_per_site", validation_per_site)
    labelled = sorted(labelled_volumes(volumes), key=lambda volume: volume.image)
    validation: set[str] = set()
    for index, site in enumerate(sorted({volume.site_id or "" for volume in labelled})):
        subjects = sorted({volume.subject_id for volume in labelled if (volume.site_id or "") == site})
        if len(subjects) <= validation_per_site:
            raise InputError(
                f"{labelled[0].image.parent}: {len(subjects)} labelled subjects{' of site ' if site else ''}"
                f"{site}, {validation_per_site} of them for validation leave none for training; "
                "lower --validation-subjects, add subjects, or give a split of your own with --split"
            )
        drawn = np.random.default_rng((seed, index)).choice(len(subjects), validation_per_site, replace=False)
        validation.update(subjects[i] for i in drawn)
    return Split(
        train=tuple(volume for volume in labelled if volume.subject_id not in validation),
        validation=tuple(volume for volume in labelled if volume.subject_id in validation),
    )


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
        n_slices: Slices of the volume.
        n_train: Number of training slices, at least 1.
        n_validation: Number of validation slices.
        n_test: Number of test slices.

    Raises:
        InputError: A negative number, or more slices than there are.

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


def split_slices(volumes: Sequence[AnnotatedVolume], counts: Sequence[int] = (15, 7, 8)) -> Split:
    """The split of paper 3.4.3: few evenly spaced slices of every volume for training, validation and test.

    They are chosen among the slices with gray matter: of a volume that is annotated on just as many slices as are asked
    for, all are taken.

    Args:
        volumes: Volumes, of which those without masks are left out.
        counts: Numbers of slices for training, at least 1, for validation and for test.

    Raises:
        InputError: Nothing is labelled, a volume has too few slices with gray matter, or a file cannot be used.
    """
    n_train, n_validation, n_test = checks.several(checks.integer(0), "three numbers of slices", length=3)(
        "counts", counts
    )
    labelled = labelled_volumes(volumes)
    check_volumes(labelled)
    parts: tuple[list[AnnotatedVolume], ...] = ([], [], [])
    for volume in labelled:
        slices = slices_with_labels(volume)
        if len(slices) < n_train + n_validation + n_test:
            raise InputError(
                f"{volume.image}: {counted(len(slices), 'slice')} with gray matter, fewer than the {n_train} for "
                f"training, {n_validation} for validation and {n_test} for test; annotate more, or ask for fewer with "
                "--slices"
            )
        for part, chosen in zip(
            parts, evenly_spaced_split(len(slices), n_train, n_validation, n_test), strict=True
        ):
            if chosen:
                part.append(replace(volume, labelled_slices=tuple(slices[index] for index in chosen)))
    return Split(*map(tuple, parts))


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
