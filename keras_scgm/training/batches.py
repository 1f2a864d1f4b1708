"""Batches of a training, as functions of the seed and the step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial
from typing import Any, Protocol, TypeAlias, runtime_checkable

import keras
import numpy as np

from keras_scgm import checks
from keras_scgm.augmentation import augment, augment_batch
from keras_scgm.datasets import AnnotatedSlices
from keras_scgm.datasets.phantom import DomainConfig, draw_stacks
from keras_scgm.datasets.phantom.contrast import CONTRASTS, dark_share
from keras_scgm.models.unet import LEVELS
from keras_scgm.training.config import TrainingConfig
from keras_scgm.training.contrasts import learned_contrasts, measured_dark_share
from keras_scgm.training.devices import device_count, own_share
from keras_scgm.training.stacks import as_channels, as_stacks, shows_single, stack_indices

PREFETCH = 8

Dataset: TypeAlias = Any
"""What `keras.Model.fit` takes: a tf.data.Dataset, or with the other backends a generator."""


@runtime_checkable
class Batches(Protocol):
    """A source of training data."""

    @property
    def what(self) -> str:
        """Description of the data, for the card of the weights."""

    @property
    def spacing_mm(self) -> float:
        """Pixel spacing of the slices, mm."""

    @property
    def window_px(self) -> int:
        """Pixels along each side of the windows of inference."""

    def contrasts(self, config: TrainingConfig) -> tuple[str, ...]:
        """What a network learns from them, of `keras_scgm.pretrained.CONTRASTS`, for the card of the weights."""

    def as_used(self, config: TrainingConfig) -> TrainingConfig:
        """The settings with what is known of these data, which were loaded before the training."""

    def dataset(self, config: TrainingConfig, first_step: int) -> Dataset:
        """Pairs (images, masks), float32 (sample, height, width, 1 or tissue), from step `first_step` on.

        If the settings name a network of stacks, samples are (slices, height, width, 1 or tissue).
        """

    def examples(self, config: TrainingConfig) -> np.ndarray:
        """A few images that contain gray matter, (sample, height, width, 1), or stacks of them."""


class SliceBatches:
    """Batches of slices in memory, shuffled anew each time all have been shown, and augmented.

    Args:
        slices: Result of `load_slices`.
        what: Description of the data.
    """

    def __init__(self, slices: AnnotatedSlices, what: str = "annotated slices") -> None:
        self.slices = checks.instance(AnnotatedSlices, "what load_slices returned")("slices", slices)
        self.what = checks.text("what", what)
        self.spacing_mm = slices.spacing_mm
        self.window_px: int = slices.images.shape[1]
        self._order = lru_cache(maxsize=2)(self._shuffled)
        self._stacks = lru_cache(maxsize=1)(partial(stack_indices, slices))

    def contrasts(self, config: TrainingConfig) -> tuple[str, ...]:
        return learned_contrasts(self._dark_share, config.augmentation.inversion_probability)

    @cached_property
    def _dark_share(self) -> float:
        return measured_dark_share(self.slices)

    def as_used(self, config: TrainingConfig) -> TrainingConfig:
        return replace(
            config, spacing_mm=self.spacing_mm, contour_smoothing_mm=self.slices.contour_smoothing_mm
        )

    def _shuffled(self, seed: int, turn: int) -> np.ndarray:
        return np.random.default_rng((seed, turn)).permutation(self.slices.samples_of_epoch(turn))

    def indices(self, config: TrainingConfig, step: int) -> list[int]:
        """The slices of a batch, or the slices in the middle of its stacks."""
        per_turn = len(self.slices.samples_of_epoch(0))
        count = config.samples_per_batch
        places = range(step * count, (step + 1) * count)
        return [int(self._order(config.seed, place // per_turn)[place % per_turn]) for place in places]

    def batch(self, config: TrainingConfig, step: int) -> tuple[np.ndarray, np.ndarray]:
        """The batch of a step, before the augmentation; the slices of a stack are channels."""
        chosen = self.indices(config, step)
        if not config.samples_stacks:
            return self.slices.images[chosen], self.slices.masks[chosen]
        stacks = self._stacks(config.stack_slices)[chosen]
        return as_channels(self.slices.images[stacks]), as_channels(self.slices.masks[stacks])

    def dataset(self, config: TrainingConfig, first_step: int) -> Dataset:
        steps = range(first_step, config.steps)
        if keras.backend.backend() != "tensorflow":
            return (own_share(self._augmented(config, step)) for step in steps)
        import tensorflow as tf

        def pairs() -> Iterator[tuple[np.ndarray, np.ndarray]]:
            return (self.batch(config, step) for step in steps)

        signature = tuple(tf.TensorSpec(array.shape, tf.float32) for array in self.batch(config, first_step))
        dataset = tf.data.Dataset.from_generator(pairs, output_signature=signature)
        dataset = augment(
            dataset, config.augmentation, config.seed, first_step, rerandomize_each_iteration=False
        )
        if config.samples_stacks:
            single = [shows_single(config.seed, step) for step in steps]
            dataset = tf.data.Dataset.zip(dataset, tf.data.Dataset.from_tensor_slices(single)).map(
                lambda pair, is_single: tf.cond(
                    is_single,
                    lambda: tuple(as_stacks(array, single=True) for array in pair),
                    lambda: tuple(as_stacks(array, single=False) for array in pair),
                )
            )
        return dataset.prefetch(PREFETCH)

    def _augmented(self, config: TrainingConfig, step: int) -> tuple[Any, Any]:
        images, masks = augment_batch(*self.batch(config, step), config.augmentation, config.seed, step)
        if not config.samples_stacks:
            return images, masks
        single = shows_single(config.seed, step)
        return as_stacks(images, single), as_stacks(masks, single)

    def examples(self, config: TrainingConfig) -> np.ndarray:
        held = np.flatnonzero(self.slices.masks.any(axis=(1, 2, 3)))
        chosen = held[:: max(1, len(held) // 4)][:4]
        if config.samples_stacks:
            return self.slices.images[self._stacks(config.stack_slices)[chosen]]
        return self.slices.images[chosen]


@dataclass(frozen=True)
class SyntheticBatches:
    """Batches of synthetic slices; no slice is used twice.

    Most batches are small windows around the cord, which cost less; the last part of the training sees only
    the windows of inference, because the pooled features and the z-score depend on all of a window. A batch
    holds about as many pixels as `TrainingConfig.batch_size` windows of inference, whatever its window, and at least
    one sample. For networks of stacks samples are stacks.

    Args:
        window_px: Pixels along each side of the windows of inference.
        domain: Distribution of the drawings; by default mostly neck and T2*-weighted images.
        spacing_mm: Pixel spacing of the slices, mm.
        small_windows: (pixels along each side at 0.25 mm, `DomainConfig.off_centre_mm` in it) of the others; of
            other spacings as many millimetres.
        full_share: Share of batches with windows of inference before the last part.
        full_from: Start of the last part, as a fraction of the training.
        inverted: Share of slices with inverted contrast.
    """

    window_px: int = 200
    domain: DomainConfig = field(
        default_factory=lambda: DomainConfig(
            spacing_mm=(0.15, 0.9),
            contrast_to_noise=(2.0, 25.0),
            contrast_weights=(0.66, 0.1, 0.07, 0.03, 0.14),
            region_weights=(0.86, 0.07, 0.07),
        )
    )
    spacing_mm: float = 0.25
    small_windows: tuple[tuple[int, float], ...] = ((112, 4.0), (128, 6.0), (144, 8.0))
    full_share: float = 0.12
    full_from: float = 0.82
    inverted: float = 0.06
    what: str = "drawn anatomy only, no patient data"

    def __post_init__(self) -> None:
        pairs = "pairs of a window's pixels and off_centre_mm"
        checks.check_fields(
            self,
            window_px=checks.integer(16),
            domain=checks.instance(DomainConfig),
            spacing_mm=checks.number(0.05, 2),
            small_windows=checks.several(checks.several(checks.number(0), pairs, length=2), pairs),
            full_share=checks.number(0, 1),
            full_from=checks.number(0, 1),
            inverted=checks.number(0, 1),
            what=checks.text,
        )

    def batch(self, config: TrainingConfig, step: int, shares: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """The batch of a step, its samples a multiple of `shares`."""
        rng = np.random.default_rng((config.seed, 1, step))
        size, domain = self.window_px, self.domain
        small_windows = [window for window in self._small_windows_px() if window[0] < size]
        whole = rng.random() < self.full_share or step >= self.full_from * config.steps
        if small_windows and not whole:
            size, off_centre_mm = small_windows[rng.integers(len(small_windows))]
            domain = replace(domain, off_centre_mm=off_centre_mm)
        n_slices = 1 if not config.samples_stacks or shows_single(config.seed, step) else config.stack_slices
        smallest = min([size for size, _ in small_windows], default=size)
        n, most = (
            max(1, round(config.batch_size / slices * (self.window_px / side) ** 2))
            for side, slices in ((size, n_slices), (smallest, 1))
        )
        n, most = (count + -count % shares for count in (n, most))
        # Every step has as many samples to itself as the largest batch needs, so that none is drawn twice.
        stacks = draw_stacks(
            n,
            n_slices,
            config.seed,
            size=size,
            spacing_mm=self.spacing_mm,
            config=domain,
            start=step * most,
        )
        images, gray_matter, cord = stacks if config.samples_stacks else (each[:, 0] for each in stacks)
        masks = np.stack([gray_matter, cord][: len(config.tissues)], axis=-1)
        images = _normalize(images, rng)
        flipped = rng.random(n) < 0.5
        images[flipped] = np.flip(images[flipped], axis=-2)
        masks[flipped] = np.flip(masks[flipped], axis=-3)
        images[rng.random(n) < self.inverted] *= -1
        return images[..., np.newaxis], masks

    def contrasts(self, config: TrainingConfig) -> tuple[str, ...]:
        shares = self.domain.contrast_weights
        dark = np.average([dark_share(contrast) for contrast in CONTRASTS], weights=shares)
        return learned_contrasts(float(dark), self.inverted)

    def as_used(self, config: TrainingConfig) -> TrainingConfig:
        return replace(config, spacing_mm=self.spacing_mm)

    def _small_windows_px(self) -> list[tuple[int, float]]:
        # Windows that every network can halve as often as UNet does.
        factor, multiple = 0.25 / self.spacing_mm, 2**LEVELS
        return [
            (max(16, multiple * round(size * factor / multiple)), off_centre_mm)
            for size, off_centre_mm in self.small_windows
        ]

    def dataset(self, config: TrainingConfig, first_step: int) -> Dataset:
        shares = device_count()
        if keras.backend.backend() != "tensorflow":
            return (own_share(self.batch(config, step, shares)) for step in range(first_step, config.steps))
        import tensorflow as tf

        def draw(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            pair = tf.numpy_function(
                lambda n: self.batch(config, int(n), shares), [step], (tf.float32, tf.float32)
            )
            channels, rank = (1, len(config.tissues)), 5 if config.samples_stacks else 4
            return tuple(
                tf.ensure_shape(array, (*[None] * (rank - 1), count))
                for array, count in zip(pair, channels, strict=True)
            )

        steps = tf.data.Dataset.range(first_step, config.steps)
        return steps.map(draw, num_parallel_calls=2, deterministic=True).prefetch(PREFETCH)

    def examples(self, config: TrainingConfig) -> np.ndarray:
        stacks, _, _ = draw_stacks(
            4,
            config.stack_slices if config.samples_stacks else 1,
            config.seed + 1,
            size=self.window_px,
            spacing_mm=self.spacing_mm,
            config=replace(self.domain, empty=0.0),
        )
        return _normalize(stacks if config.samples_stacks else stacks[:, 0], None)[..., np.newaxis]


def _normalize(images: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
    """Z-score of each slice or stack, off by as much as the other slices of a volume would move it."""
    axes = tuple(range(1, images.ndim))
    mean = images.mean(axis=axes, keepdims=True, dtype=np.float64)
    std = images.std(axis=axes, keepdims=True, dtype=np.float64) + 1e-9
    if rng is not None:
        mean += 0.15 * std * rng.standard_normal(mean.shape)
        std *= np.exp(0.12 * rng.standard_normal(std.shape))
    return ((images - mean) / std).astype(np.float32)
