"""Settings of the augmentation, and the presets."""

from __future__ import annotations

from dataclasses import dataclass, fields

from keras_scgm import checks
from keras_scgm.errors import InputError
from keras_scgm.json_config import JsonConfig

INTERPOLATIONS = ("nearest", "linear")


@dataclass(frozen=True)
class AugmentationConfig(JsonConfig):
    """Largest changes of the augmentation; the defaults change nothing.

    Each change has one random value per sample: magnitudes are uniform in [-field, field], factors log-uniform in
    [1 / (1 + field), 1 + field], except where said otherwise. The unit of intensities is the standard deviation of
    the volume.

    Args:
        rotation_degrees: Turn in the slice.
        shift_px: Shift along each axis, in pixels.
        scaling: Factor of magnification, less 1.
        flip_left_right: Probability of a flip of the right-left axis.
        flip_front_back: Probability of a flip of the posterior-anterior axis.
        elastic_px: Standard deviation of each component of the elastic displacement, in pixels; at most half
            its smoothness, beyond which the field folds. Simard et al. 2003 smooth uniform noise with a
            Gaussian and multiply by alpha: that is alpha / (2 * smoothness * sqrt(3 * pi)) here.
        elastic_smoothness_px: Standard deviation of that Gaussian, in pixels.
        elastic_probability: Probability that a sample is deformed elastically.
        channel_shift: Constant added to each channel.
        noise: Standard deviation of Gaussian noise, uniform from 0.
        bias_field: Standard deviation of the natural logarithm of a smooth multiplicative field, uniform
            from 0.
        bias_field_smoothness_px: Standard deviation of the Gaussian that smooths it, in pixels.
        gamma: Exponent of the intensities, less 1; mean and standard deviation of the slice are kept.
        contrast: Factor of the distance to the slice's mean, less 1.
        blur_px: Standard deviation of a Gaussian blur, in pixels, uniform from 0.
        low_resolution: Pixels of a simulated coarser acquisition in pixels of the slice, uniform from 1.
        inversion_probability: Probability that dark and bright are exchanged.
        intensity_probability: Probability of each change from `channel_shift` to `low_resolution`.
        mask_interpolation: "nearest" keeps hard masks hard, "linear" gives soft ones.

    Raises:
        InputError: A field breaks its rule.

    Example:

    >>> config = AugmentationConfig(rotation_degrees=10.0, flip_left_right=0.5)
    >>> AugmentationConfig.from_json(config.to_json()) == config
    True
    """

    rotation_degrees: float = 0.0
    shift_px: float = 0.0
    scaling: float = 0.0
    flip_left_right: float = 0.0
    flip_front_back: float = 0.0
    elastic_px: float = 0.0
    elastic_smoothness_px: float = 8.0
    elastic_probability: float = 1.0
    channel_shift: float = 0.0
    noise: float = 0.0
    bias_field: float = 0.0
    bias_field_smoothness_px: float = 60.0
    gamma: float = 0.0
    contrast: float = 0.0
    blur_px: float = 0.0
    low_resolution: float = 1.0
    inversion_probability: float = 0.0
    intensity_probability: float = 1.0
    mask_interpolation: str = "nearest"

    def __post_init__(self) -> None:
        magnitudes = [item.name for item in fields(self) if item.name != "mask_interpolation"]
        checks.check_fields(
            self,
            **{name: checks.number(*_LIMITS.get(name, (0.0,))) for name in magnitudes},
            mask_interpolation=checks.one_of(INTERPOLATIONS),
        )
        if self.elastic_px > self.elastic_smoothness_px / 2:
            raise InputError(
                "elastic_px must be at most half of elastic_smoothness_px, or the field folds, "
                f"received {self.elastic_px} and {self.elastic_smoothness_px}"
            )

    @property
    def is_geometric(self) -> bool:
        """Whether any change moves the content of a slice, whose mask then has to move with it."""
        return any(getattr(self, name) for name in _GEOMETRIC)


_GEOMETRIC = ("rotation_degrees", "shift_px", "scaling", "flip_left_right", "flip_front_back", "elastic_px")

_LIMITS: dict[str, tuple[float, ...]] = {
    "rotation_degrees": (0.0, 180.0),
    "elastic_smoothness_px": (1.0,),
    "bias_field_smoothness_px": (1.0,),
    "low_resolution": (1.0,),
    "flip_left_right": (0.0, 1.0),
    "flip_front_back": (0.0, 1.0),
    "elastic_probability": (0.0, 1.0),
    "inversion_probability": (0.0, 1.0),
    "intensity_probability": (0.0, 1.0),
}


PRESETS: dict[str, AugmentationConfig] = {
    "none": AugmentationConfig(),
    "paper_challenge": AugmentationConfig(
        rotation_degrees=4.6,
        shift_px=6.0,
        scaling=0.02,
        flip_left_right=0.5,
        elastic_px=1.26,
        elastic_smoothness_px=3.75,
        elastic_probability=0.3,
        channel_shift=0.1,
    ),
    "paper_exvivo": AugmentationConfig(
        rotation_degrees=10.0,
        shift_px=10.0,
        scaling=0.1,
        flip_left_right=0.5,
        elastic_px=2.0,
        elastic_smoothness_px=8.0,
        elastic_probability=0.5,
        channel_shift=0.1,
    ),
    "unet_aggressive": AugmentationConfig(
        rotation_degrees=10.0,
        shift_px=24.0,
        scaling=0.1,
        flip_left_right=0.5,
        elastic_px=2.0,
        elastic_smoothness_px=8.0,
        elastic_probability=0.5,
        channel_shift=0.2,
    ),
    "strong": AugmentationConfig(
        rotation_degrees=20.0,
        shift_px=12.0,
        scaling=0.25,
        flip_left_right=0.5,
        elastic_px=2.5,
        elastic_smoothness_px=12.0,
        elastic_probability=0.5,
        channel_shift=0.3,
        noise=0.2,
        bias_field=0.3,
        gamma=0.5,
        contrast=0.3,
        blur_px=1.5,
        low_resolution=3.0,
        inversion_probability=0.1,
        intensity_probability=0.3,
    ),
}
"""Settings by name.

The paper lists the changes (3.4.1, 3.4.3: rotation, shift, scaling, channel shift, flipping, elastic) but no
magnitudes. Those of "paper_challenge" are in the gray matter example of medicaltorch, a later library of the
paper's first author. "paper_exvivo", "unet_aggressive" (paper 4.2.2: larger, above all in the shift) and
"strong", which adds what the paper has not, are our choice. Flips exchange left and right only: no cord has
its dorsal horns in front.
"""
