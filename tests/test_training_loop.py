"""The training loop and its checkpoints: files, resumption after a kill, refused folders and data."""

import csv
import io
import json
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import keras
import nibabel as nib
import numpy as np
import pytest
from matplotlib.figure import Figure
from tiny_training import TINY, run_until_killed, weights_of

from keras_scgm.datasets import AnnotatedSlices, AnnotatedVolume, find_challenge, load_slices
from keras_scgm.datasets.phantom import PhantomConfig, write_challenge_dataset
from keras_scgm.errors import InputError
from keras_scgm.models import UNet, load_network
from keras_scgm.pretrained import WeightsCard
from keras_scgm.segmentation import Segmenter
from keras_scgm.slices import SliceConfig
from keras_scgm.training import Batches, SliceBatches, SyntheticBatches, checkpoint, train
from keras_scgm.training.checkpoint import (
    NOT_HASHED,
    Data,
    data_hashes,
    finished_epochs,
    kept_config,
    load_state,
    save_weights,
)
from keras_scgm.training.loop import TrainingResult
from keras_scgm.training.network import build_network
from keras_scgm.training.validation import mean_volume_dice


@pytest.mark.parametrize("name", ["best.weights.h5", "best.keras"])
def test_weights_on_a_full_disk_are_an_error_and_leave_nothing(tmp_path, full_disk, name):
    card = WeightsCard("full", "UNet", {"filters": 2}, name, NOT_HASHED)
    with full_disk(), pytest.raises(InputError, match=r"writing failed \(File too large\); free space"):
        save_weights(tmp_path / name, UNet(filters=2), card)
    assert not list(tmp_path.iterdir())


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


class Watch(keras.callbacks.Callback):
    """Keeps the weights of the last epoch, and what the network finds with them."""

    def __init__(self, images: np.ndarray) -> None:
        super().__init__()
        self.images = images

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        self.weights = self.model.get_weights()
        self.found = np.asarray(self.model(self.images))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trained")


@pytest.fixture(scope="module")
def watch(drawn_slices: AnnotatedSlices) -> Watch:
    return Watch(drawn_slices.images)


@pytest.fixture(scope="module")
def trained(drawn_slices: AnnotatedSlices, folder: Path, watch: Watch) -> TrainingResult:
    """A training with all that it can write but validation."""
    return train(
        TINY,
        SliceBatches(drawn_slices, what="drawings"),
        folder,
        tensorboard=find_spec("tensorboard") is not None,
        callbacks=[keras.callbacks.ModelCheckpoint(folder / "plain.keras"), watch],
    )


def test_a_callback_saves_the_plain_network(
    drawn_slices: AnnotatedSlices, trained: TrainingResult, folder: Path, watch: Watch, tmp_path: Path
) -> None:
    paths = [folder / "plain.keras", tmp_path / "mixed.keras"]
    watch_mixed = Watch(drawn_slices.images)
    train(
        replace(TINY, epochs=1, mixed_precision=True),
        SliceBatches(drawn_slices),
        tmp_path / "mixed",
        callbacks=[keras.callbacks.ModelCheckpoint(paths[1]), watch_mixed],
    )
    for path in paths:
        network, _ = load_network(path)
        assert {type(layer).__module__.split(".")[0] for layer in network.layers} == {"keras"}
    known = tmp_path / "known.npz"
    np.savez(known, images=drawn_slices.images, probabilities=[watch.found, watch_mixed.found])
    command = [sys.executable, "-c", SAVED, str(known), *map(str, paths)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr[-2000:]
    plain, mixed = map(float, process.stdout.split())
    assert plain < 1e-4
    assert mixed < 0.01


def test_ticks_of_the_curves_are_epochs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Figure] = []
    monkeypatch.setattr(checkpoint, "write_figure", lambda path, figure: figures.append(figure))
    for n_epochs in (1, 3):
        checkpoint.write_log(tmp_path, [{"epoch": epoch + 1, "loss": 1.0} for epoch in range(n_epochs)])
        (axes,) = figures.pop().axes
        low, high = axes.get_xlim()
        assert [tick for tick in axes.get_xticks() if low <= tick <= high] == [*range(1, n_epochs + 1)]


def test_training_leaves_weights_log_and_curves(trained: TrainingResult, folder: Path) -> None:
    assert trained.stopped is None
    assert trained.history[-1]["loss"] < trained.history[0]["loss"]
    with (folder / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert float(rows[1]["learning_rate"]) == pytest.approx(0.001 * (1 - 7 / 12) ** 0.9)
    assert (folder / "curves.png").stat().st_size > 5000
    network, card = load_network(trained.best)
    assert card.data == "drawings"
    assert network.get_layer("dropout_1").rate == 0.2
    assert not list(folder.glob(".*"))


def test_weights_are_averaged(trained: TrainingResult, watch: Watch) -> None:
    assert not np.array_equal(weights_of(trained.last)[0], watch.weights[0])


@pytest.mark.usefixtures("untraced")
def test_training_in_float16_goes_on_to_more_epochs(drawn_slices: AnnotatedSlices, tmp_path: Path) -> None:
    config = replace(TINY, steps_per_epoch=2)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        first = train(replace(config, epochs=1), SliceBatches(drawn_slices), tmp_path)
        more = train(config, SliceBatches(drawn_slices), tmp_path, resume=True)
    finally:
        keras.config.set_dtype_policy(before)
    assert more.history[:1] == first.history
    assert [row["epoch"] for row in more.history] == [1, 2, 3]
    assert more.history[1]["learning_rate"] == pytest.approx(0.001 * (1 - 3 / 6) ** 0.9)
    assert kept_config(tmp_path) == config


KILLED = """
import sys
from tiny_training import TINY, Killed
from keras_scgm.training import SyntheticBatches, train
train(TINY, SyntheticBatches(48, small_windows=((32, 1.0),)), sys.argv[1], callbacks=[Killed(6)])
"""


def test_killed_training_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    run_until_killed(KILLED, folder)
    # In the middle of the second epoch.
    assert len((folder / "log.csv").read_text().splitlines()) == 1 + 1
    batches = SyntheticBatches(48, small_windows=((32, 1.0),))
    resumed = train(TINY, batches, folder, resume=True)
    whole = train(TINY, batches, tmp_path / "whole")
    for a, b in zip(weights_of(resumed.last), weights_of(whole.last), strict=True):
        np.testing.assert_array_equal(a, b)
    assert [{**row, "seconds": 0} for row in resumed.history] == [
        {**row, "seconds": 0} for row in whole.history
    ]
    again = train(TINY, batches, folder, resume=True)
    assert again.history == resumed.history


@pytest.mark.usefixtures("untraced")
def test_the_card_says_what_the_slices_are(tmp_path: Path) -> None:
    """Slices of 0.5 mm: the card, validation and segmentation have them too."""
    site = PhantomConfig(spacing_mm=0.5, matrix_size=80, n_slices=2)
    write_challenge_dataset(tmp_path / "data", subjects_per_site=1, raters=2, sites={1: site})
    volumes = find_challenge(tmp_path / "data")
    slices = load_slices(volumes, SliceConfig(spacing_mm=0.5, window_px=48), "mean", 0.7)
    config = replace(TINY, epochs=1, threshold_objective=None)
    with pytest.raises(InputError, match=r"spacing_mm is 0.25, but the batches have pixels of 0.5 mm"):
        train(config, SliceBatches(slices), tmp_path / "other")
    with pytest.raises(InputError, match="window_px is 64, but the batches have windows of 48"):
        train(replace(config, window_px=64), SliceBatches(slices), tmp_path / "other")
    assert not (tmp_path / "other").exists()
    result = train(replace(config, spacing_mm=None), SliceBatches(slices), tmp_path / "out", volumes)
    card = load_network(result.best)[1]
    assert card.slices == SliceConfig(spacing_mm=0.5, window_px=48)
    expected = replace(config, spacing_mm=0.5, contour_smoothing_mm=0.7)
    assert card.training == json.loads(expected.to_json())
    assert Segmenter(result.best).networks.config == SliceConfig(spacing_mm=0.5, window_px=48)
    assert card.threshold == 0.5
    assert result.history[0]["val_dsc"] == pytest.approx(mean_volume_dice(result.best, volumes))
    assert (tmp_path / "out" / "samples.png").stat().st_size > 5000


def test_a_corrected_mask_and_other_initial_weights_are_noticed(
    drawn_slices: AnnotatedSlices, tmp_path: Path
) -> None:
    site = PhantomConfig(spacing_mm=0.5, matrix_size=64, n_slices=1)
    write_challenge_dataset(tmp_path, subjects_per_site=1, raters=1, sites={1: site})
    (volume,) = find_challenge(tmp_path)
    weights, network = tmp_path / "start.weights.h5", build_network(TINY)
    config = replace(TINY, initial_weights=str(weights))
    image = nib.load(volume.masks[0])
    voxels = np.array(image.dataobj)

    def hashes() -> dict[str, str]:
        nib.save(nib.Nifti1Image(voxels, image.affine), volume.masks[0])
        network.save_weights(weights)
        return data_hashes(config, SliceBatches(drawn_slices), [volume])

    before = hashes()
    assert hashes() == before
    voxels[tuple(np.argwhere(voxels == 1)[0])] = 0
    network.set_weights([array + 1e-3 for array in network.get_weights()])
    changed = [name for name, sha256 in hashes().items() if before[name] != sha256]
    assert changed == ["validation masks", "initial weights"]


@pytest.mark.usefixtures("untraced")
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
    refused(
        SliceBatches(replace(drawn_slices, labels_sha256="0" * 64)), [one], "its training masks were others"
    )
    # As another processor resamples.
    rounded = replace(drawn_slices, images=drawn_slices.images + np.float32(1e-5))
    train(config, SliceBatches(rounded), tmp_path / "out", [one], resume=True)
    assert {path: path.read_bytes() for path in before if path.name != "samples.png"} == {
        path: content for path, content in before.items() if path.name != "samples.png"
    }


def test_tensorboard_is_optional(
    drawn_slices: AnnotatedSlices, trained: TrainingResult, folder: Path, tmp_path: Path
) -> None:
    if find_spec("tensorboard") is None:
        with pytest.raises(InputError, match="pip install tensorboard"):
            train(TINY, SliceBatches(drawn_slices), tmp_path, tensorboard=True)
    else:
        assert list((folder / "tensorboard").rglob("events*"))


@pytest.mark.usefixtures("untraced")
def test_training_on_masks_that_are_not_finite_keeps_nothing(
    drawn_slices: AnnotatedSlices, tmp_path: Path
) -> None:
    with pytest.warns(RuntimeWarning, match="the network has collapsed: the loss is nan in epoch 1"):
        result = train(TINY, SliceBatches(replace(drawn_slices, masks=drawn_slices.masks * np.nan)), tmp_path)
    assert result.stopped is not None
    assert not result.last.exists()


# Where ReLU turns NaN into 0 the weights tell it, elsewhere the loss does.
@pytest.mark.filterwarnings("ignore:training stopped, the network has collapsed:RuntimeWarning")
@pytest.mark.usefixtures("untraced")
def test_training_on_images_that_are_not_finite_keeps_nothing(
    drawn_slices: AnnotatedSlices, tmp_path: Path
) -> None:
    result = train(TINY, SliceBatches(replace(drawn_slices, images=drawn_slices.images * np.nan)), tmp_path)
    assert "not finite" in (result.stopped or "")
    assert not result.last.exists()


@pytest.mark.parametrize("kept", [0, 2, 100, -1])
def test_a_state_that_is_cut_short_is_damaged(tmp_path, kept):
    whole = io.BytesIO()
    np.savez(whole, np.zeros(9), words=np.array('{"history": []}'))
    (tmp_path / "state.npz").write_bytes(whole.getvalue()[:kept])
    nothing = Data("", np.zeros(0), (), {})
    with pytest.raises(InputError, match=r"state.npz: damaged \(.+\); train again in another folder$"):
        load_state(tmp_path, keras.Sequential(), nothing)
    assert finished_epochs(tmp_path) == 0


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


@pytest.mark.usefixtures("untraced")
def test_a_start_that_fails_leaves_nothing(drawn_slices: AnnotatedSlices, tmp_path: Path) -> None:
    lost = AnnotatedVolume(tmp_path / "lost.nii", (tmp_path / "mask.nii",), "lost")
    with pytest.raises(InputError, match="no stage or layer 'conv9' to freeze; its stages: conv2d, rate2"):
        train(replace(TINY, frozen_layers=("conv9",)), SliceBatches(drawn_slices), tmp_path / "new")
    with pytest.raises(
        InputError, match=r"lost.nii: no such file; check the path; 1 more of 2 files are missing"
    ):
        train(TINY, SliceBatches(drawn_slices), tmp_path / "new", [lost])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("untraced")
def test_a_training_without_a_finished_epoch_may_be_corrected(
    drawn_slices: AnnotatedSlices, tmp_path: Path
) -> None:
    (tmp_path / "spec.json").write_text(TINY.to_json())
    train(replace(TINY, epochs=1, seed=5), SliceBatches(drawn_slices), tmp_path)
    kept = kept_config(tmp_path)
    assert kept is not None
    assert (kept.seed, finished_epochs(tmp_path)) == (5, 1)
