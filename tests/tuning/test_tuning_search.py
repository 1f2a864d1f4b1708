"""A search: the table of trials, resumption after a kill, and several processes."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from tiny_search import KERAS_TUNER_WARNINGS, SEARCH, TRAINING, rows
from tiny_training import run_until_killed

pytest.importorskip("keras_tuner")

from keras_scgm.augmentation import AugmentationConfig
from keras_scgm.datasets import AnnotatedVolume
from keras_scgm.errors import InputError
from keras_scgm.models import load_network
from keras_scgm.training import SliceBatches, SyntheticBatches, TrainingConfig, TrainingResult
from keras_scgm.tuning import SearchConfig, Trial, search, tune, tuners

pytestmark = [*KERAS_TUNER_WARNINGS, pytest.mark.usefixtures("untraced")]


def test_search_is_checked_before_it_starts(
    batches: SliceBatches,
    volumes: Sequence[AnnotatedVolume],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(InputError, match="synthetic slices are not augmented"):
        tune(SEARCH, TRAINING, SyntheticBatches(), tmp_path, volumes)
    with pytest.raises(InputError, match="a search needs volumes for validation"):
        tune(SEARCH, TRAINING, batches, tmp_path, ())
    with pytest.raises(InputError, match="tuning must be a TuningConfig with ranges, unless a hypermodel"):
        tune(SearchConfig(), TRAINING, batches, tmp_path, volumes)
    folding = replace(SEARCH, augmentation={"elastic_px": (0.0, 3.0)})
    stiff = replace(TRAINING, augmentation=AugmentationConfig(elastic_smoothness_px=4.0))
    with pytest.raises(ValueError, match="elastic_px must be at most half of elastic_smoothness_px"):
        tune(folding, stiff, batches, tmp_path, volumes)
    with pytest.raises(InputError, match="dilation_rates cannot be searched: UNet has none"):
        tune(
            replace(SEARCH, dilation_rates=((6, 12),)),
            TrainingConfig(architecture="UNet"),
            batches,
            tmp_path,
            volumes,
        )
    with pytest.raises(InputError, match="cannot be searched: the weights challenge fix them"):
        tune(
            replace(SEARCH, filters=(16,)),
            TrainingConfig(initial_weights="challenge"),
            batches,
            tmp_path,
            volumes,
        )
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    with pytest.raises(InputError, match="set KERASTUNER_ORACLE_PORT and KERASTUNER_TUNER_ID, too"):
        tune(SEARCH, TRAINING, batches, tmp_path, volumes)
    monkeypatch.delenv("KERASTUNER_ORACLE_IP")
    monkeypatch.setattr(search, "find_spec", lambda name: None)
    with pytest.raises(
        InputError, match=r"needs KerasTuner; install it with pip install 'keras-scgm\[tuner\]'"
    ):
        tune(SEARCH, TRAINING, batches, tmp_path, volumes)
    assert not list(tmp_path.iterdir())


def test_search_leaves_table_picture_and_best(
    batches: SliceBatches, volumes: Sequence[AnnotatedVolume], tmp_path: Path
) -> None:
    config = replace(
        SEARCH, threshold=(0.2, 0.4), dropout=(0.0, 0.5), filters=(3,), dilation_rates=((6, 12),)
    )
    steps: list[int] = []
    further = keras.callbacks.LambdaCallback(on_train_batch_end=lambda step, logs: steps.append(step))
    result = tune(config, TRAINING, batches, tmp_path / "search", volumes, callbacks=[further])
    assert steps == [*range(TRAINING.steps_per_epoch)] * 2
    assert result is not None
    given, other = result.trials
    assert given.values == {
        "rotation_degrees": 4.6,
        "noise": 0.0,
        "threshold": 0.5,
        "dropout": 0.2,
        "filters": 2,
        "dilation_rates": "6",
    }
    assert 0.2 <= other.values["threshold"] <= 0.4
    table = rows(tmp_path / "search")
    assert [row["name"] for row in table] == ["trial_0", "trial_1"]
    assert [row["status"] for row in table] == ["COMPLETED"] * 2
    assert [row["epochs"] for row in table] == ["1", "1"]
    assert float(table[1]["noise"]) == other.values["noise"]
    assert result.highest[0].val_dsc == max(given.val_dsc or 0, other.val_dsc or 0)
    assert (tmp_path / "search" / "trials.png").stat().st_size > 5000

    best = json.loads((tmp_path / "search" / "best_augmentation.json").read_text())
    assert best["rotation_degrees"] == result.highest[0].values["rotation_degrees"]
    assert best["shift_px"] == TRAINING.augmentation.shift_px
    assert TrainingConfig.from_json((tmp_path / "search" / "best_training.json").read_text()) == result.config
    network, card = load_network(result.weights)
    assert card.threshold == result.highest[0].values["threshold"]
    assert network.get_layer("conv2d_1").filters == result.highest[0].values["filters"]


# scikit-learn on the few points that the test gives to KerasTuner's Gaussian process.
@pytest.mark.filterwarnings("ignore:The optimal value found for dimension:UserWarning")
@pytest.mark.parametrize("strategy", ["random", "hyperband", "bayesian"])
def test_strategies_propose_within_the_ranges(
    strategy: Any,
    drawn_scores: list[TrainingConfig],
    batches: SliceBatches,
    volumes: Sequence[AnnotatedVolume],
    tmp_path: Path,
) -> None:
    if strategy == "bayesian":
        pytest.importorskip("sklearn")
    training = replace(TRAINING, epochs=9)
    result = tune(replace(SEARCH, strategy=strategy, trials=8), training, batches, tmp_path, volumes)
    assert result is not None
    assert len(result.trials) == len(drawn_scores) == 8
    assert drawn_scores[0] == replace(training, threshold_objective=None)
    rotations = [config.augmentation.rotation_degrees for config in drawn_scores]
    assert all(0 <= rotation <= 30 for rotation in rotations)
    assert result.config.augmentation.rotation_degrees == min(rotations)
    assert result.config.epochs == 9
    epochs = {config.epochs for config in drawn_scores}
    assert epochs == ({1, 9} if strategy == "hyperband" else {9})


def test_seed_decides_the_trials(
    drawn_scores: list[TrainingConfig],
    batches: SliceBatches,
    volumes: Sequence[AnnotatedVolume],
    tmp_path: Path,
) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        tune(replace(SEARCH, seed=seed), TRAINING, batches, tmp_path / name, volumes)
    assert drawn_scores[:2] == drawn_scores[2:4] != drawn_scores[4:]


def test_collapsed_network_scores_zero(tmp_path: Path) -> None:
    collapsed = TrainingResult(tmp_path, tmp_path, ({"val_dsc": float("nan")},), "collapsed")
    assert tuners.score(collapsed, 0.5, ()) == 0.0


def test_search_goes_on_with_more_trials(
    drawn_scores: list[TrainingConfig],
    batches: SliceBatches,
    volumes: Sequence[AnnotatedVolume],
    tmp_path: Path,
) -> None:
    tune(SEARCH, TRAINING, batches, tmp_path, volumes)
    with pytest.raises(InputError, match="holds a search; go on with --resume"):
        tune(SEARCH, TRAINING, batches, tmp_path, volumes)
    with pytest.raises(
        InputError, match=r"search.json: another search, seed was 0, now 5; leave the setting"
    ):
        tune(replace(SEARCH, seed=5), TRAINING, batches, tmp_path, volumes, resume=True)
    with pytest.raises(InputError, match=r"another search, learning_rate was .*, now 0.5"):
        tune(SEARCH, replace(TRAINING, learning_rate=0.5), batches, tmp_path, volumes, resume=True)
    other = [replace(volumes[0], labelled_slices=(0, 1)), *volumes[1:]]
    with pytest.raises(
        InputError, match=r"another search, its data were .* now are .* slices 0, 1 for validation"
    ):
        tune(SEARCH, TRAINING, batches, tmp_path, other, resume=True)
    with pytest.raises(InputError, match="its data were annotated slices; its data now are other slices"):
        tune(SEARCH, TRAINING, SliceBatches(batches.slices, "other slices"), tmp_path, volumes, resume=True)
    corrected = SliceBatches(replace(batches.slices, labels_sha256="0" * 64))
    with pytest.raises(InputError, match=r"its data were training masks .*now are training masks 00000000;"):
        tune(SEARCH, TRAINING, corrected, tmp_path, volumes, resume=True)
    again = tune(SEARCH, TRAINING, batches, tmp_path, volumes, resume=True)
    assert len(drawn_scores) == 2
    more = tune(replace(SEARCH, trials=12), TRAINING, batches, tmp_path, volumes, resume=True)
    assert again is not None
    assert more is not None
    assert more.trials[:2] == again.trials
    assert len(drawn_scores) == len(more.trials) == len({trial.name for trial in more.trials}) == 12


def test_damaged_account_is_played_again(
    drawn_scores: list[TrainingConfig],
    batches: SliceBatches,
    volumes: Sequence[AnnotatedVolume],
    tmp_path: Path,
) -> None:
    whole = tune(SEARCH, TRAINING, batches, tmp_path, volumes)
    path = tmp_path / "trials" / "oracle.json"
    path.write_text(path.read_text()[:100])
    again = tune(SEARCH, TRAINING, batches, tmp_path, volumes, resume=True)
    assert again == whole
    assert drawn_scores[:2] == drawn_scores[2:]


def test_account_is_kept_when_something_else_is_wrong_at_the_start(
    drawn_scores: list[TrainingConfig],
    batches: SliceBatches,
    volumes: Sequence[AnnotatedVolume],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = tune(SEARCH, TRAINING, batches, tmp_path, volumes)

    def wrong(*_: Any) -> None:
        raise ValueError("a bad range")

    with monkeypatch.context() as patched:
        patched.setattr(tuners, "oracle_of", wrong)
        with pytest.raises(ValueError, match="a bad range"):
            tune(SEARCH, TRAINING, batches, tmp_path, volumes, resume=True)
    assert (tmp_path / "trials" / "tuner0.json").exists()
    assert tune(SEARCH, TRAINING, batches, tmp_path, volumes, resume=True) == whole
    assert len(drawn_scores) == 2


def test_account_that_names_a_lost_trial_is_played_again(
    drawn_scores: list[TrainingConfig],
    batches: SliceBatches,
    volumes: Sequence[AnnotatedVolume],
    tmp_path: Path,
) -> None:
    whole = tune(SEARCH, TRAINING, batches, tmp_path, volumes)
    account = tmp_path / "trials" / "oracle.json"
    content = json.loads(account.read_text())
    account.write_text(json.dumps({**content, "ongoing_trials": {"tuner0": "7"}}))
    assert tune(SEARCH, TRAINING, batches, tmp_path, volumes, resume=True) == whole
    assert drawn_scores[:2] == drawn_scores[2:]


def test_failed_trial_is_listed_and_bad_settings_end_the_search(
    batches: SliceBatches,
    volumes: Sequence[AnnotatedVolume],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def out_of_memory(*_: Any, **__: Any) -> None:
        raise MemoryError("too large")

    monkeypatch.setattr(tuners, "train", out_of_memory)
    with pytest.raises(
        InputError, match="no trial of 1 was completed, the last: MemoryError: too large; see "
    ):
        tune(replace(SEARCH, trials=1), TRAINING, batches, tmp_path / "failed", volumes)
    assert rows(tmp_path / "failed")[0]["status"] == "FAILED"
    monkeypatch.undo()
    frozen = replace(TRAINING, frozen_layers=("conv9",))
    with pytest.raises(InputError, match="no stage or layer 'conv9' to freeze"):
        tune(SEARCH, frozen, batches, tmp_path / "bad", volumes)


WORK = """
import sys
from pathlib import Path
import tensorflow as tf
from keras_scgm.datasets import find_challenge, load_slices
from keras_scgm.slices import SliceConfig
from keras_scgm.training import SliceBatches, TrainingConfig
from keras_scgm.tuning import TuningConfig, tune
from tiny_training import Killed
tf.config.run_functions_eagerly(True)
data, folder = map(Path, sys.argv[1:3])
volumes = find_challenge(data)
tuning, training = (
    kind.from_json((folder.parent / name).read_text())
    for kind, name in ((TuningConfig, "tuning.json"), (TrainingConfig, "training.json"))
)
batches = SliceBatches(load_slices(volumes, SliceConfig(window_px=64)))
callbacks = [Killed(int(steps)) for steps in sys.argv[3:]]
tune(tuning, training, batches, folder, volumes, resume=True, callbacks=callbacks)
"""


def test_killed_search_goes_on(
    batches: SliceBatches, volumes: Sequence[AnnotatedVolume], tmp_path: Path
) -> None:
    training = replace(TRAINING, epochs=2)
    (tmp_path / "tuning.json").write_text(SEARCH.to_json())
    (tmp_path / "training.json").write_text(training.to_json())
    killed = tmp_path / "killed"
    # In the second epoch of the second trial: the first is to be kept, the second to go on.
    run_until_killed(WORK, volumes[0].image.parent, killed, 3 * training.steps_per_epoch + 1)
    table = rows(killed)
    assert [row["status"] for row in table] == ["COMPLETED"]
    log = killed / "trials" / "trial_1" / "log.csv"
    finished = log.read_text()
    tune(SEARCH, training, batches, killed, volumes, resume=True)
    first, second = rows(killed)
    assert first == table[0]
    assert (second["status"], second["epochs"]) == ("COMPLETED", "2")
    # With the seconds that the epoch before the kill took.
    assert log.read_text().startswith(finished)


def test_workers_share_a_search(
    batches: SliceBatches,
    volumes: Sequence[AnnotatedVolume],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tuning = replace(SEARCH, trials=4)
    (tmp_path / "tuning.json").write_text(tuning.to_json())
    (tmp_path / "training.json").write_text(TRAINING.to_json())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {"KERASTUNER_ORACLE_IP": "127.0.0.1", "KERASTUNER_ORACLE_PORT": port}
    command = [sys.executable, "-c", WORK, str(volumes[0].image.parent), str(tmp_path / "search")]
    common = os.environ | environment | {"PYTHONPATH": os.pathsep.join(sys.path)}
    processes = [
        subprocess.Popen(command, env=common | {"KERASTUNER_TUNER_ID": name})
        for name in ("chief", "worker-1")
    ]
    for name, value in {**environment, "KERASTUNER_TUNER_ID": "worker-2"}.items():
        monkeypatch.setenv(name, value)
    try:
        tune(tuning, TRAINING, batches, tmp_path / "search", volumes, resume=True)
        assert [process.wait(240) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    table = rows(tmp_path / "search")
    assert [row["status"] for row in table] == ["COMPLETED"] * 4
    configs = [
        TrainingConfig.from_json(path.read_text())
        for path in sorted((tmp_path / "search" / "trials").glob("trial_*/spec.json"))
    ]
    assert configs[0] == replace(TRAINING, threshold_objective=None)
    np.testing.assert_array_equal(
        [float(row["rotation_degrees"]) for row in table],
        [config.augmentation.rotation_degrees for config in configs],
    )


def test_trial_is_numbered_by_its_name() -> None:
    assert Trial("trial_07", "COMPLETED", 0.5, 1, 1.0, {}).number == 7
