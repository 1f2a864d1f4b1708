"""The contract between the pipeline and whatever computes a network."""

from __future__ import annotations

from typing import Protocol

import numpy as np


class Predict(Protocol):
    """Gray matter probabilities of axial slices."""

    def __call__(self, slices: np.ndarray, centers: np.ndarray | None = None, /) -> np.ndarray:
        """Compute probabilities.

        Args:
            slices: Z-scored slices of any size, float32 (slice, rows, columns, 1).
            centers: Positions of the cord, (slice, 2) pixels, where they are known. Pixels far from the cord may
                then be left at 0, which saves time.

        Returns:
            float32 (slice, rows, columns) in [0, 1].
        """
