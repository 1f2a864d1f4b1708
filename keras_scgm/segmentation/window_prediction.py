"""Probabilities in the windows of consecutive slices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keras_scgm.detached_pieces import REACHES_MM, remove_detached
from keras_scgm.localization import Windows
from keras_scgm.predict import Predict, in_cord
from keras_scgm.slices import is_varied


@dataclass(frozen=True)
class WindowPrediction:
    """Probabilities in windows.

    Args:
        probabilities: Float32 (slice, rows, columns, tissue).
        n_removed: (slice,) pixels of gray matter that were removed because they lie away from the cord.
    """

    probabilities: np.ndarray
    n_removed: np.ndarray

    def of(self, part: slice) -> WindowPrediction:
        """Some of the slices."""
        return WindowPrediction(self.probabilities[part], self.n_removed[part])


@dataclass(frozen=True)
class WindowPredictor:
    """Prediction of windows, less what lies away from the cord.

    Args:
        spacing_mm: Pixel spacing of the windows.
        thresholds: Probability above which a pixel is of a tissue, for each tissue of the network.
        around_cord: Whether only the part of a window around the cord may be computed.
        keeps_detached: Whether what lies away from the cord stays.
        in_stacks: Whether the network sees neighbouring slices. Empty slices are not shown to it: a stack ends there
            as it ends at the end of the volume.
    """

    spacing_mm: float
    thresholds: tuple[float, ...]
    around_cord: bool
    keeps_detached: bool
    in_stacks: bool = False

    def __call__(
        self,
        predict: Predict,
        slices: np.ndarray,
        windows: Windows,
        start: int,
        cord: np.ndarray | None = None,
    ) -> WindowPrediction:
        """Compute consecutive windows, except those whose probabilities are known.

        Args:
            predict: The network.
            slices: Z-scored, float32 (slice, rows, columns, 1).
            windows: Input windows of the volume.
            start: Index of the first slice.
            cord: Bool (slice, right-left, posterior-anterior) on the image's grid, if the user gave it; what lies
                outside is removed.
        """
        known, here = windows.probabilities, slice(start, start + len(slices))
        centers = None if windows.cord is None else windows.cord[here]
        probabilities = np.zeros((*slices.shape[:3], len(self.thresholds)), np.float32)
        is_new = np.array([start + k not in known for k in range(len(slices))]) & is_varied(slices)
        if self.in_stacks:
            for run in _runs(is_new):
                probabilities[run] = predict(slices[run][np.newaxis])[0]
        elif is_new.any():
            around = centers[is_new] if centers is not None and self.around_cord else None
            probabilities[is_new] = predict(slices[is_new], around)
        for k in range(len(slices)):
            if start + k in known:
                probabilities[k] = known[start + k]
        windows.geometry.clear_past_field(probabilities, start)
        if cord is not None:
            is_outside = windows.geometry.to_windows(cord, start)[..., np.newaxis] == 0
            return self._removed(probabilities, np.where(is_outside, 0, probabilities))
        if centers is None or self.keeps_detached:
            return WindowPrediction(probabilities, np.zeros(len(slices), int))
        last = len(self.thresholds) - 1
        cleaned, removed = remove_detached(
            probabilities[..., last],
            centers,
            windows.cord_steps[here],
            self.thresholds[last],
            self.spacing_mm,
            REACHES_MM[last],
        )
        if not removed.any():
            return WindowPrediction(probabilities, removed)
        found = probabilities.copy()
        found[..., last] = cleaned
        return self._removed(probabilities, in_cord(found))

    def _removed(self, before: np.ndarray, after: np.ndarray) -> WindowPrediction:
        """What is left of the probabilities, and how much gray matter is not."""
        n_before, n_after = (
            np.count_nonzero(probabilities[..., 0] > self.thresholds[0], axis=(1, 2))
            for probabilities in (before, after)
        )
        return WindowPrediction(after, n_before - n_after)


def _runs(wanted: np.ndarray) -> list[slice]:
    """The runs of true values in a bool array."""
    edges = np.flatnonzero(np.diff(wanted, prepend=False, append=False))
    return [slice(start, stop) for start, stop in edges.reshape(-1, 2)]
