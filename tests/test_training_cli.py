"""`keras-scgm train` and `tune`, on subjects small enough to be trained on in a second."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from keras_scgm.augmentation import AugmentationConfig
from keras_scgm.datasets.phantom import PhantomConfig, write_challenge_dataset
from keras_scgm.errors import InputError
from keras_scgm.models import DilatedGMNet
from keras_scgm.pretrained import read_layers
from keras_scgm.training import TrainingConfig, all_devices

pytestmark = pytest.mark.usefixtures("untraced")

TINY = TrainingConfig(
    model_kwargs={"filters": 2, "dilation_rates": (6,)},
    window_px=64,
    epochs=1,
    steps_per_epoch=2,
    batch_size=2,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("challenge")
    site = PhantomConfig(spacing_mm=0.5, matrix_size=72, n_slices=2, off_centre_mm=0)
    write_challenge_dataset(folder, subjects_per_site=3, raters=2, sites={1: site, 2: site})
    return folder


@pytest.fixture
def config(tmp_path) -> Path:
    path = tmp_path / "tiny.json"
    path.write_text(TINY.to_json())
    return path


def test_a_network_is_trained_on_a_folder(run, data, config, tmp_path):
    config.write_text(replace(TINY, model_kwargs={"filters": 2}).to_json())
    arguments = ("train", tmp_path / "out", "--data", data, "--spec", config)
    code, out, err = run(*arguments, "--architecture", "UNet")
    assert code == 0, err
    assert "best.weights.h5: validation DSC 0." in out
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written >= {"best.weights.h5", "best.json", "log.csv", "curves.png", "samples.png", "split.json"}
    assert json.loads((tmp_path / "out" / "best.json").read_text())["architecture"] == "UNet"
    code, _, err = run(*arguments)
    assert (code, len(err.splitlines())) == (2, 1)
    assert "holds a training; go on with --resume, or choose another folder" in err


def test_known_weights_are_fine_tuned_with_frozen_stages(run, data, config, tmp_path):
    start = tmp_path / "start.weights.h5"
    network = DilatedGMNet(filters=3, dilation_rates=(6,), classes=2)
    network.save_weights(start)
    out = tmp_path / "out"
    arguments = ("train", out, "--data", data, "--spec", config, "--fine-tune", start)
    code, _, err = run(*arguments, "--freeze", "conv2d", "--freeze", "amort")
    assert code == 0, err
    layers = read_layers(out / "last.weights.h5")
    for name in ("conv2d_1", "batch_normalization_1", "amort"):
        for array, expected in zip(layers[name], network.get_layer(name).get_weights(), strict=True):
            np.testing.assert_array_equal(array, expected)
    assert not np.array_equal(layers["rate6_1"][0], network.get_layer("rate6_1").get_weights()[0])
    assert json.loads((out / "last.json").read_text())["model_kwargs"] == {
        "filters": 3,
        "dilation_rates": [6],
        "classes": 1,
    }
    for options, message in (
        (
            ("--freeze", "conv9"),
            "no stage or layer 'conv9' to freeze; its stages: conv2d, rate2, branches, amort",
        ),
        (
            ("--architecture", "UNet"),
            f"--architecture UNet: the weights {start} are of DilatedGMNet; leave it out",
        ),
    ):
        code, _, err = run("train", tmp_path / "new", *arguments[2:], *options)
        assert (code, len(err.splitlines())) == (2, 1), err
        assert message in err


def test_settings_and_weights_that_a_training_starts_from_stay(run, data, config, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    for name in ("spec.json", "best_training.json"):
        shutil.copy(config, out / name)
    DilatedGMNet(filters=3, dilation_rates=(6,)).save_weights(out / "best.weights.h5")
    before = {path: path.read_bytes() for path in out.iterdir()}
    weights = out / "last.weights.h5"
    weights.symlink_to("best.weights.h5")
    for taken, command, *options in (
        (out / "spec.json", "train", "--spec", out / "spec.json"),
        (weights, "train", "--spec", config, "--fine-tune", weights),
        (out / "best_training.json", "tune", "--spec", out / "best_training.json"),
    ):
        code, _, err = run(command, out, "--data", data, *options)
        assert (code, err) == (
            2,
            f"error: {taken}: the result would take the place of this input; give the output another name\n",
        )
    assert {path: path.read_bytes() for path in before} == before


def test_a_split_is_of_the_data_that_are_given(run, data, config, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(data, other)
    out = tmp_path / "out"
    assert run("train", out, "--data", data, "--spec", config)[0] == 0
    before = sorted(out.iterdir())
    for wrong, message in (
        (tmp_path / "nowhere", f"{tmp_path}/nowhere: no such folder; check the path"),
        (other, f"{out}/split.json: splits other data, its {data}/site1-sc0"),
    ):
        code, _, err = run("train", out, "--data", wrong, "--spec", config, "--resume")
        assert (code, len(err.splitlines())) == (2, 1), err
        assert err.startswith(f"error: {message}")
    for options, message in (
        (
            ("--resume", "--raters", "majority"),
            'data.json: another training, raters was "all", now "majority"; leave',
        ),
        (("--resume", "--label-value", 2), "data.json: another training, label_value was null, now 2; leave"),
        (("--resume", "--batch", 3), "No such option"),
        (
            ("--resume", "--seed", 3),
            "spec.json: another training, seed was 0, now 3; leave the setting as it was",
        ),
        (("--resume", "--preset", "quick"), "spec.json: another training, model_kwargs."),
        (("--resume", "--resplit"), "--resplit starts another training, --resume goes on with one"),
    ):
        code, _, err = run("train", out, *options)
        assert code == 2
        assert message in err
    code, _, err = run("train", out, "--spec", config)
    assert (code, len(err.splitlines())) == (2, 1), err
    assert f"{out}/split.json: the training is one on annotated volumes; give them with --data" in err
    (tmp_path / "drawn" / "validation").mkdir(parents=True)
    code, _, err = run("train", tmp_path / "drawn", "--data", data, "--spec", config, "--resume")
    assert (code, len(err.splitlines())) == (2, 1), err
    assert "drawn/validation: the training is one on synthetic slices; leave out --data" in err
    assert sorted(out.iterdir()) == before
    assert run("train", out, "--data", data, "--spec", config, "--resume")[0] == 0


def test_resuming_needs_no_other_option(run, data, config, tmp_path):
    out = tmp_path / "out"
    options = ("--data", data, "--spec", config, "--raters", "majority", "--seed", 4)
    assert run("train", out, *options, "--epochs", 1)[0] == 0
    code, _, err = run("train", out, "--resume", "--epochs", 2)
    assert code == 0, err
    kept = json.loads((out / "spec.json").read_text())
    assert (kept["epochs"], kept["seed"]) == (2, 4)
    assert json.loads((out / "data.json").read_text())["raters"] == "majority"
    assert json.loads((out / "best.json").read_text())["data"] == (
        f"4 slices of 2 annotated volumes in {data.name}, majority of the raters"
    )
    with (out / "log.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2"]


def test_a_start_that_fails_leaves_nothing(run, data, config, tmp_path):
    (tmp_path / "wrong.weights.h5").write_bytes(b"no weights")
    for options in (
        ("--data", data, "--fine-tune", tmp_path / "wrong.weights.h5"),
        ("--fine-tune", tmp_path / "wrong.weights.h5"),
        ("--data", data, "--freeze", "conv9"),
        ("--data", data, "--label-value", 7),
    ):
        code, _, err = run("train", tmp_path / "a" / "out", "--spec", config, *options)
        assert (code, err.count("error: ")) == (2, 1), err
        assert not (tmp_path / "a").exists()


def test_an_interruption_says_how_to_go_on(data, config, tmp_path):
    out = tmp_path / "my run"
    command = (sys.executable, "-m", "keras_scgm", "train", out, "--data", data, "--spec", config)
    options = ("--epochs", "1000", "--callback", "keras.callbacks:Callback()", "--tensorboard")
    heeding = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True, preexec_fn=heeding)
    while not (out / "state.npz").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    again = rf"keras-scgm train '{out}' --resume --tensorboard --callback 'keras\.callbacks:Callback\(\)'"
    # A slow machine shows its progress before.
    said = rf"interrupted after \d+ of 1000 epochs; go on with: {again}"
    assert re.fullmatch(said, re.split(r"[\r\n]", err.rstrip())[-1].strip())


def test_a_search_that_cannot_start_leaves_nothing(run, data, config, tmp_path):
    options = ("--data", data, "--spec", config, "--hypermodel", "json:loads")
    code, _, err = run("tune", tmp_path / "a" / "out", *options)
    assert (code, err.count("error: ")) == (2, 1), err
    assert not (tmp_path / "a").exists()


def test_an_interruption_before_the_first_epoch_says_so(run, data, config, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("keras_scgm.training.train", interrupted)
    code, _, err = run("train", tmp_path / "out", "--data", data, "--spec", config)
    assert (code, err) == (
        130,
        "interrupted before the first epoch was finished; start again with the same command\n",
    )
    assert not (tmp_path / "out").exists()


def test_two_processes_train_as_one(data, tmp_path):
    pytest.importorskip("jax")
    small = {"batch_size": 4, "window_px": 48, "augmentation": AugmentationConfig(rotation_degrees=10.0)}
    (tmp_path / "spec.json").write_text(replace(TINY, ema_momentum=0.5, **small).to_json())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = (sys.executable, "-m", "keras_scgm", "train")
    common = {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    shared = {"KERAS_DISTRIBUTION_JOB_ADDRESSES": address, "KERAS_DISTRIBUTION_NUM_PROCESSES": "2"}

    def start(name, *options, **variables):
        return subprocess.Popen(
            [*command, tmp_path / name, "--data", data, "--spec", tmp_path / "spec.json", *options],
            env=os.environ | common | variables,
            stderr=subprocess.PIPE,
            text=True,
        )

    processes = [start("alone")] + [
        start(name, "--all-devices", **shared, KERAS_DISTRIBUTION_PROCESS_ID=name[-1]) for name in ("0", "1")
    ]
    for process in processes:
        _, err = process.communicate(timeout=600)
        assert process.returncode == 0, err[-2000:]

    def results(name):
        with (tmp_path / name / "log.csv").open() as file:
            loss = float(next(csv.DictReader(file))["loss"])
        layers = read_layers(tmp_path / name / "last.weights.h5")
        return loss, np.concatenate([array.ravel() for arrays in layers.values() for array in arrays])

    (loss, alone), (loss_0, first), (loss_1, second) = map(results, ("alone", "0", "1"))
    assert loss_0 == loss_1 == pytest.approx(loss, rel=1e-4)
    np.testing.assert_array_equal(first, second)
    # Adam makes steps of one size even from gradients that are zero but for rounding.
    assert np.mean(np.abs(first - alone) < 2e-4) > 0.95


@pytest.mark.parametrize(
    ("backend", "message"),
    [("jax", "KERAS_DISTRIBUTION_JOB_ADDRESSES, "), ("tensorflow", "train together on JAX only")],
)
def test_processes_that_cannot_train_together_say_so(monkeypatch, backend, message):
    pytest.importorskip("jax")
    monkeypatch.setenv("KERAS_DISTRIBUTION_JOB_ADDRESSES", "127.0.0.1:1")
    monkeypatch.setattr("keras.backend.backend", lambda: backend)
    monkeypatch.setattr("keras.distribution.initialize", _without_number)
    with pytest.raises(InputError, match=message), all_devices():
        pass


def _without_number():
    raise ValueError("Number of processes must be defined.")


def test_a_network_is_trained_on_drawings(run, config, tmp_path):
    code, _, err = run("train", tmp_path / "out", "--spec", config)
    assert code == 0, err
    assert json.loads((tmp_path / "out" / "best.json").read_text())["data"].startswith("drawn anatomy only")


@pytest.mark.filterwarnings("ignore:currentThread\\(\\) is deprecated:DeprecationWarning:keras_tuner")
@pytest.mark.filterwarnings("ignore:getName\\(\\) is deprecated:DeprecationWarning:keras_tuner")
def test_a_search_leaves_settings_that_train_takes(run, data, config, tmp_path):
    pytest.importorskip("keras_tuner")
    search = ("tune", tmp_path / "search", "--data", data, "--spec", config)
    code, out, err = run(*search, "--trials", 2, "--also", "threshold")
    assert code == 0, err
    first, second, last = out.splitlines()
    assert first.startswith("trial_0 (1 of at most 2): validation DSC 0.")
    assert second.startswith("trial_1 (2 of at most 2): validation DSC 0.")
    assert "trials.csv: 2 trials; " in last
    with (tmp_path / "search" / "trials.csv").open() as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["COMPLETED"] * 2
    code, out, err = run("tune", tmp_path / "search", "--data", data, "--resume")
    assert (code, err) == (0, "")
    assert "trials.csv: 2 trials; " in out
    ranges = tmp_path / "ranges.json"
    ranges.write_text(json.dumps({"threshold": [0.2, 0.8], "seed": 2}))
    code, _, err = run(
        "tune", tmp_path / "search", "--data", data, "--resume", "--ranges", ranges, "--seed", 1
    )
    assert code == 2
    assert "search.json: another search, seed was 0, now 1; leave" in err
    best = tmp_path / "search" / "best_training.json"
    code, _, err = run("train", tmp_path / "again", "--data", data, "--spec", best)
    assert code == 0, err


SPACE = """
from dataclasses import replace


def rates(hp, training):
    return replace(training, learning_rate=hp.Choice("learning_rate", [0.01, 0.001]))
"""


@pytest.mark.filterwarnings("ignore:currentThread\\(\\) is deprecated:DeprecationWarning:keras_tuner")
@pytest.mark.filterwarnings("ignore:getName\\(\\) is deprecated:DeprecationWarning:keras_tuner")
def test_a_search_in_a_space_of_the_user(run, data, config, tmp_path, monkeypatch):
    pytest.importorskip("keras_tuner")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("space_of_rates.py").write_text(SPACE)
    search = ("tune", "search", "--data", data, "--spec", config, "--trials", 1)
    code, out, err = run(*search, "--hypermodel", "space_of_rates:rates")
    assert code == 0, err
    best = TrainingConfig.from_json(Path("search/best_training.json").read_text())
    assert best == replace(TINY, learning_rate=0.01)
    assert "trials.csv: 1 trial; best: trial_0, validation DSC 0." in out.splitlines()[-1]
    code, _, err = run(*search, "--hypermodel", "space_of_rates:rates", "--also", "dropout")
    assert (code, err) == (2, "error: --hypermodel says what is searched; leave out --also and --ranges\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "out", "--preset", "fast"), "unknown preset 'fast'; known: challenge, exvivo, quick"),
        (("train", "out", "--data", "nowhere"), "nowhere"),
        (("train", "out", "--epochs", "0"), "epochs must be an integer of at least 1, received 0"),
        (
            ("train", "out", "--spec", "missing.json"),
            "missing.json: cannot be read (No such file or directory); check the path",
        ),
        (
            ("train", "out", "--architecture", "VNet"),
            "architecture must be one of DilatedGMNet, DilatedGMNet3D, UNet",
        ),
        (
            ("train", "out", "--preset", "quick", "--spec", "a.json"),
            "--preset quick and --spec a.json are both whole",
        ),
        (("tune", "out", "-d", ".", "--preset", "quick", "--spec", "a.json"), "give one of them"),
        (("train", "out", "--raters", "mean", "--resplit"), "--raters: for annotated volumes only"),
        (
            ("train", "out", "--data", "."),
            "no image of a known layout in it, looked for siteS-scNN-image.nii.gz",
        ),
        (("train", "out", "--resplit"), "--resplit: for annotated volumes only"),
        (("tune", "out", "--data", "nowhere", "--strategy", "grid"), "strategy must be one of random"),
        (
            ("tune", "out", "--data", "nowhere", "--ranges", "a.json", "--also", "dropout"),
            "--ranges a.json says what is searched; leave out --also",
        ),
        (
            ("tune", "out", "--data", "nowhere", "--hypermodel", "a.b"),
            "--hypermodel a.b: ValueError: no colon",
        ),
        (
            ("phantom", "out", "--exvivo", "20", "--raters", "2"),
            "--exvivo: a data set of its own, to which ",
        ),
        (
            ("train", "out", "--spacing", "fine"),
            "--spacing must be a number of mm or native, received 'fine'",
        ),
        (
            ("train", "out", "--preset", "exvivo"),
            "synthetic slices have no spacing of their own and no split; choose",
        ),
        (
            ("train", "out", "--slices", "0", "1", "1"),
            "slice_counts must be the numbers of slices for training",
        ),
    ],
)
def test_wrong_options_are_one_line(run, monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(*arguments)
    assert (code, len(err.splitlines())) == (2, 1), err
    assert message in err
    assert not (tmp_path / "out").exists()
