"""Draws the parameters of each sample once, then applies them to image and mask alike.

All geometric changes end in one field of source coordinates, so that slices are interpolated once. The maths
is of `keras.ops`: it runs in a tf.data pipeline and on an accelerator, and gives the same parameters
everywhere.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from keras import ops
from keras.backend import standardize_dtype

from keras_scgm import checks
from keras_scgm.augmentation.config import INTERPOLATIONS, AugmentationConfig
from keras_scgm.augmentation.counters import normal, sample_keys, uniform
from keras_scgm.slices import reflected


class Parameters(NamedTuple):
    """Changes of each sample of a batch; float32 tensors, or None for a change that the settings leave out.

    Args:
        matrix: (sample, 2, 2), takes offsets from the middle of the new slice to those of the old.
        shift_px: (sample, 2), how far the content moves.
        elastic: (sample, height, width, 2), displacement in pixels of the old slice.
        gamma: (sample, 1, 1, 1), exponent.
        contrast: (sample, 1, 1, 1), factor; negative where dark and bright are exchanged.
        log_bias: (sample, height, width, 1), natural logarithm of the bias field.
        blur_px: (sample, 1, 1), standard deviation in pixels.
        low_resolution: (sample, 1, 1), width of the coarse pixels, at least 1.
        noise: (sample, height, width, channels), added.
        channel_shift: (sample, 1, 1, channels), added.
    """

    matrix: Any = None
    shift_px: Any = None
    elastic: Any = None
    gamma: Any = None
    contrast: Any = None
    log_bias: Any = None
    blur_px: Any = None
    low_resolution: Any = None
    noise: Any = None
    channel_shift: Any = None


def sample_parameters(
    config: AugmentationConfig, shape: tuple[Any, int, int, int], seed: int, step: Any = 0
) -> Parameters:
    """Draws the parameters of a batch.

    Args:
        config: Settings of the augmentation.
        shape: (sample, height, width, channels) of the images.
        seed: Seed of the training, 0 to 2**32 - 1.
        step: Number of the batch. Parameters of a sample depend on the seed, the step, and the sample's
            place in the batch alone.

    Returns:
        The parameters.

    Example:

    >>> parameters = sample_parameters(AugmentationConfig(shift_px=5.0), (2, 200, 200, 1), seed=1)
    >>> tuple(parameters.shift_px.shape), parameters.noise is None
    ((2, 2), True)
    """
    checks.instance(AugmentationConfig)("config", config)
    seed = checks.seed("seed", seed)
    count, height, width, channels = shape
    draw = _Draw(sample_keys(seed, step, count), config.intensity_probability)
    parameters: dict[str, Any] = {}
    if config.rotation_degrees or config.scaling or config.flip_left_right or config.flip_front_back:
        parameters["matrix"] = _draw_matrix(config, draw)
    if config.shift_px:
        parameters["shift_px"] = config.shift_px * draw.symmetric("shift", (2,))
    if config.elastic_px and config.elastic_probability:
        strength = config.elastic_px * draw.event("elastic", config.elastic_probability, (1, 1, 1))
        fields = [
            smooth_field(draw.keys, f"elastic {axis}", (height, width), config.elastic_smoothness_px)
            for axis in (0, 1)
        ]
        parameters["elastic"] = strength * ops.stack(fields, axis=-1)
    if config.intensity_probability:
        parameters |= _draw_intensity(config, draw, height, width, channels)
    if config.inversion_probability:
        sign = 1 - 2 * draw.event("inversion", config.inversion_probability, (1, 1, 1))
        parameters["contrast"] = sign * parameters.get("contrast", 1.0)
    return Parameters(**parameters)


def apply_geometric(
    images: Any,
    masks: Any,
    parameters: Parameters,
    image_interpolation: str = "linear",
    mask_interpolation: str = "nearest",
) -> tuple[Any, Any]:
    """Moves the content of images and masks along the same field.

    About the middle of the slice, content is flipped, magnified and turned, then shifted. A positive rotation
    turns axis 0 towards axis 1: with patient's right-left to the right and posterior-anterior up, as this
    package draws slices, counter-clockwise. What comes in from outside is the slice mirrored about its
    border pixels, as in the windows of `keras_scgm.slices`.

    Args:
        images: (sample, height, width, channels), axes 0 and 1 of a slice right-left and posterior-anterior.
        masks: (sample, height, width, classes), or None for images alone.
        parameters: Result of `sample_parameters` for the images' shape.
        image_interpolation: "linear" or "nearest".
        mask_interpolation: The same for masks.

    Returns:
        Images and masks of the same shapes; of the same dtype if floating or "nearest", else float32.
    """
    for name, value in (
        ("image_interpolation", image_interpolation),
        ("mask_interpolation", mask_interpolation),
    ):
        checks.one_of(INTERPOLATIONS)(name, value)
    if parameters.matrix is None and parameters.shift_px is None and parameters.elastic is None:
        return images, masks
    rows, columns = _source_coordinates(parameters, images.shape[1], images.shape[2])
    return (
        _resample(images, rows, columns, image_interpolation),
        None if masks is None else _resample(masks, rows, columns, mask_interpolation),
    )


def apply_intensity(images: Any, parameters: Parameters) -> Any:
    """Changes the brightness of images, in the order of image formation: tissue, receiver, sampling, noise.

    Args:
        images: (sample, height, width, channels), z-scored.
        parameters: Result of `sample_parameters` for the images' shape.

    Returns:
        Images of the same shape and dtype; computed in float32.
    """
    dtype = images.dtype
    images = ops.cast(images, "float32")
    if parameters.gamma is not None:
        images = _apply_gamma(images, parameters.gamma)
    if parameters.contrast is not None:
        mean = ops.mean(images, axis=(1, 2), keepdims=True)
        images = mean + (images - mean) * parameters.contrast
    if parameters.log_bias is not None:
        # Z-scored images have no zero of their own; the darkest pixel stands for no signal.
        darkest = ops.min(images, axis=(1, 2), keepdims=True)
        images = darkest + (images - darkest) * ops.exp(parameters.log_bias)
    if parameters.blur_px is not None:
        images = _lower_resolution(images, parameters.blur_px, parameters.low_resolution)
    if parameters.noise is not None:
        images = images + parameters.noise
    if parameters.channel_shift is not None:
        images = images + parameters.channel_shift
    return ops.cast(images, dtype)


def smooth_field(keys: Any, purpose: str, size: tuple[int, int], smoothness_px: float) -> Any:
    """White noise smoothed by a Gaussian, of unit variance everywhere.

    Reference: Simard et al. 2003, "Best practices for convolutional neural networks applied to visual
    document analysis", section 2. The noise lies on a lattice as coarse as the Gaussian, which cannot be told
    from noise in every pixel, and is normal instead of uniform.

    Args:
        keys: (sample,), of `sample_keys`.
        purpose: Name of the field; another name gives an independent field.
        size: (height, width).
        smoothness_px: Standard deviation of the Gaussian, in pixels.

    Returns:
        float32 tensor (sample, height, width).
    """
    rows, columns = (_smoothing_matrix(length, smoothness_px) for length in size)
    noise = normal(keys, purpose, (rows.shape[1], columns.shape[1]))
    return ops.matmul(ops.matmul(rows, noise), columns.T)


class _Draw:
    """Draws magnitudes per sample, each by the name of its purpose."""

    def __init__(self, keys: Any, intensity_probability: float) -> None:
        self.keys = keys
        self.intensity_probability = intensity_probability

    def symmetric(self, purpose: str, shape: tuple[int, ...]) -> Any:
        """Uniform in [-1, 1)."""
        return 2 * uniform(self.keys, purpose, shape) - 1

    def event(self, purpose: str, probability: float, shape: tuple[int, ...]) -> Any:
        """1 with the probability, else 0."""
        return ops.cast(uniform(self.keys, f"{purpose} occurs", shape) < probability, "float32")

    def signed(self, purpose: str, shape: tuple[int, ...]) -> Any:
        """Of an intensity change: uniform in [-1, 1), or 0 where it does not occur."""
        occurs = self.event(purpose, self.intensity_probability, (1,) * len(shape))
        return occurs * self.symmetric(purpose, shape)

    def positive(self, purpose: str, shape: tuple[int, ...]) -> Any:
        """Of an intensity change: uniform in [0, 1), or 0 where it does not occur."""
        occurs = self.event(purpose, self.intensity_probability, (1,) * len(shape))
        return occurs * uniform(self.keys, purpose, shape)


def _draw_matrix(config: AugmentationConfig, draw: _Draw) -> Any:
    angle = math.radians(config.rotation_degrees) * draw.symmetric("rotation", ())
    scale = ops.exp(-math.log1p(config.scaling) * draw.symmetric("scaling", ()))
    flip_rows = 1 - 2 * draw.event("flip left right", config.flip_left_right, ())
    flip_columns = 1 - 2 * draw.event("flip front back", config.flip_front_back, ())
    cosine, sine = scale * ops.cos(angle), scale * ops.sin(angle)
    rows = ops.stack([flip_rows * cosine, flip_rows * sine], axis=-1)
    columns = ops.stack([-flip_columns * sine, flip_columns * cosine], axis=-1)
    return ops.stack([rows, columns], axis=1)


def _draw_intensity(
    config: AugmentationConfig, draw: _Draw, height: int, width: int, channels: int
) -> dict[str, Any]:
    drawn: dict[str, Any] = {}
    if config.gamma:
        drawn["gamma"] = ops.exp(math.log1p(config.gamma) * draw.signed("gamma", (1, 1, 1)))
    if config.contrast:
        drawn["contrast"] = ops.exp(math.log1p(config.contrast) * draw.signed("contrast", (1, 1, 1)))
    if config.bias_field:
        field = smooth_field(draw.keys, "bias field", (height, width), config.bias_field_smoothness_px)
        strength = config.bias_field * draw.positive("bias strength", (1, 1, 1))
        drawn["log_bias"] = strength * ops.expand_dims(field, -1)
    if config.blur_px or config.low_resolution > 1:
        drawn["blur_px"] = config.blur_px * draw.positive("blur", (1, 1))
        drawn["low_resolution"] = 1 + (config.low_resolution - 1) * draw.positive("low resolution", (1, 1))
    if config.noise:
        strength = config.noise * draw.positive("noise strength", (1, 1, 1))
        drawn["noise"] = strength * normal(draw.keys, "noise", (height, width, channels))
    if config.channel_shift:
        drawn["channel_shift"] = config.channel_shift * draw.signed("channel shift", (1, 1, channels))
    return drawn


@lru_cache(maxsize=16)
def _smoothing_matrix(length: int, smoothness_px: float) -> np.ndarray:
    """From lattice to pixels, [pixel, node] float32; rows have unit norm, so unit variance stays."""
    nodes = np.arange(-3, math.ceil((length - 1) / smoothness_px) + 4)
    weights = np.exp(-0.5 * (np.arange(length)[:, None] / smoothness_px - nodes) ** 2)
    return (weights / np.linalg.norm(weights, axis=1, keepdims=True)).astype(np.float32)


def _source_coordinates(parameters: Parameters, height: int, width: int) -> tuple[Any, Any]:
    """Rows and columns in the old slice of each pixel of the new one, both (sample, height, width).

    They are mirrored into the slice.
    """
    middle = ((height - 1) / 2, (width - 1) / 2)
    rows = ops.reshape(ops.arange(height, dtype="float32") - middle[0], (1, height, 1))
    columns = ops.reshape(ops.arange(width, dtype="float32") - middle[1], (1, 1, width))
    if parameters.shift_px is not None:
        rows = rows - parameters.shift_px[:, 0, None, None]
        columns = columns - parameters.shift_px[:, 1, None, None]
    if parameters.matrix is not None:
        # Written out, because a matrix product on an accelerator may round coordinates to tenths of pixels.
        m = parameters.matrix[..., None, None]
        rows, columns = (
            m[:, 0, 0] * rows + m[:, 0, 1] * columns,
            m[:, 1, 0] * rows + m[:, 1, 1] * columns,
        )
    rows, columns = rows + middle[0], columns + middle[1]
    if parameters.elastic is not None:
        rows, columns = rows + parameters.elastic[..., 0], columns + parameters.elastic[..., 1]
    rows, columns = reflected(rows, float(height), ops), reflected(columns, float(width), ops)
    # Both need every pixel, also where a mere shift left one number per row and per column.
    return rows + ops.zeros_like(columns), columns + ops.zeros_like(rows)


def _resample(values: Any, rows: Any, columns: Any, interpolation: str) -> Any:
    _, height, width, channels = values.shape
    flat = ops.reshape(values, (-1, channels))
    first = ops.reshape(height * width * ops.arange(ops.shape(values)[0], dtype="int32"), (-1, 1, 1))

    def read(row: Any, column: Any) -> Any:
        return ops.take(flat, first + row * width + column, axis=0)

    if interpolation == "nearest":
        return read(ops.cast(ops.floor(rows + 0.5), "int32"), ops.cast(ops.floor(columns + 0.5), "int32"))
    top, left = ops.cast(ops.floor(rows), "int32"), ops.cast(ops.floor(columns), "int32")
    bottom, right = ops.minimum(top + 1, height - 1), ops.minimum(left + 1, width - 1)
    down = ops.expand_dims(rows - ops.cast(top, "float32"), -1)
    along = ops.expand_dims(columns - ops.cast(left, "float32"), -1)
    dtype = standardize_dtype(values.dtype)
    flat = ops.cast(flat, "float32")
    upper = _blend(read(top, left), read(top, right), along)
    lower = _blend(read(bottom, left), read(bottom, right), along)
    return ops.cast(_blend(upper, lower, down), dtype if "float" in dtype else "float32")


def _blend(first: Any, second: Any, weight: Any) -> Any:
    """Linear interpolation that is exact where both ends agree, so that masks stay in [0, 1]."""
    return first + weight * (second - first)


def _apply_gamma(images: Any, gamma: Any) -> Any:
    """Power of the intensities between the slice's darkest and brightest, its mean and deviation kept."""
    tiny = float(np.finfo(np.float32).eps)
    darkest = ops.min(images, axis=(1, 2), keepdims=True)
    spread = ops.max(images, axis=(1, 2), keepdims=True) - darkest
    curved = ops.power((images - darkest) / (spread + tiny), gamma)
    curved = (curved - ops.mean(curved, axis=(1, 2), keepdims=True)) / (
        ops.std(curved, axis=(1, 2), keepdims=True) + tiny
    )
    return ops.mean(images, axis=(1, 2), keepdims=True) + curved * ops.std(images, axis=(1, 2), keepdims=True)


def _lower_resolution(images: Any, blur_px: Any, low_resolution: Any) -> Any:
    """Images as sampled on a coarser grid and brought back linearly."""
    _, height, width, _ = images.shape
    rows = _sampling_matrix(height, blur_px, low_resolution)
    columns = rows if width == height else _sampling_matrix(width, blur_px, low_resolution)
    return ops.einsum("nik,njl,nklc->nijc", rows, columns, images)


def _sampling_matrix(length: int, blur_px: Any, low_resolution: Any) -> Any:
    """To the coarse grid and back along one axis, (sample, pixel, pixel).

    Coarse pixels have a Gaussian profile as wide at half maximum as they are, less that of the pixels
    themselves.
    """
    pixels = ops.arange(length, dtype="float32")
    middle = (length - 1) / 2
    offsets = ops.expand_dims(pixels - middle, 1)
    # No coarse grid is finer than the slice: as many nodes as pixels suffice, those outside repeat the edge.
    nodes = ops.clip(middle + offsets * low_resolution, 0, length - 1)
    variance = ops.square(blur_px) + (ops.square(low_resolution) - 1) / (8 * math.log(2))
    # A softmax is a normalised Gaussian that stays finite however narrow it is.
    down = ops.softmax(-ops.square(nodes - pixels) / (2 * ops.maximum(variance, 1e-4)), axis=-1)
    up = ops.relu(1 - ops.abs(middle + offsets / low_resolution - pixels))
    return ops.matmul(up, down)
