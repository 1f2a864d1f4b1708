"""Uncertainty by test-time augmentation: how much the probabilities vary when the image is changed a little.

Each pass resamples the image into windows that are moved and magnified, changes the gray values, mirrors what the
network sees, and resamples the probabilities back to the image's grid (Wang et al. 2019,
https://doi.org/10.1016/j.neucom.2019.01.103). The uncertainty is the standard deviation over the passes. It needs no
dropout, so every network has it, and a pass costs one prediction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from keras_scgm.localization import Windows
from keras_scgm.predict import Predict
from keras_scgm.runtimes.region_of_interest import Predictor

SHIFT_PX = 4.0
"""Largest shift of the windows along each axis, pixels."""
SCALING = 0.08
"""Largest magnification, less 1."""
GAIN = 0.1
"""Largest factor of the z-scored gray values, less 1."""
OFFSET = 0.1
"""Largest constant added to the z-scored gray values."""

PredictWindows = Callable[[Predict, np.ndarray, Windows], np.ndarray]
"""Network, normalised slices (slice, rows, columns, 1) and the windows they were seen in -> gray matter probabilities
(slice, rows, columns)."""


@dataclass(frozen=True)
class Uncertainty:
    """Variation of the probabilities of consecutive slices over passes, standard deviations with n - 1.

    Args:
        std: Float64 (slice, right-left, posterior-anterior), of the probability of each voxel on the image's
            grid, in [0, 0.71].
        area_std: Float64 (slice,), of the sum of the probabilities, voxels.
    """

    std: np.ndarray
    area_std: np.ndarray

    def of(self, part: slice) -> Uncertainty:
        """Some of the slices."""
        return Uncertainty(self.std[part], self.area_std[part])


@dataclass(frozen=True)
class Variation:
    """Random change of an image for one pass, the same in all its slices.

    Args:
        is_mirrored: Whether the network sees right and left exchanged.
        magnification: Magnification of the image in the window, factor.
        shift_px: Shift of the window (right-left, posterior-anterior), pixels.
        gain: Factor of the z-scored gray values.
        offset: Constant added to them.
    """

    is_mirrored: bool = False
    magnification: float = 1.0
    shift_px: tuple[float, float] = (0.0, 0.0)
    gain: float = 1.0
    offset: float = 0.0

    @classmethod
    def draw(cls, seed: int, number: int) -> Variation:
        """Variation of a pass, a function of the seed and its number alone.

        The passes come in pairs of opposite changes, so that two passes differ whatever the seed.
        """
        pair, second = divmod(number, 2)
        rng = np.random.default_rng((seed, pair))
        is_mirrored = bool(rng.integers(2)) != bool(second)
        right_left, anterior, magnification, gain, offset = rng.uniform(-1, 1, 5) * (-1 if second else 1)
        return cls(
            is_mirrored,
            magnification=float((1 + SCALING) ** magnification),
            shift_px=(float(SHIFT_PX * right_left), float(SHIFT_PX * anterior)),
            gain=float((1 + GAIN) ** gain),
            offset=float(OFFSET * offset),
        )

    def windows(self, windows: Windows) -> Windows:
        """Moved and magnified windows, of which no prediction is known; their `SliceGeometry` leads back."""
        geometry = windows.geometry.magnified(self.magnification, self.shift_px)
        cord = None
        if windows.cord is not None:
            cord = (windows.cord + windows.geometry.starts) * self.magnification - geometry.starts
        return replace(windows, geometry=geometry, probabilities={}, cord=cord)

    def gray_values(self, normalised: np.ndarray) -> np.ndarray:
        """Changed gray values, float32."""
        return normalised * np.float32(self.gain) + np.float32(self.offset)

    def network(self, predict: Predictor) -> Predictor:
        """The network, mirrored if the pass is."""
        return predict.mirrored() if self.is_mirrored else predict


def measure_uncertainty(
    networks: Sequence[Predictor],
    predict_windows: PredictWindows,
    slices: np.ndarray,
    windows: Windows,
    first: int,
    passes: int,
    seed: int,
    cord: np.ndarray | None = None,
) -> Uncertainty:
    """Variation over passes, each by every network.

    Args:
        networks: At least one.
        predict_windows: Prediction of windows by one network.
        slices: (slice, right-left, posterior-anterior) on the image's grid.
        windows: Windows of the volume.
        first: Index of the first of the slices in the volume.
        passes: Number of variations, at least 2.
        seed: Seed of the variations.
        cord: Bool (slice, right-left, posterior-anterior), if the user gave it; there is no gray matter outside.
    """
    total, squares = np.zeros(slices.shape), np.zeros(slices.shape)
    areas = []
    for number in range(passes):
        variation = Variation.draw(seed, number)
        changed = variation.windows(windows)
        normalised = changed.statistics.normalize(changed.geometry.to_windows(slices, first))
        seen = variation.gray_values(normalised)[..., np.newaxis]
        for network in networks:
            probabilities = predict_windows(variation.network(network), seen, changed)
            found = [
                (region, values if cord is None else values * cord[(k, *region)])
                for k, (region, values) in enumerate(changed.geometry.to_native(probabilities, first))
            ]
            for k, (region, values) in enumerate(found):
                total[(k, *region)] += values
                squares[(k, *region)] += values**2
            areas.append([values.sum() for _, values in found])
    n = len(areas)
    variance = np.maximum(squares - total**2 / n, 0) / (n - 1)
    return Uncertainty(np.sqrt(variance), np.std(areas, axis=0, ddof=1))
