"""Networks of slices and networks of stacks behind one contract.

Slices (slice, rows, columns, 1) have nothing to do with each other. Stacks (stack, slice, rows, columns, 1) hold
neighbouring slices, from the inferior end.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from keras_scgm.runtimes.region_of_interest import Compute

Run = Callable[[np.ndarray], np.ndarray]
"""Stacks (stack, slice, rows, columns, 1) -> probabilities (stack, slice, rows, columns, tissue)."""


def in_stacks(run: Run) -> Compute:
    """A network of stacks that takes slices, too, each as a stack of its own."""

    def compute(slices: np.ndarray, _: np.ndarray | None = None) -> np.ndarray:
        return run(slices) if slices.ndim == 5 else run(slices[:, np.newaxis])[:, 0]

    return compute


def slice_by_slice(compute: Compute) -> Compute:
    """A network of slices that takes stacks, too."""

    def computed(slices: np.ndarray, regions: np.ndarray | None = None) -> np.ndarray:
        if slices.ndim == 4:
            return compute(slices, regions)
        found = compute(slices.reshape(-1, *slices.shape[2:]))
        return found.reshape(*slices.shape[:2], *found.shape[1:])

    return computed
