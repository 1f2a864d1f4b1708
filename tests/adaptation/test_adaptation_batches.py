"""Batches of an adaptation: functions of the seed and the step, around the cord, every scan alike."""

from dataclasses import replace

import numpy as np
import pytest
from tiny_adaptation import TINY

from keras_scgm.adaptation.batches import JITTER_PX, AdaptationBatches
from keras_scgm.adaptation.scans import RealSlices
from keras_scgm.augmentation import AugmentationConfig
from keras_scgm.datasets import AnnotatedSlices
from keras_scgm.datasets.phantom import DomainConfig
from keras_scgm.training import Batches, TrainingConfig

TRAINING = TrainingConfig(
    tissues=("gray_matter", "cord"), window_px=64, batch_size=1, epochs=1, steps_per_epoch=5, seed=4
)


@pytest.fixture
def real() -> RealSlices:
    """One slice of the first scan and nine of the second; a pixel tells its row, its column and its scan."""
    rows, columns = np.mgrid[:64, :64]
    images = np.stack([rows + 100.0 * columns + 10000.0 * min(k, 1) for k in range(10)])[..., None]
    centers = np.tile([40.0, 20.0], (10, 1))
    return RealSlices(images.astype(np.float32), centers, np.minimum(np.arange(10), 1), ("a", "b"))


def test_windows_lie_around_the_cord(real: RealSlices) -> None:
    batches = AdaptationBatches(TINY, real, None, 0.5)
    assert isinstance(batches, Batches)
    assert (batches.window_px, batches.crop_px) == (64, 32)
    crops = np.concatenate([batches.batch(TRAINING, step)[0]["real"] for step in range(40)])
    assert crops.shape == (80, 32, 32, 1)
    corner = crops[:, 0, 0, 0]
    scans, columns, rows = corner // 10000, corner % 10000 // 100, corner % 100
    # The middle of a window of 32 pixels is 15.5 pixels from its first; the window stays in the slice.
    assert (rows.min(), rows.max()) == (40 - 16 - JITTER_PX, 32)
    assert (columns.min(), columns.max()) == (0, 20 - 16 + JITTER_PX)
    assert 25 <= np.count_nonzero(scans == 0) <= 55
    np.testing.assert_array_equal(crops[:, 1, 0, 0] - corner, 1)


def test_a_step_is_always_the_same(real: RealSlices) -> None:
    batches = AdaptationBatches(TINY, real, None, 0.5)
    whole = list(batches.dataset(TRAINING, 0))
    assert len(whole) == 5
    for one, other in zip(whole[3:], batches.dataset(TRAINING, 3), strict=True):
        for part, part_again in zip(one, other, strict=True):
            for name, array in part.items():
                np.testing.assert_array_equal(array, part_again[name])
    assert [int(inputs["step"][0]) for inputs, _ in whole] == [0, 1, 2, 3, 4]
    inputs, masks = whole[0]
    assert inputs["synthetic"].shape == (1, 32, 32, 1)
    assert masks["synthetic"].shape == (1, 32, 32, 2)
    assert not np.array_equal(whole[0][0]["synthetic"], whole[1][0]["synthetic"])
    other = next(iter(batches.dataset(replace(TRAINING, seed=5), 0)))[0]
    assert not np.array_equal(other["synthetic"], inputs["synthetic"])


def test_labelled_slices_are_cut_around_the_gray_matter(real: RealSlices) -> None:
    images, masks = (np.zeros((1, 64, 64, 1), np.float32) for _ in range(2))
    images[0, 50:54, 30:34], masks[0, 50:54, 30:34] = 5.0, 1.0
    zeros = np.zeros(1, int)
    labelled = AnnotatedSlices(images, masks, zeros, zeros, zeros, "all", 0, 0.5, 0.0, ())
    moved = AugmentationConfig(shift_px=2.0, noise=0.1, mask_interpolation="linear")
    batches = AdaptationBatches(replace(TINY, augmentation=moved), real, labelled, 0.5)
    assert "and 1 labelled slice" in batches.what
    inputs, targets = batches.batch(TRAINING, 0)
    image, mask = inputs["labelled"][0, ..., 0], targets["labelled"][0, ..., 0]
    assert image.shape == mask.shape == (32, 32)
    assert mask.sum() == pytest.approx(16, abs=0.01)
    # Image and mask move alike.
    np.testing.assert_allclose(image, 5 * mask, atol=0.6)
    assert not np.array_equal(image, 5 * mask)


def test_examples_are_synthetic_and_real(real: RealSlices) -> None:
    batches = AdaptationBatches(TINY, real, None, 0.5, DomainConfig(empty=0.5))
    assert batches.examples(TRAINING).shape == (8, 32, 32, 1)
    assert batches.as_used(replace(TRAINING, spacing_mm=None)).spacing_mm == 0.5
