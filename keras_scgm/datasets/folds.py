"""Splits for a cross-validation: parts of the subjects, or all subjects of a site, are held out in turn."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from keras_scgm import checks
from keras_scgm.datasets.annotated_volume import AnnotatedVolume, labelled_volumes
from keras_scgm.datasets.splits import Split
from keras_scgm.errors import InputError

VALIDATION_SHARE = 5
"""One in so many of the subjects that are not held out is for validation; two of ten, as in the paper (3.4.1)."""


def subject_folds(volumes: Sequence[AnnotatedVolume], n_folds: int, seed: int = 0) -> tuple[Split, ...]:
    """Hold out each subject once, as `Split.test`; subjects of a site are spread over the folds.

    The other subjects train, except one in `VALIDATION_SHARE`, of every site as far as there are enough, for
    validation: what is held out chooses neither the epoch nor the threshold.

    Args:
        volumes: Volumes of a data set; those without masks are left out.
        n_folds: Number of folds, at least 2.
        seed: Seed of the order of the subjects, and of the choice of those for validation.

    Raises:
        InputError: A subject would be in no fold, or no subject would train or validate.
    """
    n_folds = checks.integer(2)("n_folds", n_folds)
    labelled = labelled_volumes(volumes)
    by_site = _subjects(labelled)
    n_subjects = sum(map(len, by_site.values()))
    largest = -(-n_subjects // n_folds)
    if n_folds > n_subjects or n_subjects - largest < 2:
        raise InputError(
            f"{n_subjects} labelled subjects are too few for {n_folds} folds: each needs a subject that is held out, "
            "one for validation and one for training"
        )
    parts = _dealt(by_site, n_folds, np.random.default_rng(checks.seed("seed", seed)))
    return tuple(_fold(labelled, part, (seed, number)) for number, part in enumerate(parts))


def site_folds(volumes: Sequence[AnnotatedVolume], seed: int = 0) -> tuple[Split, ...]:
    """Hold out the volumes of each site once; the others train and validate as in `subject_folds`.

    A subject that was scanned at several sites neither trains nor validates when one of them is held out.

    Args:
        volumes: Volumes of a data set, of two sites or more; those without masks are left out.
        seed: Seed of the choice of the subjects for validation.

    Raises:
        InputError: A site is unknown, there is only one, or fewer than two subjects are left without one.
    """
    seed = checks.seed("seed", seed)
    labelled = labelled_volumes(volumes)
    unknown = [volume.image for volume in labelled if volume.site_id is None]
    if unknown:
        raise InputError(
            f"{unknown[0]}: of an unknown site, as {len(unknown)} of {len(labelled)} volumes; "
            "leaving out sites needs the challenge's names of files, or site_id in Python"
        )
    sites = sorted({str(volume.site_id) for volume in labelled})
    if len(sites) < 2:
        raise InputError(f"all volumes are of site {sites[0]}; leaving out sites needs two or more")
    folds = []
    for number, site in enumerate(sites):
        there = {volume.subject_id for volume in labelled if volume.site_id == site}
        left = [volume for volume in labelled if volume.site_id == site or volume.subject_id not in there]
        n_others = len({volume.subject_id for volume in left} - there)
        if n_others < 2:
            raise InputError(
                f"without site {site} {n_others} labelled subjects are left; "
                "two are needed, for training and validation"
            )
        folds.append(_fold(left, there, (seed, number)))
    return tuple(folds)


def held_out(fold: Split) -> str:
    """What a fold holds out, in words: its site, if that is a whole one, or the number of its subjects.

    >>> from pathlib import Path
    >>> volumes = [AnnotatedVolume(Path(f"{n}.nii"), (Path("mask.nii"),), str(n), site_id=str(n % 2)) for n in range(6)]
    >>> held_out(site_folds(volumes)[1]), held_out(subject_folds(volumes, 3)[0])
    ('site 1', '2 subjects')
    """
    sites = {volume.site_id for volume in fold.test}
    others = {volume.site_id for volume in (*fold.train, *fold.validation)}
    if len(sites) == 1 and not sites & (others | {None}):
        return f"site {sites.pop()}"
    n_subjects = len({volume.subject_id for volume in fold.test})
    return f"{n_subjects} subject{'s' if n_subjects > 1 else ''}"


def _subjects(volumes: Sequence[AnnotatedVolume]) -> dict[str, list[str]]:
    """Subjects by site, both in order; one that was scanned at several sites is listed at the first."""
    by_site: defaultdict[str, list[str]] = defaultdict(list)
    for subject in sorted({volume.subject_id for volume in volumes}):
        sites = {volume.site_id or "" for volume in volumes if volume.subject_id == subject}
        by_site[min(sites)].append(subject)
    return dict(sorted(by_site.items()))


def _dealt(by_site: Mapping[str, Sequence[str]], n_parts: int, rng: np.random.Generator) -> list[list[str]]:
    """Parts that differ by at most one subject, also in those of any site."""
    order = [str(subject) for subjects in by_site.values() for subject in rng.permutation(subjects)]
    return [order[part::n_parts] for part in range(n_parts)]


def _fold(labelled: Sequence[AnnotatedVolume], test: Collection[str], seed: tuple[int, int]) -> Split:
    others = _subjects([volume for volume in labelled if volume.subject_id not in test])
    validation, *_ = _dealt(others, VALIDATION_SHARE, np.random.default_rng(seed))
    parts: dict[str, list[AnnotatedVolume]] = {"train": [], "validation": [], "test": []}
    for volume in labelled:
        subject = volume.subject_id
        parts["test" if subject in test else "validation" if subject in validation else "train"].append(
            volume
        )
    return Split(**{name: tuple(part) for name, part in parts.items()})
