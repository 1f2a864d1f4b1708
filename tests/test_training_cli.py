"""`keras-scgm train` and `tune`, on subjects small enough to be trained on in a second."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from keras_scgm.datasets.phantom import PhantomSpec, write_challenge_dataset
from keras_scgm.training import TrainingSpec

TINY = TrainingSpec(arguments={"filters": 2}, epochs=1, steps_per_epoch=2, batch_size=2)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("challenge")
    site = PhantomSpec(spacing_mm=0.5, matrix_size=72, n_slices=2)
    write_challenge_dataset(folder, subjects_per_site=3, raters=2, sites={1: site, 2: site})
    return folder


@pytest.fixture
def spec(tmp_path) -> Path:
    path = tmp_path / "tiny.json"
    path.write_text(TINY.to_json())
    return path


def test_a_network_is_trained_on_a_folder(run, data, spec, tmp_path):
    arguments = ("train", tmp_path / "out", "--data", data, "--spec", spec)
    code, out, err = run(*arguments, "--architecture", "UNet")
    assert code == 0, err
    assert "best.weights.h5: validation DSC 0." in out
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written >= {"best.weights.h5", "best.json", "log.csv", "curves.png", "samples.png", "split.json"}
    assert json.loads((tmp_path / "out" / "best.json").read_text())["architecture"] == "UNet"
    code, _, err = run(*arguments)
    assert (code, len(err.splitlines())) == (2, 1)
    assert "holds a training; go on with --resume, or choose another folder" in err


def test_a_network_is_trained_on_drawings(run, spec, tmp_path):
    code, _, err = run("train", tmp_path / "out", "--spec", spec)
    assert code == 0, err
    assert json.loads((tmp_path / "out" / "best.json").read_text())["data"].startswith("drawn anatomy only")


@pytest.mark.filterwarnings("ignore:currentThread\\(\\) is deprecated:DeprecationWarning:keras_tuner")
@pytest.mark.filterwarnings("ignore:getName\\(\\) is deprecated:DeprecationWarning:keras_tuner")
def test_a_search_leaves_settings_that_train_takes(run, data, spec, tmp_path):
    pytest.importorskip("keras_tuner")
    search = ("tune", tmp_path / "search", "--data", data, "--spec", spec)
    code, out, err = run(*search, "--trials", 2, "--also", "threshold")
    assert code == 0, err
    assert "trials.csv: 2 trials; validation DSC 0." in out
    with (tmp_path / "search" / "trials.csv").open() as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["COMPLETED"] * 2
    best = tmp_path / "search" / "best_training.json"
    code, _, err = run("train", tmp_path / "again", "--data", data, "--spec", best)
    assert code == 0, err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "out", "--preset", "fast"), "unknown preset 'fast'; known: challenge, exvivo, quick"),
        (("train", "out", "--data", "nowhere"), "nowhere"),
        (("train", "out", "--epochs", "0"), "epochs must be an integer of at least 1, received 0"),
        (("train", "out", "--spec", "missing.json"), "missing.json: "),
        (("train", "out", "--architecture", "VNet"), "architecture must be one of DilatedGMNet, UNet"),
        (("tune", "out", "--data", "nowhere", "--strategy", "grid"), "strategy must be one of random"),
    ],
)
def test_wrong_options_are_one_line(run, monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(*arguments)
    assert (code, len(err.splitlines())) == (2, 1), err
    assert message in err
    assert not (tmp_path / "out").exists()
