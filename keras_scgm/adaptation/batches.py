"""Batches of an adaptation: synthetic slices with masks, real ones without, and labelled ones if there are any."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import keras
import numpy as np

from keras_scgm.adaptation.config import AdaptationConfig
from keras_scgm.adaptation.scans import RealSlices
from keras_scgm.augmentation import augment_batch
from keras_scgm.datasets import AnnotatedSlices
from keras_scgm.datasets.phantom import DomainConfig
from keras_scgm.errors import counted
from keras_scgm.training import SyntheticBatches, TrainingConfig

JITTER_PX = 8
"""Largest distance of the middle of a window from the cord along each axis."""
OFF_CENTRE_SHARE = 1 / 7
"""The same for synthetic cords, as a share of the window: 4 of 28 mm, as in the small windows of a training."""

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class AdaptationBatches:
    """Batches as functions of the seed and the step, a source for `keras_scgm.training.train`.

    Args:
        config: Settings of the adaptation.
        real: Slices without labels.
        labelled: Labelled slices, or None.
        spacing_mm: Pixel spacing of the slices, mm.
        domain: Distribution of the synthetic slices; None for that of `SyntheticBatches`.
    """

    config: AdaptationConfig
    real: RealSlices
    labelled: AnnotatedSlices | None
    spacing_mm: float
    domain: DomainConfig | None = None

    @property
    def window_px(self) -> int:
        """Pixels along each side of the windows of inference."""
        return int(self.real.images.shape[1])

    @property
    def crop_px(self) -> int:
        """Pixels along each side of the windows of a step."""
        return min(self.config.window_px, self.window_px)

    @property
    def what(self) -> str:
        names = ", ".join(self.real.names)
        text = f"{counted(len(self.real), 'slice')} without labels of {names}, and drawn anatomy"
        return (
            text if self.labelled is None else f"{text}, and {counted(len(self.labelled), 'labelled slice')}"
        )

    def contrasts(self, config: TrainingConfig) -> tuple[str, ...]:
        return self._synthetic.contrasts(config)

    def as_used(self, config: TrainingConfig) -> TrainingConfig:
        return replace(config, spacing_mm=self.spacing_mm)

    def batch(self, config: TrainingConfig, step: int) -> tuple[Arrays, Arrays]:
        """Images by kind, and masks of those that have some."""
        images, masks = self._synthetic.batch(config, step)
        rng = np.random.default_rng((config.seed, 2, step))
        inputs = {"synthetic": images, "real": self._real(rng), "step": np.array([step], np.int32)}
        targets = {"synthetic": masks}
        if self.labelled is not None:
            inputs["labelled"], targets["labelled"] = self._labelled(rng, config.seed, step)
        return inputs, targets

    def dataset(self, config: TrainingConfig, first_step: int) -> Iterator[tuple[Arrays, Arrays]]:
        """All batches from a step on; Keras takes such a generator with every backend."""
        return (self.batch(config, step) for step in range(first_step, config.steps))

    def examples(self, config: TrainingConfig) -> np.ndarray:
        places = np.linspace(0, len(self.real) - 1, min(4, len(self.real))).astype(int)
        real = [self._crop(self.real.images[place], self.real.centers[place]) for place in places]
        return np.concatenate([self._synthetic.examples(config), np.stack(real)])

    @property
    def _synthetic(self) -> SyntheticBatches:
        drawn = SyntheticBatches(
            self.crop_px, spacing_mm=self.spacing_mm, small_windows=(), inverted=0.0 if self.domain else 0.06
        )
        off_centre_mm = OFF_CENTRE_SHARE * self.crop_px * self.spacing_mm
        return replace(drawn, domain=replace(self.domain or drawn.domain, off_centre_mm=off_centre_mm))

    def _real(self, rng: np.random.Generator) -> np.ndarray:
        """As many slices of every scan, however many it has."""
        chosen = []
        for scan in rng.integers(len(self.real.names), size=self.config.real_slices):
            place = rng.choice(np.flatnonzero(self.real.scans == scan))
            chosen.append(self._crop(self.real.images[place], self.real.centers[place], rng))
        return np.stack(chosen)

    def _labelled(self, rng: np.random.Generator, seed: int, step: int) -> tuple[np.ndarray, np.ndarray]:
        assert self.labelled is not None
        both = np.concatenate([self.labelled.images, self.labelled.masks], axis=-1)
        crops = []
        for place in rng.integers(len(both), size=self.config.labelled_slices):
            crops.append(self._crop(both[place], _middle(both[place, ..., 1]), rng))
        cut = np.stack(crops)
        # Another seed than that of the real slices, which have other changes.
        changed = augment_batch(cut[..., :1], cut[..., 1:], self.config.augmentation, seed ^ 1, step)
        images, masks = map(keras.ops.convert_to_numpy, changed)
        return images, masks

    def _crop(
        self, window: np.ndarray, center: np.ndarray, rng: np.random.Generator | None = None
    ) -> np.ndarray:
        """The part around a point, moved a little at random, inside the window."""
        size = self.crop_px
        moved = center if rng is None else center + rng.integers(-JITTER_PX, JITTER_PX + 1, 2)
        first = np.clip(np.rint(moved - (size - 1) / 2).astype(int), 0, np.array(window.shape[:2]) - size)
        return window[first[0] : first[0] + size, first[1] : first[1] + size]


def _middle(mask: np.ndarray) -> np.ndarray:
    """Centroid (2,) of the gray matter, or the middle of a slice without any."""
    if not mask.any():
        return (np.array(mask.shape) - 1) / 2
    return np.array(
        [np.average(np.arange(n), weights=mask.sum(axis=1 - axis)) for axis, n in enumerate(mask.shape)]
    )
