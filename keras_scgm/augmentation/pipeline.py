"""The augmentation as a step of a tf.data pipeline, as a layer, and as a function of one batch."""

from __future__ import annotations

import itertools
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import keras

from keras_scgm import checks
from keras_scgm.augmentation.config import AugmentationConfig
from keras_scgm.augmentation.transforms import apply_geometric, apply_intensity, sample_parameters
from keras_scgm.errors import InputError

if TYPE_CHECKING:
    import tensorflow as tf


UNKNOWN_LENGTH = 2**20
"""Batches that a data set of unknown or infinite length counts for."""


def augment(
    dataset: tf.data.Dataset,
    config: AugmentationConfig,
    seed: int,
    first_step: int = 0,
    rerandomize_each_iteration: bool = True,
) -> tf.data.Dataset:
    """Adds the augmentation to a pipeline of batches, or of single slices that are batched afterwards.

    What happens to a sample depends on the seed, the number of its batch and its place there alone, so the
    result is the same however many batches are computed at once. Batches are counted over all iterations of the
    returned data set: `fit` with several epochs gives other changes in each of them, the same as with
    `dataset.repeat()` before.

    Args:
        dataset: Pairs (images, masks), z-scored floats (sample, height, width, channels) and (sample, height, width,
            classes); height and width must be known. Or triples with sample weights (sample,), which pass, or
            images alone. Slices without the first axis count as batches of one.
        config: Settings of the augmentation.
        seed: 0 to 2**32 - 1.
        first_step: Number of the first batch; a resumed training passes the batches it has used.
        rerandomize_each_iteration: Whether another iteration gives other changes, as in `tf.data.Dataset.random`.

    Returns:
        A dataset of the same structure and shapes.

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

    checks.instance(AugmentationConfig)("config", config)
    seed, first_step = checks.seed("seed", seed), checks.integer(0)("first_step", first_step)
    checks.flag("rerandomize_each_iteration", rerandomize_each_iteration)
    elements = getattr(dataset, "element_spec", None)
    parts = elements if isinstance(elements, tuple) else (elements,)
    if not 1 <= len(parts) <= 3 or not all(isinstance(part, tf.TensorSpec) for part in parts):
        wanted = "a tf.data.Dataset of images, (images, masks) or (images, masks, sample weights)"
        checks.refuse("dataset", wanted, dataset if elements is None else elements)
    _check_dtype(parts[0].dtype.name)
    shapes = [tuple(part.shape) if part.shape.rank is not None else () for part in parts[:2]]
    single = len(shapes[0]) == 3
    _check_shapes(*([(None, *shape) for shape in shapes] if single else shapes))
    if len(parts) == 3 and parts[2].shape.rank not in (0 if single else 1, None):
        raise InputError(
            "sample weights must be one number per slice, since those of pixels would have to move with them, "
            f"received {parts[2].shape}; let them be a further channel of the masks"
        )
    if config == AugmentationConfig():
        return dataset

    # Nothing in it branches on a tensor, and the conversion takes longer than the rest of the pipeline.
    @tf.autograph.experimental.do_not_convert
    def change(step: tf.Tensor, *batch: tf.Tensor) -> Any:
        images, masks = batch[0], batch[1] if len(batch) > 1 else None
        if single:
            images, masks = images[None], None if masks is None else masks[None]
        changed = [
            tf.ensure_shape(array[0] if single else array, part.shape)
            for array, part in zip(augment_batch(images, masks, config, seed, step), parts, strict=False)
            if array is not None
        ]
        return (*changed, *batch[2:]) if isinstance(elements, tuple) else changed[0]

    length = int(dataset.cardinality())
    iterations = itertools.count()

    def steps_of_iteration(_: tf.Tensor) -> tf.data.Dataset:
        iteration = tf.ensure_shape(tf.numpy_function(lambda: next(iterations), [], tf.int64), ())
        first = first_step + iteration * (length if length >= 0 else UNKNOWN_LENGTH)
        return tf.data.Dataset.counter(first)

    if rerandomize_each_iteration:
        steps = tf.data.Dataset.range(1).flat_map(steps_of_iteration)
    else:
        steps = tf.data.Dataset.counter(first_step)
    batches = dataset if isinstance(elements, tuple) else dataset.map(lambda images: (images,))
    changed = tf.data.Dataset.zip(steps, batches).map(
        lambda step, batch: change(step, *batch), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    )
    if length == tf.data.UNKNOWN_CARDINALITY:
        return changed
    return changed.apply(tf.data.experimental.assert_cardinality(length))


@keras.saving.register_keras_serializable(package="keras_scgm")
class AugmentationLayer(keras.layers.Layer):
    """The augmentation on the accelerator, with any Keras backend.

    Call it with a pair (images, masks), as `augment` takes them; it returns a pair. Called with images alone, as a
    layer of `keras.Sequential` is, it changes their intensities, and refuses settings that would move them away from
    their masks. It changes nothing unless `training` is true. A weight counts the calls in training in place of the
    batches, so another call gets other changes and a restored layer goes on where it was. On TensorFlow without XLA
    the random numbers are computed on the CPU, which has the integer arithmetic that the GPU lacks: compile with
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
        self.config = checks.instance(AugmentationConfig)("config", config)
        self.seed = checks.seed("seed", seed)

    def build(self, input_shape: Any) -> None:
        _check_shapes(*(input_shape if isinstance(input_shape[0], (tuple, list)) else [input_shape]))
        self.step = self.add_weight(
            name="step", shape=(), dtype="int32", initializer="zeros", trainable=False
        )

    def call(self, inputs: Any, training: bool = False) -> Any:
        images, masks = inputs if isinstance(inputs, (tuple, list)) else (inputs, None)
        if masks is None and self.config.is_geometric:
            raise InputError(
                f"{self.name} received images alone, but its settings move them, and their masks would stay: call it "
                "with (images, masks) in a functional model, augment the data set by keras_scgm.augment, or leave "
                "only changes of intensity"
            )
        if training:
            step = self.step + 0
            self.step.assign(step + 1)
            images, masks = augment_batch(images, masks, self.config, self.seed, step)
        return images if masks is None else (images, masks)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "config": asdict(self.config), "seed": self.seed}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> AugmentationLayer:
        return super().from_config({**config, "config": AugmentationConfig(**config["config"])})


def augment_batch(
    images: Any, masks: Any | None, config: AugmentationConfig, seed: int, step: Any = 0
) -> tuple[Any, Any]:
    """The augmentation of one batch, with any Keras backend.

    Args:
        images: Slices (sample, height, width, channels), floats, z-scored.
        masks: (sample, height, width, classes), or None for images alone.
        config: Settings of the augmentation.
        seed: 0 to 2**32 - 1.
        step: Number of the batch; with the seed and the place in the batch it determines what happens.

    Returns:
        Tensors of the same shapes; None for the masks if there are none.

    Raises:
        InputError: An argument breaks its rule, the shapes do not fit, or the images are integers.
    """
    checks.instance(AugmentationConfig)("config", config)
    _check_shapes(*(getattr(array, "shape", ()) for array in (images, masks)[: 1 if masks is None else 2]))
    _check_dtype(keras.backend.standardize_dtype(images.dtype))
    if config == AugmentationConfig():
        return images, masks
    shape = (keras.ops.shape(images)[0], *images.shape[1:])
    parameters = sample_parameters(config, shape, seed, step)
    images, masks = apply_geometric(images, masks, parameters, mask_interpolation=config.mask_interpolation)
    return apply_intensity(images, parameters), masks


def _check_dtype(name: str) -> None:
    if not keras.backend.is_float_dtype(name):
        raise InputError(
            f"images must be floats with mean 0 and standard deviation 1, received {name}, which would be cut off; "
            "normalize them first"
        )


def _check_shapes(images: Any, masks: Any | None = None) -> None:
    images = tuple(images)
    masks = images if masks is None else tuple(masks)
    fit = len(images) == len(masks) == 4 and None not in images[1:3] and images[1:3] == masks[1:3]
    if not fit:
        raise InputError(
            "images and masks must be (sample, height, width, channels) of one known height and width, "
            f"received {images} and {masks}"
        )
