"""Slices one by one: on a processor no slower than many at once, in a fraction of the memory."""

from __future__ import annotations

import numpy as np

from keras_scgm.runtimes.region_of_interest import Compute


def one_by_one(compute: Compute) -> Compute:
    """A network that is shown one slice, or one stack, at a time.

    The feature maps of a window of 200 x 200 pixels have 5 MB with 32 filters, and stay in the processor's caches.

    Args:
        compute: The network.

    Returns:
        The same network, for at least one slice.
    """

    def computed(slices: np.ndarray, regions: np.ndarray | None = None) -> np.ndarray:
        each = [slice(k, k + 1) for k in range(len(slices))]
        return np.concatenate([compute(slices[k], None if regions is None else regions[k]) for k in each])

    return computed
