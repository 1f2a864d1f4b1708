"""Splits of a cross-validation: subjects and sites that are held out in turn."""

from collections import Counter
from pathlib import Path

import pytest

from keras_scgm.datasets import AnnotatedVolume, held_out, site_folds, subject_folds
from keras_scgm.errors import InputError


def volume(site: str | None, number: int, name: str = "image", labelled: bool = True) -> AnnotatedVolume:
    subject = f"{site}-{number:02d}"
    masks = (Path(f"{subject}-{name}-mask.nii"),) if labelled else ()
    return AnnotatedVolume(Path(f"{subject}-{name}.nii"), masks, subject, site)


def subjects(part: tuple[AnnotatedVolume, ...]) -> set[str]:
    return {volume.subject_id for volume in part}


CHALLENGE = [volume(site, number) for site in "1234" for number in range(10)]


def test_every_subject_is_held_out_once_with_all_its_volumes():
    second = [volume("1", number, "second") for number in range(10)]
    unlabelled = [volume("1", 10, labelled=False)]
    folds = subject_folds([*CHALLENGE, *second, *unlabelled], 5, seed=3)
    assert [*map(held_out, folds)] == ["8 subjects"] * 5
    tested = [subject for fold in folds for subject in subjects(fold.test)]
    assert sorted(tested) == sorted(subjects(tuple(CHALLENGE)))
    for split in folds:
        parts = [subjects(part) for part in (split.train, split.validation, split.test)]
        # A fifth of 40 is held out; of the other 32, ceil(32 / 5) validate.
        assert [len(part) for part in parts] == [25, 7, 8]
        assert set.union(*parts) == subjects(tuple(CHALLENGE))
        assert sum(map(len, (split.train, split.validation, split.test))) == 50
        assert Counter(subject[0] for subject in parts[2]) == dict.fromkeys("1234", 2)
        assert min(Counter(subject[0] for subject in parts[1]).values()) >= 1


def test_folds_differ_by_one_subject_and_depend_on_the_seed():
    eleven = CHALLENGE[:11]
    folds = subject_folds(eleven, 3)
    assert sorted(len(fold.test) for fold in folds) == [3, 4, 4]
    assert subject_folds(eleven, 3) == folds
    assert subject_folds(eleven, 3, seed=1) != folds
    assert subjects(subject_folds([*reversed(eleven)], 3)[0].test) == subjects(folds[0].test)
    (one, *_) = subject_folds(eleven[:3], 3)
    assert held_out(one) == "1 subject"


def test_every_site_is_held_out_once():
    folds = site_folds(CHALLENGE)
    assert [*map(held_out, folds)] == ["site 1", "site 2", "site 3", "site 4"]
    for fold, site in zip(folds, "1234", strict=True):
        assert {volume.site_id for volume in fold.test} == {site}
        assert len(fold.test) == 10
        # As in the paper, two of ten subjects of each other site validate.
        counts = Counter(volume.site_id for volume in fold.validation)
        assert counts == {other: 2 for other in "1234" if other != site}
        assert len(fold.train) == 24


def test_a_subject_of_two_sites_does_not_train_for_one_of_them():
    traveller = AnnotatedVolume(Path("elsewhere.nii"), (Path("mask.nii"),), "1-00", "2")
    folds = site_folds([*CHALLENGE, traveller])
    of_site_1, of_site_2 = folds[0], folds[1]
    assert traveller not in (*of_site_1.train, *of_site_1.validation, *of_site_1.test)
    assert traveller in of_site_2.test
    assert "1-00" not in subjects(of_site_2.train) | subjects(of_site_2.validation)
    assert {volume.site_id for volume in of_site_2.test} == {"2"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: subject_folds(CHALLENGE, 1), "n_folds must be an integer of at least 2, received 1"),
        (lambda: subject_folds(CHALLENGE[:3], 4), "3 labelled subjects are too few for 4 folds"),
        (lambda: subject_folds(CHALLENGE[:3], 2), "3 labelled subjects are too few for 2 folds"),
        (lambda: subject_folds([volume("1", 1, labelled=False)], 2), "none of 1 volumes has a mask"),
        (
            lambda: site_folds([volume(None, 1), *CHALLENGE]),
            r"None-01-image.nii: of an unknown site, as 1 of 41",
        ),
        (lambda: site_folds(CHALLENGE[:10]), "all volumes are of site 1; leaving out sites needs two"),
        (lambda: site_folds(CHALLENGE[9:11]), "without site 1 1 labelled subjects are left; two are needed"),
        (lambda: site_folds(CHALLENGE, -1), "seed must be an integer from 0"),
    ],
)
def test_folds_that_cannot_be_made_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()
