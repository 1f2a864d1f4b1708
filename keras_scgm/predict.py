"""The contract between the pipeline and whatever computes a network, and what its tissues owe each other."""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np

UnknownContrast = Literal[-1, 0, 1]
"""Sign of gray matter's brightness less that of white matter in images that a network was not trained for: -1 for one
that was trained for bright gray matter alone, 1 for dark alone, 0 for both."""


class Predict(Protocol):
    """Probabilities of the tissues in axial slices."""

    def __call__(self, slices: np.ndarray, centers: np.ndarray | None = None, /) -> np.ndarray:
        """Compute probabilities.

        Args:
            slices: Z-scored slices of any size, float32 (slice, rows, columns, 1), each by itself. Neighbouring
                slices (1, slice, rows, columns, 1) are one stack, which networks of stacks need; the result then
                has the same first axis.
            centers: Positions of the cord, (slice, 2) pixels, where they are known. Pixels far from the cord may
                then be left at 0, which saves time.

        Returns:
            float32 (slice, rows, columns, tissue) in [0, 1]. Gray matter comes first; a network that knows the cord
            has it last, and gray matter is never more probable than the cord.
        """


def in_cord(probabilities: np.ndarray) -> np.ndarray:
    """Bound the probability of gray matter by that of the cord, which contains it.

    Args:
        probabilities: (..., tissue) as in `Predict`, of gray matter alone or of gray matter and cord.

    Returns:
        A copy; `probabilities` themselves if they have no cord.
    """
    if probabilities.shape[-1] == 1:
        return probabilities
    bounded = probabilities.copy()
    np.minimum(probabilities[..., 0], probabilities[..., -1], out=bounded[..., 0])
    return bounded
