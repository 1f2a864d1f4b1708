"""Batches of a training as functions of the seed and the step."""

from dataclasses import replace

import numpy as np
import pytest
from tiny_training import TINY

from keras_scgm.datasets import AnnotatedSlices
from keras_scgm.training import SliceBatches, SyntheticBatches, TrainingConfig


def test_every_slice_is_shown_once_before_any_returns(drawn_slices: AnnotatedSlices) -> None:
    batches = SliceBatches(drawn_slices)
    shown = [index for step in range(5) for index in batches.indices(TINY, step)]
    assert sorted(shown[:5]) == sorted(shown[5:]) == list(range(5))
    assert shown != [index for step in range(5) for index in batches.indices(replace(TINY, seed=1), step)]


@pytest.mark.parametrize("kind", ["slices", "drawn"])
def test_batches_depend_on_their_step_alone(drawn_slices: AnnotatedSlices, kind: str) -> None:
    batches = (
        SliceBatches(drawn_slices) if kind == "slices" else SyntheticBatches(40, small_windows=((24, 1.0),))
    )
    whole, rest = (list(batches.dataset(TINY, first_step=step).as_numpy_iterator()) for step in (0, 10))
    assert len(whole) == 12
    assert len(rest) == 2
    for (image, mask), (image_again, mask_again) in zip(whole[10:], rest, strict=True):
        np.testing.assert_array_equal(image, image_again)
        np.testing.assert_array_equal(mask, mask_again)


def test_drawn_batches_end_with_whole_windows() -> None:
    batches = SyntheticBatches(40, small_windows=((24, 1.0),), full_share=0.0, full_from=0.75)
    shapes = [batches.batch(TINY, step)[0].shape for step in range(TINY.steps)]
    assert shapes == [(6, 24, 24, 1)] * 9 + [(2, 40, 40, 1)] * 3
    assert SyntheticBatches(16).batch(TINY, 0)[0].shape == (2, 16, 16, 1)


@pytest.mark.parametrize("shares", [1, 2, 3, 8])
def test_no_slice_is_drawn_twice_whatever_the_devices(shares: int, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[range] = []

    def note(n: int, n_slices: int, seed: int, *, size: int, start: int, **_: object) -> np.ndarray:
        drawn.append(range(start, start + n))
        return np.zeros((3, n, n_slices, size, size), np.float32)

    monkeypatch.setattr("keras_scgm.training.batches.draw_stacks", note)
    config = TrainingConfig(epochs=1, steps_per_epoch=100, batch_size=4)
    for step in range(config.steps):
        SyntheticBatches().batch(config, step, shares)
    assert len({len(part) for part in drawn}) > 1
    assert all(len(part) % shares == 0 for part in drawn)
    numbers = [number for part in drawn for number in part]
    assert len(set(numbers)) == len(numbers)


def test_small_windows_suit_every_network_at_every_spacing() -> None:
    for spacing_mm in (0.2, 0.3, 0.37):
        batches = SyntheticBatches(160, spacing_mm=spacing_mm, full_share=0.0)
        sizes = {batches.batch(TINY, step)[0].shape[1] for step in range(2)}
        assert all(size % 8 == 0 for size in sizes)
