"""The step of the mean teacher: the teacher, what the consistency compares, and the same losses on every backend."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest

from keras_scgm.adaptation import AdaptationConfig
from keras_scgm.adaptation.mean_teacher import MeanTeacher, StudentAndTeacher, consistency_loss, sharpened
from keras_scgm.augmentation import AugmentationConfig
from keras_scgm.training import TrainingConfig

CONFIG = AdaptationConfig(
    epochs=1,
    steps_per_epoch=4,
    synthetic_slices=1,
    real_slices=2,
    labelled_slices=1,
    ema_momentum=0.75,
    consistency_weight=2.0,
    temperature=1.0,
    ramp_up=0.5,
)
TRAINING = TrainingConfig(tissues=("gray_matter", "cord"), rate_per="step", epochs=1, steps_per_epoch=4)


def pointwise():
    """A network that sees single pixels, so that a flipped image has flipped probabilities."""
    slices = keras.Input((None, None, 1))
    found = keras.layers.Conv2D(2, 1, activation="sigmoid", name="predictions", kernel_initializer="ones")(
        slices
    )
    return keras.Model(slices, found)


def batch(labelled=False):
    rng = np.random.default_rng(0)
    inputs = {
        "synthetic": rng.normal(size=(1, 12, 12, 1)).astype(np.float32),
        "real": rng.normal(size=(2, 12, 12, 1)).astype(np.float32),
        "step": np.array([3], np.int32),
    }
    masks = {"synthetic": (rng.random((1, 12, 12, 2)) > 0.5).astype(np.float32)}
    if labelled:
        inputs["labelled"] = rng.normal(size=(1, 12, 12, 1)).astype(np.float32)
        masks["labelled"] = (rng.random((1, 12, 12, 1)) > 0.5).astype(np.float32)
    return inputs, masks


def model_of(**changes) -> StudentAndTeacher:
    config = replace(CONFIG, **changes)
    return MeanTeacher(config, np.zeros((1, 12, 12, 1), np.float32)).model(pointwise(), TRAINING)


def losses(model, inputs, masks):
    found = model({name: keras.ops.convert_to_tensor(array) for name, array in inputs.items()})
    total = model.compute_loss(inputs, masks, found)
    return float(total), *(float(mean.result()) for mean in model.means)


def test_what_is_flipped_alike_agrees():
    inputs, masks = batch()
    flips = AugmentationConfig(flip_left_right=1.0, flip_front_back=1.0)
    total, of_masks, consistency = losses(model_of(augmentation=flips), inputs, masks)
    assert consistency == pytest.approx(0, abs=1e-9)
    assert total == pytest.approx(of_masks)


def test_what_is_changed_disagrees_and_is_weighed_by_the_ramp():
    inputs, masks = batch()
    model = model_of(augmentation=AugmentationConfig(contrast=0.5, noise=0.5))
    for step, ramp in ((0, np.exp(-5)), (1, np.exp(-1.25)), (2, 1.0), (3, 1.0)):
        model.means[0].reset_state()
        model.means[1].reset_state()
        inputs["step"][0] = step
        total, of_masks, consistency = losses(model, inputs, masks)
        assert consistency > 1e-3
        assert total - of_masks == pytest.approx(2.0 * ramp * consistency, rel=1e-3)


def test_sharpened_targets_are_nearer_to_0_and_1():
    given = np.array([0.0, 0.1, 0.5, 0.8, 1.0], np.float32)
    # Odds 1/9 and 4 squared.
    np.testing.assert_allclose(sharpened(given, 0.5), [0, 1 / 82, 0.5, 16 / 17, 1], atol=1e-6)
    np.testing.assert_allclose(sharpened(given, 1.0), given, atol=1e-6)


def test_the_consistency_does_not_depend_on_what_lies_around():
    targets = np.zeros((1, 8, 8, 2), np.float32)
    targets[:, 2:4, 2:4, 0], targets[:, 1:6, 1:6, 1] = 1.0, 0.8
    found = targets * np.float32(0.5)
    # Sums of squared differences 1 and 4, of probabilities 4 and 20.
    assert float(consistency_loss(targets, found)) == pytest.approx((1 / 5 + 4 / 21) / 2)
    wider = [np.pad(array, ((0, 0), (9, 9), (9, 9), (0, 0))) for array in (targets, found)]
    assert float(consistency_loss(*wider)) == pytest.approx((1 / 5 + 4 / 21) / 2)


def test_labels_are_of_gray_matter_alone():
    inputs, masks = batch(labelled=True)
    none = losses(model_of(labelled_weight=0.0), inputs, masks)
    model = model_of(labelled_weight=2.0)
    with_labels = losses(model, inputs, masks)
    found = model.student(inputs["labelled"])[..., :1]
    assert with_labels[1] - none[1] == pytest.approx(
        2 * float(model.mask_loss(masks["labelled"], found)), rel=1e-4
    )


def test_the_teacher_is_the_average_of_the_student():
    inputs, masks = batch()
    model = model_of(augmentation=AugmentationConfig(noise=0.5))
    start = [array.copy() for array in model.student.get_weights()]
    model.train_on_batch(inputs, masks)
    # The teacher moves before the student does, to where it was after the step before.
    first = [array.copy() for array in model.student.get_weights()]
    assert not np.array_equal(first[0], start[0])
    for own, other in zip(model.teacher.get_weights(), start, strict=True):
        np.testing.assert_array_equal(own, other)
    model.train_on_batch(inputs, masks)
    for own, before, after in zip(model.teacher.get_weights(), start, first, strict=True):
        np.testing.assert_allclose(own, 0.75 * before + 0.25 * after, rtol=1e-5)
    judged = MeanTeacher(CONFIG, inputs["real"]).judged_weights(model, TRAINING)
    for own, other in zip(judged, model.teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(own, other)
    np.testing.assert_array_equal(model(inputs["real"]), model.teacher(inputs["real"]))


CHANGES = AugmentationConfig(rotation_degrees=9.0, contrast=0.5, noise=0.2, mask_interpolation="linear")
BACKEND = """
import json
from test_mean_teacher import three_steps
print(json.dumps(three_steps()))
"""


def three_steps():
    """What Keras logs of three steps."""
    model = model_of(augmentation=CHANGES)
    logs = [model.train_on_batch(*batch(labelled=True), return_dict=True) for _ in range(3)]
    return [[float(one[name]) for name in ("loss", "mask_loss", "consistency_loss")] for one in logs]


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_the_backends_agree(backend):
    pytest.importorskip(backend)
    here = os.path.dirname(__file__)
    environment = os.environ | {"KERAS_BACKEND": backend, "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    environment["PYTHONPATH"] = os.pathsep.join([here, *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", BACKEND], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    np.testing.assert_allclose(found, three_steps(), atol=1e-4)
