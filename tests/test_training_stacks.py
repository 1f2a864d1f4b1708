"""Stacks of neighbouring slices as samples of a training."""

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from tiny_training import TINY

from keras_scgm import InputError, segment
from keras_scgm.augmentation import AugmentationConfig
from keras_scgm.datasets import AnnotatedSlices
from keras_scgm.datasets.phantom import PhantomConfig, draw_subject
from keras_scgm.models import DilatedGMNet3D, load_network
from keras_scgm.pretrained import find_card
from keras_scgm.training import SliceBatches, SyntheticBatches, TrainingConfig, fine_tuned, train
from keras_scgm.training.network import build_network, training_copy
from keras_scgm.training.stacks import as_channels, as_stacks, shows_single, stack_indices

STACKS = replace(TINY, architecture="DilatedGMNet3D", batch_size=6, stack_slices=3)


def of_volumes(slices: AnnotatedSlices, volumes: list[int], stored: list[int]) -> AnnotatedSlices:
    return replace(slices, volume_indices=np.array(volumes), slice_indices=np.array(stored))


def single_and_whole(config: TrainingConfig) -> tuple[int, int]:
    """Steps of a batch of single slices, and of stacks."""
    single = [shows_single(config.seed, step) for step in range(200)]
    assert 5 < sum(single) < 40
    return single.index(True), single.index(False)


def test_a_stack_is_a_run_of_neighbours(drawn_slices: AnnotatedSlices) -> None:
    expected = [[0, 1, 2], [0, 1, 2], [1, 2, 3], [2, 3, 4], [2, 3, 4]]
    assert stack_indices(drawn_slices, 3).tolist() == expected
    # A file may be stored from the superior end.
    backwards = of_volumes(drawn_slices, [0] * 5, [4, 3, 2, 1, 0])
    assert stack_indices(backwards, 3).tolist() == expected
    two = of_volumes(drawn_slices, [0, 0, 1, 1, 1], [0, 1, 0, 1, 2])
    assert stack_indices(two, 2).tolist() == [[0, 1], [0, 1], [2, 3], [2, 3], [3, 4]]
    apart = of_volumes(drawn_slices, [0] * 5, [0, 1, 5, 6, 7])
    for slices in (two, apart):
        with pytest.raises(
            InputError, match=r"labels on 2 neighbouring slices, but stacks have 3; .*stack_slices"
        ):
            stack_indices(slices, 3)
    with pytest.raises(InputError, match="2 neighbouring slices"):
        list(SliceBatches(two).dataset(STACKS, 0))


def test_channels_and_back() -> None:
    stacks = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5, 1)
    np.testing.assert_array_equal(as_stacks(as_channels(stacks), single=False), stacks)
    np.testing.assert_array_equal(
        as_stacks(as_channels(stacks), single=True)[:, 0], stacks.reshape(6, 4, 5, 1)
    )


def test_all_slices_of_a_stack_are_moved_alike(drawn_slices: AnnotatedSlices) -> None:
    same = replace(
        drawn_slices,
        images=np.repeat(drawn_slices.images[:1], 5, axis=0),
        masks=np.repeat(drawn_slices.masks[:1], 5, axis=0),
    )
    moving = AugmentationConfig(
        rotation_degrees=20.0, shift_px=5.0, elastic_px=3.0, elastic_smoothness_px=8.0
    )
    config = replace(STACKS, augmentation=moving)
    _, step = single_and_whole(config)
    images, masks = next(SliceBatches(same).dataset(config, step).as_numpy_iterator())
    assert images.shape == masks.shape == (2, 3, 48, 48, 1)
    np.testing.assert_array_equal(images, np.broadcast_to(images[:, :1], images.shape))
    np.testing.assert_array_equal(masks, np.broadcast_to(masks[:, :1], masks.shape))
    assert np.abs(images[0] - images[1]).max() > 0.1
    assert np.abs(images[0, 0] - same.images[0]).max() > 0.1


@pytest.mark.parametrize("kind", ["slices", "drawn"])
def test_batches_hold_stacks_and_sometimes_single_slices(drawn_slices: AnnotatedSlices, kind: str) -> None:
    batches = SliceBatches(drawn_slices) if kind == "slices" else SyntheticBatches(48, small_windows=())
    single, whole = single_and_whole(STACKS)
    config = replace(STACKS, epochs=10)
    expected = {single: (6, 1, 48, 48, 1), whole: (2, 3, 48, 48, 1)}
    for step, shape in expected.items():
        images, masks = next(batches.dataset(config, step).as_numpy_iterator())
        again, _ = next(batches.dataset(config, step).as_numpy_iterator())
        assert images.shape == masks.shape == shape
        np.testing.assert_array_equal(images, again)
    assert batches.examples(config).shape[1:] == (3, 48, 48, 1)


def test_drawn_stacks_have_as_many_pixels_as_slices() -> None:
    batches = SyntheticBatches(40, small_windows=((24, 1.0),), full_share=0.0, full_from=0.75)
    config = replace(STACKS, tissues=("gray_matter", "cord"))
    shapes = [[array.shape for array in batches.batch(config, step)] for step in range(config.steps)]
    for step, (images, masks) in enumerate(shapes):
        # A stack of three windows of inference, or single ones.
        n_slices, side = 1 if shows_single(config.seed, step) else 3, 24 if step < 9 else 40
        assert images == (round(6 * (40 / side) ** 2 / n_slices), n_slices, side, side, 1)
        assert masks == (*images[:-1], 2)
    assert {images[1] for images, _ in shapes} == {1, 3}
    assert batches.batch(replace(config, batch_size=1), 10)[0].shape[0] == 1


def test_the_training_copy_computes_the_same_and_normalizes_as_keras_does() -> None:
    keras.utils.set_random_seed(0)
    network = DilatedGMNet3D(filters=2, dilation_rates=(6,), dropout=0.0, batch_norm_momentum=0.0)
    copy = training_copy(network, TrainingConfig())
    stacks = np.random.default_rng(0).normal(1.0, 3.0, size=(2, 3, 20, 24, 1)).astype(np.float32)
    np.testing.assert_allclose(copy(stacks), network(stacks), atol=1e-5)
    mixed = training_copy(network, TrainingConfig(mixed_precision=True))
    np.testing.assert_allclose(mixed(stacks), network(stacks), atol=0.05)
    assert mixed.get_layer("batch_normalization_7").compute_dtype == "bfloat16"
    np.testing.assert_allclose(copy(stacks, training=True), network(stacks, training=True), atol=1e-4)
    for kept, expected in zip(copy.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_allclose(kept, expected, rtol=1e-4, atol=1e-4)


def test_a_training_starts_from_weights_of_slices() -> None:
    config = fine_tuned(TrainingConfig(tissues=("gray_matter",)), "synthetic", "DilatedGMNet3D")
    assert config.architecture == "DilatedGMNet3D"
    kernel = build_network(config).get_layer("rate2_2").get_weights()[0]
    start = DilatedGMNet3D(weights="synthetic").get_layer("rate2_2").get_weights()[0]
    np.testing.assert_array_equal(kernel, start)
    with pytest.raises(
        InputError, match="--architecture DilatedGMNet3D: the weights synthetic_unet are of UNet"
    ):
        fine_tuned(config, "synthetic_unet", "DilatedGMNet3D")


def test_batches_that_devices_cannot_share_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keras_scgm.training.loop.device_count", lambda: 4)
    with pytest.raises(InputError, match="batch_size 8, 2 stacks of 3 slices, cannot be shared by 4 devices"):
        train(replace(STACKS, batch_size=8), SyntheticBatches(48), tmp_path / "out")


def test_a_trained_network_segments_a_volume(tmp_path: Path, drawn_slices: AnnotatedSlices) -> None:
    config = replace(STACKS, epochs=1, steps_per_epoch=2)
    result = train(config, SliceBatches(drawn_slices), tmp_path / "out")
    assert np.isfinite(result.history[0]["loss"])
    card = find_card(result.last)
    assert card is not None
    assert (card.architecture, card.training["stack_slices"]) == ("DilatedGMNet3D", 3)
    assert load_network(result.last)[0].input_shape == (None, None, None, None, 1)
    image = draw_subject(PhantomConfig(matrix_size=64, n_slices=3), seed=0).image
    assert segment(image, result.last).mask.shape == (64, 64, 3)
