"""The training loop and its checkpoints: files, resumption after a kill, refused folders and data."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import keras
import numpy as np
import pytest
from tiny_training import TINY, weights_of

from keras_scgm.datasets import AnnotatedSlices, AnnotatedVolume, find_challenge, load_slices
from keras_scgm.datasets.phantom import PhantomConfig, write_challenge_dataset
from keras_scgm.errors import InputError
from keras_scgm.models import load_network
from keras_scgm.segmentation import Segmenter
from keras_scgm.slices import SliceConfig
from keras_scgm.training import Batches, SliceBatches, SyntheticBatches, TrainingConfig, train
from keras_scgm.training.checkpoint import finished_epochs, kept_config
from keras_scgm.training.validation import mean_volume_dice

SAVED = """
import sys
import keras
import numpy as np

networks = [keras.saving.load_model(path, compile=False) for path in sys.argv[2:]]
assert "keras_scgm" not in sys.modules
known = np.load(sys.argv[1])
for model, probabilities in zip(networks, known["probabilities"], strict=True):
    print(np.abs(np.asarray(model(known["images"])) - probabilities).max())
import keras_scgm
for path in sys.argv[2:]:
    assert isinstance(keras.saving.load_model(path).loss, keras_scgm.DiceCrossEntropyLoss)
"""


def test_a_callback_saves_the_plain_network(drawn_slices: AnnotatedSlices, tmp_path: Path) -> None:
    trained: list[np.ndarray] = []

    class Watch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: object = None) -> None:
            trained.append(np.asarray(self.model(drawn_slices.images)))

    paths = [tmp_path / "plain.keras", tmp_path / "mixed.keras"]
    for path, mixed in zip(paths, (False, True), strict=True):
        train(
            replace(TINY, epochs=1, mixed_precision=mixed),
            SliceBatches(drawn_slices),
            tmp_path / path.stem,
            callbacks=[keras.callbacks.ModelCheckpoint(path), Watch()],
        )
        network, _ = load_network(path)
        assert {type(layer).__module__.split(".")[0] for layer in network.layers} == {"keras"}
    known = tmp_path / "known.npz"
    np.savez(known, images=drawn_slices.images, probabilities=trained)
    command = [sys.executable, "-c", SAVED, str(known), *map(str, paths)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr[-2000:]
    plain, mixed = map(float, process.stdout.split())
    assert plain < 1e-4
    assert mixed < 0.01


def test_training_leaves_weights_log_and_curves(drawn_slices: AnnotatedSlices, tmp_path: Path) -> None:
    result = train(TINY, SliceBatches(drawn_slices, what="drawings"), tmp_path)
    assert result.stopped is None
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert float(rows[1]["learning_rate"]) == pytest.approx(0.001 * (1 - 7 / 12) ** 0.9)
    assert (tmp_path / "curves.png").stat().st_size > 5000
    network, card = load_network(result.best)
    assert card.data == "drawings"
    assert network.get_layer("dropout_1").rate == 0.2
    assert not list(tmp_path.glob(".*"))


def test_weights_are_averaged(drawn_slices: AnnotatedSlices, tmp_path: Path) -> None:
    config = replace(TINY, epochs=1, steps_per_epoch=2)
    averaged = train(config, SliceBatches(drawn_slices), tmp_path / "averaged")
    one = train(replace(config, ema_momentum=0.0), SliceBatches(drawn_slices), tmp_path / "one")
    assert not np.array_equal(weights_of(averaged.last)[0], weights_of(one.last)[0])


def test_resumed_training_ends_the_same(drawn_slices: AnnotatedSlices, tmp_path: Path) -> None:
    batches = SliceBatches(drawn_slices)
    whole = train(TINY, batches, tmp_path / "whole")

    class Interrupted(SliceBatches):
        def indices(self, config: TrainingConfig, step: int) -> list[int]:
            if step == 10:
                raise KeyboardInterrupt
            return super().indices(config, step)

    with pytest.raises(BaseException):  # noqa: B017, PT011 - whatever TensorFlow makes of the interruption
        train(TINY, Interrupted(drawn_slices), tmp_path / "parts")
    parts = train(TINY, batches, tmp_path / "parts", resume=True)
    for a, b in zip(weights_of(whole.last), weights_of(parts.last), strict=True):
        np.testing.assert_array_equal(a, b)
    names = [name for name in whole.history[0] if name != "seconds"]
    assert [[row[name] for name in names] for row in whole.history] == [
        [row[name] for name in names] for row in parts.history
    ]
    again = train(TINY, batches, tmp_path / "parts", resume=True)
    assert again.history == parts.history


def test_training_in_float16_goes_on(drawn_slices: AnnotatedSlices, tmp_path: Path) -> None:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        first = train(replace(TINY, epochs=1), SliceBatches(drawn_slices), tmp_path)
        more = train(replace(TINY, epochs=2), SliceBatches(drawn_slices), tmp_path, resume=True)
    finally:
        keras.config.set_dtype_policy(before)
    assert more.history[:1] == first.history
    assert len(more.history) == 2


KILLED = """
import sys
from pathlib import Path
from keras_scgm.training import SyntheticBatches, TrainingConfig, train
config = TrainingConfig.from_json(Path(sys.argv[1]).read_text())
train(config, SyntheticBatches(48, small_windows=((32, 1.0),)), sys.argv[2])
"""


def test_killed_training_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    config = replace(TINY, epochs=4, steps_per_epoch=12)
    (tmp_path / "wanted.json").write_text(config.to_json())
    folder = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / "wanted.json"), str(folder)])
    try:
        deadline = time.monotonic() + 120
        while not (folder / "state.npz").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(0.05)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert len((folder / "log.csv").read_text().splitlines()) < 1 + config.epochs
    batches = SyntheticBatches(48, small_windows=((32, 1.0),))
    resumed = train(config, batches, folder, resume=True)
    whole = train(config, batches, tmp_path / "whole")
    for a, b in zip(weights_of(resumed.last), weights_of(whole.last), strict=True):
        np.testing.assert_array_equal(a, b)


def test_validation_is_of_whole_volumes(tmp_path: Path) -> None:
    sites = {1: PhantomConfig(spacing_mm=0.5, matrix_size=80, n_slices=2)}
    write_challenge_dataset(tmp_path / "data", subjects_per_site=1, raters=2, sites=sites)
    volumes = find_challenge(tmp_path / "data")
    slices = load_slices(volumes, SliceConfig(window_px=64))
    result = train(replace(TINY, epochs=1, window_px=64), SliceBatches(slices), tmp_path / "out", volumes)
    assert 0 <= result.history[0]["val_dsc"] <= 1
    card = load_network(result.best)[1]
    assert card.slices == {"spacing_mm": 0.25, "window_px": 64}
    assert card.training == json.loads(replace(TINY, epochs=1, window_px=64).to_json())
    with pytest.raises(InputError, match="window_px is 48, but the batches have windows of 64"):
        train(TINY, SliceBatches(slices), tmp_path / "other")
    assert (tmp_path / "out" / "samples.png").stat().st_size > 5000


def test_the_card_says_what_the_slices_are(tmp_path: Path) -> None:
    """Slices of 0.5 mm: the card, validation and segmentation have them too."""
    site = PhantomConfig(spacing_mm=0.5, matrix_size=80, n_slices=2)
    write_challenge_dataset(tmp_path / "data", subjects_per_site=1, raters=2, sites={1: site})
    volumes = find_challenge(tmp_path / "data")
    slices = load_slices(volumes, SliceConfig(spacing_mm=0.5, window_px=48), "mean", 0.7)
    config = replace(TINY, epochs=1, threshold_objective=None)
    with pytest.raises(InputError, match=r"spacing_mm is 0.25, but the batches have pixels of 0.5 mm"):
        train(config, SliceBatches(slices), tmp_path / "other")
    assert not (tmp_path / "other").exists()
    result = train(replace(config, spacing_mm=None), SliceBatches(slices), tmp_path / "out", volumes)
    card = load_network(result.best)[1]
    assert card.slices == {"spacing_mm": 0.5, "window_px": 48}
    assert (card.training["spacing_mm"], card.training["contour_smoothing_mm"]) == (0.5, 0.7)
    assert Segmenter(result.best).networks.config == SliceConfig(spacing_mm=0.5, window_px=48)
    assert card.threshold == 0.5
    assert result.history[0]["val_dsc"] == pytest.approx(mean_volume_dice(result.best, volumes))


def test_a_training_goes_on_with_its_own_data_only(drawn_slices: AnnotatedSlices, tmp_path: Path) -> None:
    site = PhantomConfig(spacing_mm=0.5, matrix_size=64, n_slices=1)
    write_challenge_dataset(tmp_path / "data", subjects_per_site=2, raters=1, sites={1: site})
    one, two = find_challenge(tmp_path / "data")
    config = replace(TINY, epochs=1)
    train(config, SliceBatches(drawn_slices), tmp_path / "out", [one])
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    def refused(batches: Batches, validation: list[AnnotatedVolume], difference: str) -> None:
        with pytest.raises(
            InputError, match=rf"state.npz: of another training, {difference}; give the same data"
        ):
            train(config, batches, tmp_path / "out", validation, resume=True)

    image = "site1-sc01-image.nii.gz"
    refused(
        SliceBatches(drawn_slices), [], rf"its validation volumes were 1 \({image}\), now they are 0 \(\)"
    )
    refused(SliceBatches(drawn_slices), [one, two], rf"its validation volumes were 1 .* 2 \({image}, .*\)")
    refused(SyntheticBatches(48), [one], "its data were annotated slices, now they are drawn anatomy only.*")
    changed = replace(drawn_slices, images=drawn_slices.images[::-1])
    refused(SliceBatches(changed), [one], "its data were other annotated slices")
    # As another processor resamples.
    rounded = replace(drawn_slices, images=drawn_slices.images + np.float32(1e-5))
    train(config, SliceBatches(rounded), tmp_path / "out", [one], resume=True)
    assert {path: path.read_bytes() for path in before if path.name != "samples.png"} == {
        path: content for path, content in before.items() if path.name != "samples.png"
    }


def test_frozen_layers_stay(drawn_slices: AnnotatedSlices, tmp_path: Path) -> None:
    first = train(replace(TINY, epochs=1, ema_momentum=0.0), SliceBatches(drawn_slices), tmp_path / "first")
    config = replace(
        TINY, epochs=1, ema_momentum=0.0, initial_weights=str(first.last), frozen_layers=("conv2d_1",)
    )
    second = train(config, SliceBatches(drawn_slices), tmp_path / "second")
    before, after = weights_of(first.last), weights_of(second.last)
    np.testing.assert_array_equal(before[0], after[0])
    assert not np.array_equal(before[-2], after[-2])


def test_tensorboard_is_optional(drawn_slices: AnnotatedSlices, tmp_path: Path) -> None:
    if find_spec("tensorboard") is None:
        with pytest.raises(InputError, match="pip install tensorboard"):
            train(TINY, SliceBatches(drawn_slices), tmp_path, tensorboard=True)
    else:
        train(replace(TINY, epochs=1), SliceBatches(drawn_slices), tmp_path, tensorboard=True)
        assert list((tmp_path / "tensorboard").rglob("events*"))


def test_training_on_masks_that_are_not_finite_keeps_nothing(
    drawn_slices: AnnotatedSlices, tmp_path: Path
) -> None:
    with pytest.warns(RuntimeWarning, match="the network has collapsed: the loss is nan in epoch 1"):
        result = train(TINY, SliceBatches(replace(drawn_slices, masks=drawn_slices.masks * np.nan)), tmp_path)
    assert result.stopped is not None
    assert not result.last.exists()


# Where ReLU turns NaN into 0 the weights tell it, elsewhere the loss does.
@pytest.mark.filterwarnings("ignore:training stopped, the network has collapsed:RuntimeWarning")
def test_training_on_images_that_are_not_finite_keeps_nothing(
    drawn_slices: AnnotatedSlices, tmp_path: Path
) -> None:
    result = train(TINY, SliceBatches(replace(drawn_slices, images=drawn_slices.images * np.nan)), tmp_path)
    assert "not finite" in (result.stopped or "")
    assert not result.last.exists()


def test_folder_is_checked(drawn_slices: AnnotatedSlices, tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text(TINY.to_json())
    (tmp_path / "state.npz").write_bytes(b"PK")
    with pytest.raises(InputError, match="holds a training; go on with --resume"):
        train(TINY, SliceBatches(drawn_slices), tmp_path)
    augmentation = replace(TINY.augmentation, noise=0.5)
    changed = replace(TINY, seed=5, augmentation=augmentation, model_kwargs={"filters": 2})
    with pytest.raises(InputError) as refused:
        train(changed, SliceBatches(drawn_slices), tmp_path, resume=True)
    assert str(refused.value) == (
        f"{tmp_path}/spec.json: another training, model_kwargs.dilation_rates was [6], now not given; "
        "model_kwargs.dropout was 0.2, now not given; model_kwargs.batch_norm_momentum was 0.9, now not given; "
        f"augmentation.noise was {TINY.augmentation.noise}, now 0.5; seed was 0, now 5; leave the setting as it was, "
        "or choose another folder"
    )
    with pytest.raises(InputError, match="epochs was 3, now 2; a training that goes on may have more epochs"):
        train(replace(TINY, epochs=2), SliceBatches(drawn_slices), tmp_path, resume=True)
    with pytest.raises(InputError, match="damaged"):
        train(TINY, SliceBatches(drawn_slices), tmp_path, resume=True)
    (tmp_path / "spec.json").unlink()
    with pytest.raises(InputError, match=r"spec.json: missing"):
        train(TINY, SliceBatches(drawn_slices), tmp_path, resume=True)


def test_a_start_that_fails_leaves_nothing(drawn_slices: AnnotatedSlices, tmp_path: Path) -> None:
    lost = AnnotatedVolume(tmp_path / "lost.nii", (tmp_path / "mask.nii",), "lost")
    with pytest.raises(InputError, match="no stage or layer 'conv9' to freeze; its stages: conv2d, rate2"):
        train(replace(TINY, frozen_layers=("conv9",)), SliceBatches(drawn_slices), tmp_path / "new")
    with pytest.raises(
        InputError, match=r"lost.nii: no such file; check the path; 1 more of 2 files are missing"
    ):
        train(TINY, SliceBatches(drawn_slices), tmp_path / "new", [lost])
    assert list(tmp_path.iterdir()) == []


def test_a_training_without_a_finished_epoch_may_be_corrected(
    drawn_slices: AnnotatedSlices, tmp_path: Path
) -> None:
    (tmp_path / "spec.json").write_text(TINY.to_json())
    train(replace(TINY, epochs=1, seed=5), SliceBatches(drawn_slices), tmp_path)
    kept = kept_config(tmp_path)
    assert kept is not None
    assert (kept.seed, finished_epochs(tmp_path)) == (5, 1)


def test_more_epochs_go_on_from_those_that_are_done(drawn_slices: AnnotatedSlices, tmp_path: Path) -> None:
    first = train(replace(TINY, epochs=1), SliceBatches(drawn_slices), tmp_path)
    more = train(TINY, SliceBatches(drawn_slices), tmp_path, resume=True)
    assert more.history[:1] == first.history
    assert [row["epoch"] for row in more.history] == [1, 2, 3]
    assert more.history[1]["learning_rate"] == pytest.approx(0.001 * (1 - 7 / 12) ** 0.9)
    assert kept_config(tmp_path) == TINY
