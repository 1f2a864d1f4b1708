"""The threshold that is chosen at the end of a training, against a direct search."""

import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from tiny_training import TINY

from keras_scgm import Segmenter
from keras_scgm.calibration import calibrate
from keras_scgm.calibration.threshold_counts import THRESHOLDS
from keras_scgm.datasets import AnnotatedVolume
from keras_scgm.dice import dice
from keras_scgm.files import sha256_of
from keras_scgm.pretrained import WeightsCard
from keras_scgm.segmentation import SegmentationConfig
from keras_scgm.slices import SliceConfig
from keras_scgm.training import validation
from keras_scgm.training.validation import choose_threshold


@pytest.fixture
def weights(tmp_path, ramp):
    """The file of `ramp`, with its card."""
    path = tmp_path / "run" / "best.keras"
    path.parent.mkdir()
    ramp.save(path)
    card = WeightsCard("run", "ramp", {}, path.name, sha256_of(path), slices=SliceConfig(0.5, 60))
    (path.parent / "best.json").write_text(card.to_json())
    return path


@pytest.fixture
def volume(tmp_path):
    """Noise in a dark field, of which a rater marked the brightest pixels."""
    rng = np.random.default_rng(0)
    middle = np.hypot(*(np.indices((60, 60)) - 29.5)) < 12
    image = np.where(middle[..., np.newaxis], rng.normal(size=(60, 60, 2)), -4).astype(np.float32)
    paths = tmp_path / "image.nii", tmp_path / "mask.nii"
    for path, data in zip(paths, (image, (image > 0.5).astype(np.float32)), strict=True):
        nib.save(nib.Nifti1Image(data, np.diag([-0.5, 0.5, 4.0, 1.0])), path)
    return AnnotatedVolume(paths[0], paths[1:], "sub-01")


def card_of(weights):
    return WeightsCard.from_json(weights.with_name("best.json").read_text())


def test_the_threshold_is_that_of_the_best_dice(weights, volume):
    probabilities = np.asarray(Segmenter(weights).segment(volume.image).probabilities.dataobj)
    mask = np.asarray(nib.load(volume.masks[0]).dataobj) > 0
    scores = [dice(probabilities > threshold, mask) for threshold in THRESHOLDS]
    best = THRESHOLDS[np.flatnonzero(np.isclose(scores, max(scores), rtol=0, atol=1e-9))]
    assert choose_threshold(weights, [volume], TINY) == ()
    card = card_of(weights)
    assert card.threshold == pytest.approx(best[len(best) // 2], rel=1e-4)
    assert card.threshold > 0.6
    assert card.scores[0]["value"] == pytest.approx(max(scores), abs=1e-4)
    assert {path.name for path in weights.parent.iterdir()} == {
        "best.keras",
        "best.json",
        "calibration.csv",
        "calibration.png",
    }
    # The paper's threshold stays within reach, on the network's grid.
    assert Segmenter(weights).threshold == card.threshold
    assert Segmenter(weights, SegmentationConfig(binarize="paper")).threshold == 0.999


def test_a_chosen_threshold_stays(weights, volume):
    choose_threshold(weights, [volume], TINY)
    before = {path: path.read_bytes() for path in weights.parent.iterdir()}
    assert choose_threshold(weights, [volume], replace(TINY, threshold_objective="area")) == ()
    assert {path: path.read_bytes() for path in weights.parent.iterdir()} == before


def test_the_threshold_has_its_objective(weights, volume):
    choose_threshold(weights, [volume], replace(TINY, threshold_objective="area"))
    assert card_of(weights).scores[0]["pipeline"].endswith("for area")


def test_a_threshold_at_the_end_of_the_range_is_not_taken(weights, volume, monkeypatch):
    monkeypatch.setattr(validation, "calibrate", lambda *given: replace(calibrate(*given), chosen=0))
    before = weights.with_name("best.json").read_text()
    (warning,) = choose_threshold(weights, [volume], TINY)
    assert warning.startswith("threshold not chosen: 4.5398e-05 was best, the end of the range")
    assert weights.with_name("best.json").read_text() == before


def test_masks_without_gray_matter_are_a_warning(weights, volume):
    nib.save(
        nib.Nifti1Image(np.zeros((60, 60, 2), np.uint8), np.diag([-0.5, 0.5, 4.0, 1.0])), volume.masks[0]
    )
    (warning,) = choose_threshold(weights, [volume], TINY)
    assert warning.startswith("threshold not chosen: ")
    assert "no gray matter in it" in warning
    assert json.loads(weights.with_name("best.json").read_text())["threshold"] == 0.5
