"""Mean teacher: a student that learns to find in changed images what its running average finds in the unchanged ones.

Tarvainen and Valpola 2017 (arXiv 1703.01780) average the weights of the student into a teacher and ask both for the
same answer under different noise. Perone and Cohen-Adad 2018 (arXiv 1807.04657) took it to gray matter segmentation,
where a change of geometry has to be applied to the teacher's answer as well, and Perone et al. 2019 (arXiv 1811.06042)
to scanners without any label.
"""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_scgm.adaptation.config import AdaptationConfig
from keras_scgm.adaptation.normalization import (
    adapt_statistics,
    normalization_layers,
    normalize_by_domain,
    statistics,
)
from keras_scgm.augmentation import Parameters, apply_geometric, apply_intensity, sample_parameters
from keras_scgm.pretrained import GRAY_MATTER
from keras_scgm.training import TrainingConfig
from keras_scgm.training.network import training_copy
from keras_scgm.training.objective import compile_model, loss_of


class MeanTeacher:
    """Learning from synthetic slices with masks and real slices without, as `keras_scgm.training.train` takes it.

    Args:
        config: Settings of the adaptation.
        slices: Slices without labels, float32 (slice, height, width, 1), for the statistics of batch normalization.
    """

    def __init__(self, config: AdaptationConfig, slices: np.ndarray) -> None:
        self.config, self.slices = config, slices

    def model(self, network: keras.Model, config: TrainingConfig) -> keras.Model:
        before = [statistics(layer) for layer in normalization_layers(network)]
        adapt_statistics(network, self.slices, self.config.statistics_share)
        student, teacher = (training_copy(network, config) for _ in range(2))
        if self.config.statistics_share:
            normalize_by_domain(student, before, self.config.synthetic_slices)
        model = StudentAndTeacher(student, teacher, self.config, config)
        compile_model(model, config)
        return model

    def judged_weights(self, model: keras.Model, config: TrainingConfig) -> list[np.ndarray]:
        """The teacher's weights."""
        weights: list[np.ndarray] = model.teacher.get_weights()
        return weights


class StudentAndTeacher(keras.Model):
    """A step of the mean teacher, on every Keras backend.

    Batch normalization does not take its statistics from the batch, a mixture of synthetic and real slices whose own
    statistics are those of neither: synthetic slices keep those of the first weights, real ones have those that the
    network starts with (`adapt_statistics`). In training it takes a dictionary: "synthetic",
    "real" and, if there are labels, "labelled" slices, each (slice, height, width, 1), and "step" (1,), the number
    of the batch. Otherwise it takes slices, and is the teacher.

    Args:
        student: The network that is trained.
        teacher: A network with the same layers and weights.
        config: Settings of the adaptation.
        training: Settings of the training, which name the loss and the seed.
    """

    def __init__(
        self, student: keras.Model, teacher: keras.Model, config: AdaptationConfig, training: TrainingConfig
    ) -> None:
        super().__init__(name="student_and_teacher")
        teacher.trainable = False
        self.student, self.teacher, self.config = student, teacher, config
        self.training_seed, self.mask_loss = training.seed, loss_of(training)
        self.gray_matter = training.tissues.index(GRAY_MATTER)
        names = ["mask_loss", "consistency_loss"]
        self.means = [keras.metrics.Mean(name) for name in names]
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        if not isinstance(inputs, dict):
            return self.teacher(inputs, training=False)
        if training:
            self._average_weights()
        synthetic, real = inputs["synthetic"], inputs["real"]
        parameters = self._changes(real, inputs, 0)
        targets = sharpened(self.teacher(real, training=False), self.config.temperature)
        seen, targets = apply_geometric(real, targets, parameters, mask_interpolation="linear")
        # Without masks for such images, the student would answer the harder ones by finding less.
        synthetic = apply_intensity(synthetic, self._changes(synthetic, inputs, 1))
        parts = [synthetic, apply_intensity(seen, parameters)]
        if "labelled" in inputs:
            parts.append(inputs["labelled"])
        found = self.student(ops.concatenate(parts, axis=0), training=False)
        counts = self.config.synthetic_slices, self.config.real_slices, self.config.labelled_slices
        ends = [0, *accumulate(counts)]
        kinds = ("synthetic", "real", "labelled")[: len(parts)]
        answers = {kind: found[start:end] for kind, start, end in zip(kinds, ends, ends[1:], strict=False)}
        return answers | {"targets": ops.stop_gradient(targets)}

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        masks = self.mask_loss(y["synthetic"], y_pred["synthetic"])
        if "labelled" in y:
            # Labels are of gray matter alone.
            found = y_pred["labelled"][..., self.gray_matter : self.gray_matter + 1]
            masks = masks + self.config.labelled_weight * self.mask_loss(y["labelled"], found)
        consistency = consistency_loss(y_pred["targets"], y_pred["real"])
        for mean, value in zip(self.means, (masks, consistency), strict=True):
            mean.update_state(value)
        weight = self.config.consistency_weight * self._ramp(x["step"][0])
        return masks + weight * consistency

    def _changes(self, images: Any, inputs: Any, kind: int) -> Parameters:
        """Random changes of slices in this step, others for each kind of slices."""
        shape = (ops.shape(images)[0], *images.shape[1:])
        seed = self.training_seed ^ (kind << 16)
        return sample_parameters(self.config.augmentation, shape, seed, inputs["step"][0])

    def _average_weights(self) -> None:
        """Moves the teacher to the student as it is after the step before (equation 1)."""
        momentum = self.config.ema_momentum
        for own, average in zip(self.student.weights, self.teacher.weights, strict=True):
            if own.trainable:
                average.assign(momentum * average + (1 - momentum) * own)

    def _ramp(self, step: Any) -> Any:
        """The share of the consistency weight, exp(-5 (1 - t)^2) for t from 0 to 1 in the ramp-up."""
        steps = max(1.0, self.config.ramp_up * self.config.steps)
        t = ops.minimum(ops.cast(step, "float32") / steps, 1.0)
        return ops.exp(-5 * ops.square(1 - t))


def sharpened(probabilities: Any, temperature: float) -> Any:
    """Probabilities whose logits are divided by a temperature.

    >>> round(float(sharpened(np.float32([0.8]), 0.5)[0]), 4)
    0.9412
    """
    powers = [ops.power(part, 1 / temperature) for part in (probabilities, 1 - probabilities)]
    return powers[0] / (powers[0] + powers[1])


def consistency_loss(targets: Any, found: Any) -> Any:
    """Squared difference of probabilities divided by the probability in the targets, mean over the tissues.

    The papers take the mean squared error over pixels. Here it is divided by the size of the tissue, so that gray
    matter counts as much as the cord, and neither depends on the size of the window.

    Args:
        targets: Probabilities of the teacher, (slice, height, width, tissue).
        found: Those of the student, of the same shape.

    Returns:
        A scalar, 0 for equal probabilities.
    """
    axes = (0, 1, 2)
    difference = ops.sum(ops.square(found - targets), axis=axes)
    return ops.mean(difference / (ops.sum(targets, axis=axes) + 1.0))
