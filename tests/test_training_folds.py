"""Cross-validation: folds that are killed and resumed, their table, and the ensemble of their networks."""

import csv
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import nibabel as nib
import numpy as np
import pytest
from tiny_training import TINY, steps_untraced, weights_of
from unchecked_export import as_exported

from keras_scgm.datasets import AnnotatedVolume, Split, find_challenge, subject_folds
from keras_scgm.datasets.phantom import PhantomConfig, write_challenge_dataset
from keras_scgm.dice import dice
from keras_scgm.errors import InputError
from keras_scgm.evaluation.summary import mean_interval
from keras_scgm.export.check import synthetic_image
from keras_scgm.export.saved_model import export_saved_model
from keras_scgm.pretrained import EnsembleCard
from keras_scgm.segmentation import segment
from keras_scgm.training import DataConfig, annotated_source, train_folds
from keras_scgm.training.folds import FoldScore, SubjectScore, fold_scores, read_folds, table_text
from keras_scgm.training.loop import TrainingResult

QUICK = replace(TINY, epochs=2, steps_per_epoch=2)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    site = PhantomConfig(spacing_mm=0.5, matrix_size=48, n_slices=1)
    write_challenge_dataset(folder, subjects_per_site=3, raters=2, sites={1: site, 2: site})
    return folder


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of two folds, trained in one run."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    folds = subject_folds(find_challenge(data), 2)
    with steps_untraced():
        train_folds(QUICK, folds, lambda split: annotated_source(DataConfig(data, split), QUICK), folder)
    return folder


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_subject_is_scored_by_the_network_that_has_not_seen_it(data: Path, finished: Path) -> None:
    rows = rows_of(finished / "subjects.csv")
    assert sorted(row["subject_id"] for row in rows) == sorted(v.subject_id for v in find_challenge(data))
    for number, fold in enumerate(read_folds(finished), 1):
        assert {row["subject_id"] for row in rows if row["fold"] == f"fold{number}"} == {
            volume.subject_id for volume in fold.test
        }
    volume = read_folds(finished)[1].test[0]
    result = segment(volume.image, finished / "fold2" / "best.weights.h5")
    found = np.asarray(result.mask.dataobj) > 0
    expected = np.mean([dice(found, np.asarray(nib.load(mask).dataobj) == 1) for mask in volume.masks])
    (row,) = [row for row in rows if row["subject_id"] == volume.subject_id]
    assert float(row["dsc"]) == pytest.approx(expected, abs=1e-5)
    *_, together = rows_of(finished / "folds.csv")
    assert (together["fold"], together["held_out"], together["n"]) == ("all", "2 folds", "6")
    values = np.array([float(row["dsc"]) for row in rows])
    assert float(together["dsc"]) == pytest.approx(values.mean(), abs=1e-5)
    interval = [float(together[name]) for name in ("low", "high")]
    np.testing.assert_allclose(interval, np.clip(mean_interval(values), 0, 1), atol=1e-5)


def test_the_card_is_the_mean_of_the_networks(finished: Path, data: Path, tmp_path: Path) -> None:
    card = EnsembleCard.from_json((finished / "ensemble.json").read_text())
    assert list(card.members) == ["fold1/best.weights.h5", "fold2/best.weights.h5"]
    assert card.name == "whole"
    assert card.scores[0]["image"] == "6 subjects"
    image = find_challenge(data)[0].image
    networks = [finished / member for member in card.members]
    # "paper" keeps detached pieces, which are removed from each result by itself.
    one, two, both = (
        np.asarray(segment(image, weights, keep_probabilities=True, binarize="paper").probabilities.dataobj)
        for weights in (*networks, finished / "ensemble.json")
    )
    np.testing.assert_allclose(both, (one + two) / 2, atol=1e-5)
    moved = shutil.copytree(finished, tmp_path / "elsewhere")
    again = segment(image, str(moved / "ensemble.json"), keep_probabilities=True, binarize="paper")
    np.testing.assert_array_equal(np.asarray(again.probabilities.dataobj), both)


def test_the_ensemble_is_exported(finished: Path, tmp_path: Path) -> None:
    card, image = finished / "ensemble.json", synthetic_image()
    probabilities = segment(image, card, window="center", keep_probabilities=True).probabilities.get_fdata()
    # At the thresholds of networks of four steps nothing is found, and empty masks agree.
    threshold = float(np.median(probabilities[probabilities > 0]))
    with as_exported():
        exported = export_saved_model(card, tmp_path, threshold=threshold, window="center")
    assert exported.dsc >= 0.999
    provenance = json.loads((exported.nifti / "assets.extra" / "keras_scgm.json").read_text())
    assert [weights["name"] for weights in provenance["weights"]] == ["fold1", "fold2"]


STOPPING = """
import keras

class Stop(keras.callbacks.Callback):
    def __init__(self, folder, *, epoch):
        super().__init__()
        self.stops_at = epoch if folder.endswith("fold2") else -1

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.stops_at:
            raise KeyboardInterrupt
"""


@pytest.mark.usefixtures("untraced")
def test_interrupted_folds_go_on_to_the_same_networks(
    run, data: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tiny.json").write_text(QUICK.to_json())
    (tmp_path / "stopping.py").write_text(STOPPING)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    command = ("train", "whole", "--data", data, "--spec", "tiny.json")
    code, _, err = run(*command, "--folds", 2, "--callback", 'stopping:Stop("{folder}", epoch=0)')
    assert code == 130, err
    assert "interrupted after 3 of 4 epochs; go on with: keras-scgm train whole --resume" in err
    out = tmp_path / "whole"
    before = (out / "fold1" / "last.weights.h5").stat().st_mtime_ns
    assert len(rows_of(out / "fold2" / "log.csv")) == 1
    assert not (out / "ensemble.json").exists()
    code, printed, err = run("train", "whole", "--resume")
    assert code == 0, err
    assert "| all | 2 folds | 6 |" in printed
    assert printed.endswith("whole/ensemble.json\n")
    assert (out / "fold1" / "last.weights.h5").stat().st_mtime_ns == before
    for fold in ("fold1", "fold2"):
        for a, b in zip(
            *(weights_of(folder / fold / "last.weights.h5") for folder in (out, finished)), strict=True
        ):
            np.testing.assert_array_equal(a, b)
    assert rows_of(out / "subjects.csv") == rows_of(finished / "subjects.csv")


def test_the_command_says_which_folds_the_folder_holds(
    run, data: Path, finished: Path, tmp_path: Path
) -> None:
    (tmp_path / "tiny.json").write_text(QUICK.to_json())
    common = ("train", finished, "--data", data, "--spec", tmp_path / "tiny.json")
    new = ("train", tmp_path / "new", "--data", data, "--spec", tmp_path / "tiny.json")
    for arguments, message in (
        (common, f"{finished}: holds 2 folds; go on with --resume, or choose another folder"),
        ((*common, "--folds", 2), f"{finished}: holds 2 folds; go on with --resume"),
        (
            (*common, "--folds", 3, "--resume"),
            f"{finished}: holds 2 folds without 3 subjects and so on; leave out",
        ),
        ((*common, "--leave-one-site-out", "--resume"), f"{finished}: holds 2 folds without 3 subjects"),
        ((*new, "--folds", 2, "--leave-one-site-out"), "--folds and --leave-one-site-out hold out different"),
        ((*new, "--folds", 2, "--split", "split.json"), "--split and --resplit are of one training"),
        (("train", tmp_path / "new", "--folds", 2), "synthetic slices have no subjects to hold out"),
        ((*new, "--folds", 9), "6 labelled subjects are too few for 9 folds"),
    ):
        code, _, err = run(*arguments)
        assert (code, len(err.splitlines())) == (2, 1), err
        assert err.startswith(f"error: {message}")
    assert not (tmp_path / "new").exists()


def test_folds_that_cannot_be_trained_leave_nothing(data: Path, tmp_path: Path) -> None:
    folds = subject_folds(find_challenge(data), 2)
    wrong = replace(QUICK, frozen_layers=("conv9",))
    with pytest.raises(InputError, match="no stage or layer 'conv9' to freeze"):
        train_folds(
            wrong, folds, lambda split: annotated_source(DataConfig(data, split), wrong), tmp_path / "out"
        )
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "spec.json").write_text("{}")
    with pytest.raises(InputError, match="out: holds a training without folds"):
        train_folds(
            QUICK, folds, lambda split: annotated_source(DataConfig(data, split), QUICK), tmp_path / "out"
        )


def test_what_the_first_fold_holds_out_is_checked_before_it_is_trained(data: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(data, tmp_path / "data"))
    folds = subject_folds(find_challenge(copy), 2)
    mask = folds[0].test[0].masks[0]
    nib.save(nib.Nifti1Image(np.ones((5, 5, 5), np.uint8), np.eye(4)), mask)

    def load(split: Path) -> NoReturn:
        raise AssertionError(f"{split} was read")

    with pytest.raises(InputError, match=mask.name):
        train_folds(QUICK, folds, load, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_folds_go_on_with_their_own_volumes_only(data: Path, finished: Path) -> None:
    volumes = find_challenge(data)

    def refused(folds: tuple[Split, ...], message: str) -> None:
        with pytest.raises(InputError, match=message):
            train_folds(
                QUICK,
                folds,
                lambda split: annotated_source(DataConfig(data, split), QUICK),
                finished,
                resume=True,
            )

    refused(subject_folds(volumes, 3), "holds 2 folds, not 3")
    refused(
        subject_folds(volumes, 2, seed=8), "fold1/split.json: splits other volumes or splits them in another"
    )
    with pytest.raises(InputError, match="holds folds; go on with --resume"):
        train_folds(
            QUICK,
            subject_folds(volumes, 2),
            lambda split: annotated_source(DataConfig(data, split), QUICK),
            finished,
        )


def test_the_table_has_a_row_for_each_fold_and_one_for_all() -> None:
    volumes = [AnnotatedVolume(Path(f"{n}.nii"), (Path("mask.nii"),), str(n), "1") for n in range(8)]
    one, two = subject_folds(volumes, 2)
    history = ({"val_dsc": 0.5}, {"val_dsc": float("nan")}, {"val_dsc": 0.75})
    results = [TrainingResult(Path("best"), Path("last"), history, None)] * 2
    scores = [SubjectScore("fold1", "", str(n), value) for n, value in enumerate((0.25, 0.75, float("nan")))]
    scores += [SubjectScore("fold2", "", str(n), value) for n, value in enumerate((0.75, 0.5), start=1)]
    first, second, together = fold_scores(["fold1", "fold2"], [one, two], results, scores)
    assert (first.n, first.dsc, first.val_dsc) == (2, 0.5, 0.75)
    assert second.dsc == 0.625
    # Subject 1, in both folds, counts once; subject 2 has one defined value.
    assert (together.n, together.dsc) == (3, 0.5)
    # A Dice coefficient is between 0 and 1, and so is the interval of its mean.
    assert (first.low, first.high) == (together.low, together.high) == (0, 1)
    assert table_text([first, FoldScore("all", "2 folds", 7, 0.8, 0.1, 0.7512, 0.85, float("nan"))]) == (
        "| fold | held out | subjects | DSC | SD | 95 % interval | validation |\n"
        "|---|---|---|---|---|---|---|\n"
        "| fold1 | 4 subjects | 2 | 0.500 | 0.354 | 0.000 to 1.000 | 0.750 |\n"
        "| all | 2 folds | 7 | 0.800 | 0.100 | 0.751 to 0.850 |  |"
    )
