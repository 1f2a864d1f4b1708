"""Training: settings, order of the data, checkpoints, and going on after a kill."""

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

from keras_scgm.datasets import AnnotatedSlices, AnnotatedVolume, find_challenge, load_slices
from keras_scgm.datasets.phantom import PhantomConfig, draw_slices, write_challenge_dataset
from keras_scgm.errors import InputError
from keras_scgm.models import DilatedGMNet, load_network
from keras_scgm.slices import SliceConfig
from keras_scgm.training import PRESETS, Batches, DrawnBatches, SliceBatches, TrainingConfig, train
from keras_scgm.training.network import build_network, training_copy

TINY = TrainingConfig(
    model_kwargs={"filters": 2, "dilation_rates": (6,), "dropout": 0.2, "batch_norm_momentum": 0.9},
    window_px=48,
    epochs=3,
    steps_per_epoch=4,
    batch_size=2,
    ema_momentum=0.9,
    rate_per="step",
    cross_entropy_weight=1.0,
)


@pytest.fixture(scope="module")
def slices() -> AnnotatedSlices:
    images, masks = draw_slices(5, seed=1, size=48)
    images = (images - images.mean()) / images.std()
    numbers = np.arange(5)
    return AnnotatedSlices(
        images[..., None],
        masks[..., None],
        0 * numbers,
        0 * numbers,
        numbers,
        raters="all",
        seed=0,
        warnings=(),
    )


def _weights(path: Path) -> list[np.ndarray]:
    return load_network(path)[0].get_weights()


def test_presets_are_the_papers_protocol() -> None:
    challenge, exvivo = PRESETS["challenge"], PRESETS["exvivo"]
    assert (challenge.epochs, challenge.steps_per_epoch, challenge.batch_size) == (1000, 32, 11)
    assert (challenge.learning_rate, challenge.power, challenge.cross_entropy_weight) == (0.001, 0.9, 0)
    assert exvivo.epochs == 600
    network = DilatedGMNet(**challenge.model_kwargs)
    assert network.get_layer("dropout_1").rate == 0.4
    assert network.get_layer("batch_normalization_1").momentum == 0.1


@pytest.mark.parametrize("name", PRESETS)
def test_spec_survives_json(name: str) -> None:
    config = replace(PRESETS[name], frozen_layers=("conv2d_1",), model_kwargs={"dilation_rates": (6, 12)})
    assert TrainingConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("architecture", "ResNet", "architecture must be one of DilatedGMNet, UNet"),
        ("epochs", 0, "epochs must be an integer of at least 1, received 0"),
        ("window_px", 0, "window_px must be an integer of at least 1, received 0"),
        ("batch_size", 1.5, "batch_size must be an integer of at least 1, received 1.5"),
        ("learning_rate", -1.0, "learning_rate must be a number above 0, received -1.0"),
        ("rate_per", "day", "rate_per must be one of epoch, step, received 'day'"),
        ("cross_entropy_weight", -1.0, "cross_entropy_weight must be a number of at least 0, received -1.0"),
        ("ema_momentum", 1.0, "ema_momentum must be a number of at least 0 and below 1, received 1.0"),
        ("seed", -1, r"seed must be an integer from 0 to 4294967295, received -1"),
    ],
)
def test_spec_refuses_bad_values(field: str, value: object, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        TrainingConfig(**{field: value})


@pytest.mark.parametrize(
    ("text", "rule"), [("[]", "must be a JSON object"), ('{"epoch": 3}', "unknown fields .*: epoch; known")]
)
def test_spec_refuses_other_json(text: str, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        TrainingConfig.from_json(text)


def test_every_slice_is_shown_once_before_any_returns(slices: AnnotatedSlices) -> None:
    batches = SliceBatches(slices)
    shown = [index for step in range(5) for index in batches.indices(TINY, step)]
    assert sorted(shown[:5]) == sorted(shown[5:]) == list(range(5))
    assert shown != [index for step in range(5) for index in batches.indices(replace(TINY, seed=1), step)]


@pytest.mark.parametrize("kind", ["slices", "drawn"])
def test_batches_depend_on_their_step_alone(slices: AnnotatedSlices, kind: str) -> None:
    batches = SliceBatches(slices) if kind == "slices" else DrawnBatches(40, small_windows=((24, 1.0),))
    whole, rest = (list(batches.dataset(TINY, first_step=step).as_numpy_iterator()) for step in (0, 10))
    assert len(whole) == 12
    assert len(rest) == 2
    for (image, mask), (image_again, mask_again) in zip(whole[10:], rest, strict=True):
        np.testing.assert_array_equal(image, image_again)
        np.testing.assert_array_equal(mask, mask_again)


def test_drawn_batches_end_with_whole_windows() -> None:
    batches = DrawnBatches(40, small_windows=((20, 1.0),), full_share=0.0, full_from=0.75)
    shapes = [batches.batch(TINY, step)[0].shape for step in range(TINY.steps)]
    assert shapes == [(8, 20, 20, 1)] * 9 + [(2, 40, 40, 1)] * 3
    assert DrawnBatches(16).batch(TINY, 0)[0].shape == (2, 16, 16, 1)


def test_training_copy_computes_the_same() -> None:
    keras.utils.set_random_seed(0)
    network = DilatedGMNet(filters=2, dropout=0.0)
    copy = training_copy(network, TrainingConfig())
    image = np.random.default_rng(0).normal(size=(1, 50, 40, 1)).astype(np.float32)
    np.testing.assert_allclose(copy(image), network(image), atol=1e-5)
    mixed = training_copy(network, TrainingConfig(mixed_precision=True))
    np.testing.assert_allclose(mixed(image), network(image), atol=0.05)
    assert keras.backend.standardize_dtype(mixed(image).dtype) == "float32"
    assert mixed.get_layer("rate6_1").compute_dtype == "bfloat16"


@pytest.mark.parametrize("mixed", [False, True])
def test_training_copy_normalizes_batches_as_keras_does(mixed: bool) -> None:
    keras.utils.set_random_seed(0)
    network = DilatedGMNet(filters=2, dropout=0.0, batch_norm_momentum=0.0)
    copy = training_copy(network, TrainingConfig(mixed_precision=mixed))
    image = np.random.default_rng(0).normal(1.0, 3.0, size=(2, 50, 40, 1)).astype(np.float32)
    tolerance = 0.06 if mixed else 1e-4
    np.testing.assert_allclose(copy(image, training=True), network(image, training=True), atol=tolerance)
    last = "batch_normalization_13"
    for kept, expected in zip(copy.get_layer(last).weights, network.get_layer(last).weights, strict=True):
        assert kept.dtype == "float32"
        np.testing.assert_allclose(kept, expected, rtol=tolerance, atol=tolerance)


GRADIENTS = """
import keras
import numpy as np
from keras_scgm.losses import DiceLoss
from keras_scgm.models import DilatedGMNet
from keras_scgm.training import TrainingConfig
from keras_scgm.training.network import training_copy

keras.utils.set_random_seed(0)
network = DilatedGMNet(filters=2, dropout=0.0)
rng = np.random.default_rng(0)
for precision in ("float32", "mixed_bfloat16", "mixed_float16"):
    keras.config.set_dtype_policy(precision if precision == "mixed_float16" else "float32")
    start = DilatedGMNet(filters=2, dropout=0.0)
    start.set_weights(network.get_weights())
    for size in (1, 5, 40):
        images = rng.normal(size=(3, size, size, 1)).astype(np.float32)
        batch = images, np.float32(images > 0.5)
        after = []
        for model in (
            keras.models.clone_model(start),
            training_copy(start, TrainingConfig(mixed_precision=precision == "mixed_bfloat16")),
        ):
            model.set_weights(network.get_weights())
            model.compile(keras.optimizers.SGD(0.1), DiceLoss(), jit_compile=False)
            model.train_on_batch(*batch)
            after.append(np.concatenate([array.ravel() for array in model.get_weights()]))
        assert np.isfinite(after).all()
        # Statistics of nine numbers leave little to compare in half precision.
        if precision == "float32" or size == 40:
            difference = np.linalg.norm(after[1] - after[0]) / np.linalg.norm(after[0])
            assert difference < (1e-3 if precision == "float32" else 0.05), (precision, size, difference)
"""


@pytest.mark.parametrize("onednn", ["0", "1"])
def test_every_processor_trains_as_keras_does(onednn: str) -> None:
    process = subprocess.run(
        [sys.executable, "-c", GRADIENTS],
        env=os.environ | {"TF_ENABLE_ONEDNN_OPTS": onednn},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-2000:]


SAVED = """
import sys
import keras
import numpy as np

model = keras.saving.load_model(sys.argv[1], compile=False)
assert "keras_scgm" not in sys.modules
known = np.load(sys.argv[2])
print(np.abs(np.asarray(model(known["images"])) - known["probabilities"]).max())
import keras_scgm
assert isinstance(keras.saving.load_model(sys.argv[1]).loss, keras_scgm.DiceCrossEntropyLoss)
"""


@pytest.mark.parametrize("mixed", [False, True])
def test_a_callback_saves_the_plain_network(slices: AnnotatedSlices, tmp_path: Path, mixed: bool) -> None:
    trained: list[np.ndarray] = []

    class Watch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: object = None) -> None:
            trained[:] = [np.asarray(self.model(slices.images))]

    config = replace(TINY, epochs=1, mixed_precision=mixed)
    path, known = tmp_path / "whole.keras", tmp_path / "known.npz"
    train(config, SliceBatches(slices), tmp_path, callbacks=[keras.callbacks.ModelCheckpoint(path), Watch()])
    np.savez(known, images=slices.images, probabilities=trained[0])
    command = [sys.executable, "-c", SAVED, str(path), str(known)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr[-2000:]
    assert float(process.stdout) < (0.01 if mixed else 1e-4)
    network, _ = load_network(path)
    assert {type(layer).__module__.split(".")[0] for layer in network.layers} == {"keras"}


def test_training_leaves_weights_log_and_curves(slices: AnnotatedSlices, tmp_path: Path) -> None:
    result = train(TINY, SliceBatches(slices, what="drawings"), tmp_path)
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


def test_weights_are_averaged(slices: AnnotatedSlices, tmp_path: Path) -> None:
    config = replace(TINY, epochs=1, steps_per_epoch=2)
    averaged = train(config, SliceBatches(slices), tmp_path / "averaged")
    one = train(replace(config, ema_momentum=0.0), SliceBatches(slices), tmp_path / "one")
    assert not np.array_equal(_weights(averaged.last)[0], _weights(one.last)[0])


def test_resumed_training_ends_the_same(slices: AnnotatedSlices, tmp_path: Path) -> None:
    batches = SliceBatches(slices)
    whole = train(TINY, batches, tmp_path / "whole")

    class Interrupted(SliceBatches):
        def indices(self, config: TrainingConfig, step: int) -> list[int]:
            if step == 10:
                raise KeyboardInterrupt
            return super().indices(config, step)

    with pytest.raises(BaseException):  # noqa: B017, PT011 - whatever TensorFlow makes of the interruption
        train(TINY, Interrupted(slices), tmp_path / "parts")
    parts = train(TINY, batches, tmp_path / "parts", resume=True)
    for a, b in zip(_weights(whole.last), _weights(parts.last), strict=True):
        np.testing.assert_array_equal(a, b)
    names = [name for name in whole.history[0] if name != "seconds"]
    assert [[row[name] for name in names] for row in whole.history] == [
        [row[name] for name in names] for row in parts.history
    ]
    again = train(TINY, batches, tmp_path / "parts", resume=True)
    assert again.history == parts.history


KILLED = """
import sys
from pathlib import Path
from keras_scgm.training import DrawnBatches, TrainingConfig, train
config = TrainingConfig.from_json(Path(sys.argv[1]).read_text())
batches = DrawnBatches(48, small_windows=((32, 1.0),))
train(config, batches, sys.argv[2], resume=True)
"""


def test_killed_training_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    config = replace(TINY, epochs=12, steps_per_epoch=10)
    (tmp_path / "wanted.json").write_text(config.to_json())
    command = [sys.executable, "-c", KILLED, str(tmp_path / "wanted.json")]
    folder = tmp_path / "killed"
    process = subprocess.Popen([*command, str(folder)])
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
    for path in (folder, tmp_path / "whole"):
        subprocess.run([*command, str(path)], check=True)
    for a, b in zip(
        _weights(folder / "last.weights.h5"), _weights(tmp_path / "whole" / "last.weights.h5"), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_validation_is_of_whole_volumes(tmp_path: Path) -> None:
    sites = {1: PhantomConfig(spacing_mm=0.5, matrix_size=80, n_slices=2)}
    write_challenge_dataset(tmp_path / "data", subjects_per_site=1, raters=2, sites=sites)
    volumes = find_challenge(tmp_path / "data")
    slices = load_slices(volumes, SliceConfig(window_px=64))
    result = train(replace(TINY, epochs=1, window_px=64), SliceBatches(slices), tmp_path / "out", volumes)
    assert 0 <= result.history[0]["val_dsc"] <= 1
    assert load_network(result.best)[1].slices == {"spacing_mm": 0.25, "window_px": 64}
    with pytest.raises(InputError, match="window_px is 48, but the batches have windows of 64"):
        train(TINY, SliceBatches(slices), tmp_path / "other")
    assert (tmp_path / "out" / "samples.png").stat().st_size > 5000


def test_a_training_goes_on_with_its_own_data_only(slices: AnnotatedSlices, tmp_path: Path) -> None:
    site = PhantomConfig(spacing_mm=0.5, matrix_size=64, n_slices=1)
    write_challenge_dataset(tmp_path / "data", subjects_per_site=2, raters=1, sites={1: site})
    one, two = find_challenge(tmp_path / "data")
    config = replace(TINY, epochs=1)
    train(config, SliceBatches(slices), tmp_path / "out", [one])
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    def refused(batches: Batches, validation: list[AnnotatedVolume], difference: str) -> None:
        with pytest.raises(
            InputError, match=rf"state.npz: of another training, {difference}; give the same data"
        ):
            train(config, batches, tmp_path / "out", validation, resume=True)

    image = "site1-sc01-image.nii.gz"
    refused(SliceBatches(slices), [], rf"its validation volumes were 1 \({image}\), now they are 0 \(\)")
    refused(SliceBatches(slices), [one, two], rf"its validation volumes were 1 .* 2 \({image}, .*\)")
    refused(DrawnBatches(48), [one], "its data were annotated slices, now they are drawn anatomy only.*")
    changed = replace(slices, images=slices.images[::-1])
    refused(SliceBatches(changed), [one], "its data were other annotated slices")
    # As another processor resamples.
    rounded = replace(slices, images=slices.images + np.float32(1e-5))
    train(config, SliceBatches(rounded), tmp_path / "out", [one], resume=True)
    assert {path: path.read_bytes() for path in before if path.name != "samples.png"} == {
        path: content for path, content in before.items() if path.name != "samples.png"
    }


def test_frozen_layers_stay(slices: AnnotatedSlices, tmp_path: Path) -> None:
    first = train(replace(TINY, epochs=1, ema_momentum=0.0), SliceBatches(slices), tmp_path / "first")
    config = replace(
        TINY, epochs=1, ema_momentum=0.0, initial_weights=str(first.last), frozen_layers=("conv2d_1",)
    )
    second = train(config, SliceBatches(slices), tmp_path / "second")
    before, after = _weights(first.last), _weights(second.last)
    np.testing.assert_array_equal(before[0], after[0])
    assert not np.array_equal(before[-2], after[-2])


def test_tensorboard_is_optional(slices: AnnotatedSlices, tmp_path: Path) -> None:
    if find_spec("tensorboard") is None:
        with pytest.raises(InputError, match="pip install tensorboard"):
            train(TINY, SliceBatches(slices), tmp_path, tensorboard=True)
    else:
        train(replace(TINY, epochs=1), SliceBatches(slices), tmp_path, tensorboard=True)
        assert list((tmp_path / "tensorboard").rglob("events*"))


def test_training_on_masks_that_are_not_finite_keeps_nothing(slices: AnnotatedSlices, tmp_path: Path) -> None:
    with pytest.warns(RuntimeWarning, match="the network is dead: the loss is nan in epoch 1"):
        result = train(TINY, SliceBatches(replace(slices, masks=slices.masks * np.nan)), tmp_path)
    assert result.stopped is not None
    assert not result.last.exists()


# Where ReLU turns NaN into 0 the weights tell it, elsewhere the loss does.
@pytest.mark.filterwarnings("ignore:training stopped, the network is dead:RuntimeWarning")
def test_training_on_images_that_are_not_finite_keeps_nothing(
    slices: AnnotatedSlices, tmp_path: Path
) -> None:
    result = train(TINY, SliceBatches(replace(slices, images=slices.images * np.nan)), tmp_path)
    assert "not finite" in (result.stopped or "")
    assert not result.last.exists()


def test_folder_is_checked(slices: AnnotatedSlices, tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text(TINY.to_json())
    with pytest.raises(InputError, match="holds a training; go on with --resume"):
        train(TINY, SliceBatches(slices), tmp_path)
    with pytest.raises(InputError, match="another training than this one"):
        train(replace(TINY, seed=5), SliceBatches(slices), tmp_path, resume=True)
    (tmp_path / "state.npz").write_bytes(b"PK")
    with pytest.raises(InputError, match="damaged"):
        train(TINY, SliceBatches(slices), tmp_path, resume=True)
    with pytest.raises(InputError, match="has no layer conv9"):
        train(replace(TINY, frozen_layers=("conv9",)), SliceBatches(slices), tmp_path / "new")
    assert json.loads((tmp_path / "spec.json").read_text())["epochs"] == 3


def test_unknown_arguments_of_the_builder_are_refused() -> None:
    with pytest.raises(InputError, match=r"model_kwargs do not fit UNet: .*dilation_rates"):
        build_network(TrainingConfig("UNet", model_kwargs={"dilation_rates": (6,)}))


@pytest.mark.parametrize("shares", [1, 2, 3, 8])
def test_no_slice_is_drawn_twice_whatever_the_devices(shares: int, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[range] = []

    def note(n: int, seed: int, *, size: int, start: int, **_: object) -> tuple[np.ndarray, np.ndarray]:
        drawn.append(range(start, start + n))
        return np.zeros((n, size, size), np.float32), np.zeros((n, size, size), np.float32)

    monkeypatch.setattr("keras_scgm.training.batches.draw_slices", note)
    config = TrainingConfig(epochs=1, steps_per_epoch=100, batch_size=4)
    for step in range(config.steps):
        DrawnBatches().batch(config, step, shares)
    assert len({len(part) for part in drawn}) > 1
    assert all(len(part) % shares == 0 for part in drawn)
    numbers = [number for part in drawn for number in part]
    assert len(set(numbers)) == len(numbers)


ON_OTHER_HARDWARE = """
import sys
from pathlib import Path
import keras
import numpy as np

folder, n_devices = Path(sys.argv[1]), int(sys.argv[2])
if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    halves = [tf.config.LogicalDeviceConfiguration()] * n_devices
    tf.config.set_logical_device_configuration(cpu, halves)
else:
    sys.modules["tensorflow"] = None

from keras_scgm.augmentation import PRESETS, AugmentationConfig
from keras_scgm.datasets import AnnotatedSlices
from keras_scgm.training import SliceBatches, TrainingConfig, all_devices, train

# One slice repeated: every device's share has the statistics of the whole batch.
rng = np.random.default_rng(0)
image = np.repeat(rng.standard_normal((1, 24, 24, 1), np.float32), 4, axis=0)
mask = np.zeros_like(image)
mask[:, 8:16, 8:16] = 1
index = np.arange(4)
slices = AnnotatedSlices(image, mask, 0 * index, 0 * index, index, raters="all", seed=0, warnings=())
config = TrainingConfig(
    model_kwargs={"filters": 2, "dilation_rates": (6,), "dropout": 0.0}, window_px=24,
    epochs=1, steps_per_epoch=3, batch_size=4, cross_entropy_weight=100.0, ema_momentum=0.5,
    augmentation=PRESETS["none"] if n_devices > 1 else AugmentationConfig(rotation_degrees=10.0),
)
train(config, SliceBatches(slices), folder / "one")
assert (folder / "one" / "best.weights.h5").exists()
if n_devices > 1:
    with all_devices() as n:
        assert n == n_devices
        train(spec, SliceBatches(slices), folder / "shared")
"""


@pytest.mark.parametrize(("backend", "n_devices"), [("tensorflow", 2), ("jax", 2), ("jax", 1), ("torch", 1)])
def test_other_backends_and_several_devices(tmp_path: Path, backend: str, n_devices: int) -> None:
    if find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    environment = {
        "KERAS_BACKEND": backend,
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={n_devices}",
        # Two programs under way at once can take the threads that the devices of one wait for each other with.
        "JAX_CPU_ENABLE_ASYNC_DISPATCH": "0",
        "JAX_PLATFORMS": "cpu",
        "CUDA_VISIBLE_DEVICES": "",
    }
    process = subprocess.run(
        [sys.executable, "-c", ON_OTHER_HARDWARE, str(tmp_path), str(n_devices)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-2000:]
    if n_devices == 1:
        return
    states = [dict(np.load(tmp_path / name / "state.npz")) for name in ("one", "shared")]
    assert states[0].keys() == states[1].keys()
    paths = [tmp_path / name / "last.weights.h5" for name in ("one", "shared")]
    one, shared = (np.concatenate([array.ravel() for array in _weights(path)]) for path in paths)
    keras.utils.set_random_seed(0)
    start = DilatedGMNet(filters=2, dilation_rates=(6,), dropout=0.0).get_weights()
    moved = np.abs(one - np.concatenate([array.ravel() for array in start]))
    # Adam makes steps of one size even from gradients that are zero but for rounding.
    assert np.mean(np.abs(shared - one) < 2e-4) > 0.95
    assert np.mean(moved > 1e-3) > 0.5
