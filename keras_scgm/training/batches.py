"""Batches of a training, as functions of the seed and the step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Protocol, TypeAlias, runtime_checkable

import keras
import numpy as np

from keras_scgm import checks
from keras_scgm.augmentation import augment, augment_batch
from keras_scgm.datasets import AnnotatedSlices
from keras_scgm.datasets.phantom import DomainConfig, draw_slices
from keras_scgm.training.config import TrainingConfig
from keras_scgm.training.devices import device_count, own_share

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

    def as_used(self, config: TrainingConfig) -> TrainingConfig:
        """The settings with what is known of these data, which were loaded before the training."""

    def dataset(self, config: TrainingConfig, first_step: int) -> Dataset:
        """Pairs (images, masks), float32 (sample, height, width, 1 or tissue), from step `first_step` on."""

    def examples(self, config: TrainingConfig) -> np.ndarray:
        """A few images that contain gray matter, (sample, height, width, 1)."""


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

    def as_used(self, config: TrainingConfig) -> TrainingConfig:
        return replace(
            config, spacing_mm=self.spacing_mm, contour_smoothing_mm=self.slices.contour_smoothing_mm
        )

    def _shuffled(self, seed: int, turn: int) -> np.ndarray:
        return np.random.default_rng((seed, turn)).permutation(self.slices.samples_of_epoch(turn))

    def indices(self, config: TrainingConfig, step: int) -> list[int]:
        """The slices of a batch."""
        per_turn = len(self.slices.samples_of_epoch(0))
        places = range(step * config.batch_size, (step + 1) * config.batch_size)
        return [int(self._order(config.seed, place // per_turn)[place % per_turn]) for place in places]

    def batch(self, config: TrainingConfig, step: int) -> tuple[np.ndarray, np.ndarray]:
        """The batch of a step, before the augmentation."""
        chosen = self.indices(config, step)
        return self.slices.images[chosen], self.slices.masks[chosen]

    def dataset(self, config: TrainingConfig, first_step: int) -> Dataset:
        steps = range(first_step, config.steps)
        if keras.backend.backend() != "tensorflow":
            return (
                own_share(augment_batch(*self.batch(config, step), config.augmentation, config.seed, step))
                for step in steps
            )
        import tensorflow as tf

        def pairs() -> Iterator[tuple[np.ndarray, np.ndarray]]:
            return (self.batch(config, step) for step in steps)

        signature = tuple(
            tf.TensorSpec((config.batch_size, *array.shape[1:]), tf.float32)
            for array in (self.slices.images, self.slices.masks)
        )
        dataset = tf.data.Dataset.from_generator(pairs, output_signature=signature)
        dataset = augment(
            dataset, config.augmentation, config.seed, first_step, rerandomize_each_iteration=False
        )
        return dataset.prefetch(PREFETCH)

    def examples(self, config: TrainingConfig) -> np.ndarray:
        held = np.flatnonzero(self.slices.masks.any(axis=(1, 2, 3)))
        return self.slices.images[held[:: max(1, len(held) // 4)][:4]]


@dataclass(frozen=True)
class SyntheticBatches:
    """Batches of synthetic slices; no slice is used twice.

    Most batches are small windows around the cord, which cost less; the last part of the training sees only
    the windows of inference, because the pooled features and the z-score depend on all of a window. A batch
    holds about as many pixels as `TrainingConfig.batch_size` windows of inference, whatever its window.

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
            contrast_weights=(0.58, 0.11, 0.09, 0.05, 0.17), region_weights=(0.84, 0.08, 0.08)
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
            domain=checks.instance(DomainConfig, "a DomainConfig"),
            spacing_mm=checks.number(0.05, 2),
            small_windows=checks.several(checks.several(checks.number(0), pairs, length=2), pairs),
            full_share=checks.number(0, 1),
            full_from=checks.number(0, 1),
            inverted=checks.number(0, 1),
            what=checks.text,
        )

    def batch(self, config: TrainingConfig, step: int, shares: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """The batch of a step, its slices a multiple of `shares`."""
        rng = np.random.default_rng((config.seed, 1, step))
        size, domain = self.window_px, self.domain
        small_windows = [window for window in self._small_windows_px() if window[0] < size]
        whole = rng.random() < self.full_share or step >= self.full_from * config.steps
        if small_windows and not whole:
            size, off_centre_mm = small_windows[rng.integers(len(small_windows))]
            domain = replace(domain, off_centre_mm=off_centre_mm)
        n = max(1, round(config.batch_size * (self.window_px / size) ** 2))
        smallest = min([size for size, _ in small_windows], default=size)
        most = max(1, round(config.batch_size * (self.window_px / smallest) ** 2))
        n, most = (count + -count % shares for count in (n, most))
        # Every step has as many slices to itself as the largest batch needs, so that none is drawn twice.
        first = step * most
        images, gray_matter, cord = draw_slices(
            n, config.seed, size=size, spacing_mm=self.spacing_mm, config=domain, start=first
        )
        masks = np.stack([gray_matter, cord][: len(config.tissues)], axis=-1)
        images = _normalize(images, rng)
        flipped = rng.random(n) < 0.5
        images[flipped], masks[flipped] = images[flipped, ::-1], masks[flipped, ::-1]
        images[rng.random(n) < self.inverted] *= -1
        return images[..., np.newaxis], masks

    def as_used(self, config: TrainingConfig) -> TrainingConfig:
        return replace(config, spacing_mm=self.spacing_mm)

    def _small_windows_px(self) -> list[tuple[int, float]]:
        factor = 0.25 / self.spacing_mm
        return [(max(16, round(size * factor)), off_centre_mm) for size, off_centre_mm in self.small_windows]

    def dataset(self, config: TrainingConfig, first_step: int) -> Dataset:
        shares = device_count()
        if keras.backend.backend() != "tensorflow":
            return (own_share(self.batch(config, step, shares)) for step in range(first_step, config.steps))
        import tensorflow as tf

        def draw(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            pair = tf.numpy_function(
                lambda n: self.batch(config, int(n), shares), [step], (tf.float32, tf.float32)
            )
            channels = 1, len(config.tissues)
            return tuple(
                tf.ensure_shape(array, (None, None, None, count))
                for array, count in zip(pair, channels, strict=True)
            )

        steps = tf.data.Dataset.range(first_step, config.steps)
        return steps.map(draw, num_parallel_calls=2, deterministic=True).prefetch(PREFETCH)

    def examples(self, config: TrainingConfig) -> np.ndarray:
        domain = replace(self.domain, empty=0.0)
        images, _, _ = draw_slices(
            4, config.seed + 1, size=self.window_px, spacing_mm=self.spacing_mm, config=domain
        )
        return _normalize(images, None)[..., np.newaxis]


def _normalize(images: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
    """Z-score of each slice, off by as much as the other slices of a volume would move it."""
    mean = images.mean(axis=(1, 2), keepdims=True, dtype=np.float64)
    std = images.std(axis=(1, 2), keepdims=True, dtype=np.float64) + 1e-9
    if rng is not None:
        mean += 0.15 * std * rng.standard_normal(mean.shape)
        std *= np.exp(0.12 * rng.standard_normal(std.shape))
    return ((images - mean) / std).astype(np.float32)
