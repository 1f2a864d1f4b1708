"""Stacks of neighbouring slices as samples of a training.

During augmentation the slices of a stack stand in the axis of channels: what moves a sample moves all its channels
alike, so a stack has one field.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from keras_scgm.datasets import AnnotatedSlices
from keras_scgm.errors import InputError

SINGLE_SHARE = 0.1
"""Share of batches whose slices are shown one by one. So they are in the search for the cord, and in an image of one
slice."""


def shows_single(seed: int, step: int) -> bool:
    """Whether the slices of a batch are shown one by one."""
    return bool(np.random.default_rng((seed, 2, step)).random() < SINGLE_SHARE)


def stack_indices(slices: AnnotatedSlices, n_slices: int) -> np.ndarray:
    """The samples around each sample that make up a stack with it, int (sample, n_slices).

    A sample is in the middle of its stack, but near the ends of the volume.

    Args:
        slices: Labelled slices.
        n_slices: Slices of a stack, neighbours in one volume, with masks of one rater.

    Raises:
        InputError: A volume has fewer slices, or its labelled slices are no neighbours.
    """
    keys = np.stack([slices.volume_indices, slices.rater_indices])
    follows = (np.diff(keys, axis=1) == 0).all(axis=0) & (np.abs(np.diff(slices.slice_indices)) == 1)
    starts = np.flatnonzero(np.r_[True, ~follows])
    stops = np.r_[starts[1:], len(slices)]
    shortest = int((stops - starts).min())
    if shortest < n_slices:
        raise InputError(
            f"a volume has labels on {shortest} neighbouring slices, but stacks have {n_slices}; label more, lower "
            "stack_slices in the settings, or train a network of single slices"
        )
    run = np.searchsorted(starts, np.arange(len(slices)), side="right") - 1
    first = np.clip(np.arange(len(slices)) - n_slices // 2, starts[run], stops[run] - n_slices)
    return first[:, np.newaxis] + np.arange(n_slices)


def as_channels(stacks: np.ndarray) -> np.ndarray:
    """(stack, slice, height, width, 1) to (stack, height, width, slice)."""
    return np.moveaxis(stacks[..., 0], 1, -1)


def as_stacks(slices: Any, single: bool) -> Any:
    """Inverse of `as_channels`, for tensors.

    Args:
        slices: (stack, height, width, slice).
        single: Whether each slice becomes a stack of its own, (stack * slice, 1, height, width, 1).
    """
    _, height, width, n_slices = slices.shape
    stacks = ops.expand_dims(ops.moveaxis(slices, -1, 1), -1)
    return ops.reshape(stacks, (-1, 1 if single else n_slices, height, width, 1))
