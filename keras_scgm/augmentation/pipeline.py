"""The augmentation as a step of a tf.data pipeline, as a layer, and as a function of one batch."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import keras

from keras_scgm import checks
from keras_scgm.augmentation.config import AugmentationConfig
from keras_scgm.augmentation.transforms import apply_geometric, apply_intensity, sample_parameters
from keras_scgm.errors import InputError

if TYPE_CHECKING:
    import tensorflow as tf


def augment(
    dataset: tf.data.Dataset, config: AugmentationConfig, seed: int, first_step: int = 0
) -> tf.data.Dataset:
    """Adds the augmentation to a pipeline of batches.

    What happens to a sample depends on the seed, the number of its batch and its place there alone, so the
    result is the same however many batches are computed at once. Repeat the dataset before: batches are
    counted over its whole length, and another pass gets other changes.

    Args:
        dataset: Pairs (images, masks), (sample, height, width, channels) and (sample, height, width,
            classes); height and width must be known.
        config: Settings of the augmentation.
        seed: 0 to 2**32 - 1.
        first_step: Number of the first batch; a resumed training passes the batches it has used.

    Returns:
        A dataset of pairs of the same shapes.

    Raises:
        InputError: An argument breaks its rule, or Keras does not run on TensorFlow.
    """
    if keras.backend.backend() != "tensorflow":
        raise InputError(
            "augment runs inside tf.data, which needs Keras's TensorFlow backend, "
            f"received {keras.backend.backend()!r}; use augment_batch or AugmentationLayer"
        )
    # The other backends do without it.
    import tensorflow as tf

    checks.instance(AugmentationConfig, "an AugmentationConfig")("config", config)
    seed, first_step = checks.seed("seed", seed), checks.integer(0)("first_step", first_step)
    elements = getattr(dataset, "element_spec", dataset)
    if not isinstance(elements, tuple) or len(elements) != 2:
        checks.refuse("dataset", "a tf.data.Dataset of pairs (images, masks)", elements)
    shapes = [element.shape for element in elements]
    _check_shapes(*shapes)
    if config == AugmentationConfig():
        return dataset

    def change(step: tf.Tensor, pair: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        images, masks = augment_batch(*pair, config, seed, step)
        return tf.ensure_shape(images, shapes[0]), tf.ensure_shape(masks, shapes[1])

    return dataset.enumerate(start=first_step).map(
        change, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    )


@keras.saving.register_keras_serializable(package="keras_scgm")
class AugmentationLayer(keras.layers.Layer):
    """The augmentation on the accelerator, with any Keras backend.

    Call it with a pair (images, masks), as `augment` takes them; it returns a pair. It changes nothing
    unless `training` is true. A weight counts the calls in training in place of the batches, so another call
    gets other changes and a restored layer goes on where it was. On TensorFlow without XLA the random
    numbers are computed on the CPU, which has the integer arithmetic that the GPU lacks: compile with
    `jit_compile=True`.

    Args:
        config: Settings of the augmentation.
        seed: 0 to 2**32 - 1; the same parameters as those of `augment` follow from it.
        name: Name of the layer.
        kwargs: Other arguments of `keras.layers.Layer`, such as `dtype` and `trainable`. The computation is in
            float32 whatever the `dtype`.

    Raises:
        InputError: An argument breaks its rule; on calls, if the shapes do not fit.
    """

    def __init__(
        self, config: AugmentationConfig, seed: int = 0, name: str | None = "augmentation", **kwargs: Any
    ) -> None:
        # The maths is float32 whatever the policy, and masks must keep their dtype.
        super().__init__(name=name, autocast=False, **kwargs)
        self.config = checks.instance(AugmentationConfig, "an AugmentationConfig")("config", config)
        self.seed = checks.seed("seed", seed)

    def build(self, input_shape: Any) -> None:
        _check_shapes(*input_shape)
        self.step = self.add_weight(
            name="step", shape=(), dtype="int32", initializer="zeros", trainable=False
        )

    def call(self, inputs: tuple[Any, Any], training: bool = False) -> tuple[Any, Any]:
        images, masks = inputs
        if not training:
            return images, masks
        step = self.step + 0
        self.step.assign(step + 1)
        return augment_batch(images, masks, self.config, self.seed, step)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "config": asdict(self.config), "seed": self.seed}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> AugmentationLayer:
        return super().from_config({**config, "config": AugmentationConfig(**config["config"])})


def augment_batch(
    images: Any, masks: Any, config: AugmentationConfig, seed: int, step: Any = 0
) -> tuple[Any, Any]:
    """The augmentation of one batch, with any Keras backend.

    Args:
        images: Slices (sample, height, width, channels), float32.
        masks: (sample, height, width, classes).
        config: Settings of the augmentation.
        seed: 0 to 2**32 - 1.
        step: Number of the batch; with the seed and the place in the batch it determines what happens.

    Returns:
        Tensors of the same shapes.

    Raises:
        InputError: An argument breaks its rule, or the shapes do not fit.
    """
    checks.instance(AugmentationConfig, "an AugmentationConfig")("config", config)
    _check_shapes(*(getattr(array, "shape", ()) for array in (images, masks)))
    if config == AugmentationConfig():
        return images, masks
    shape = (keras.ops.shape(images)[0], *images.shape[1:])
    parameters = sample_parameters(config, shape, seed, step)
    images, masks = apply_geometric(images, masks, parameters, mask_interpolation=config.mask_interpolation)
    return apply_intensity(images, parameters), masks


def _check_shapes(images: Any, masks: Any) -> None:
    images, masks = tuple(images), tuple(masks)
    fit = len(images) == len(masks) == 4 and None not in images[1:3] and images[1:3] == masks[1:3]
    if not fit:
        raise InputError(
            "images and masks must be (sample, height, width, channels) of one known height and width, "
            f"received {images} and {masks}"
        )
