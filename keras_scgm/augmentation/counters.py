"""Counter-based random numbers: each depends on its purpose, not on the numbers drawn before.

A number depends on (seed, step, sample, purpose, place) alone, so that samples can be computed in any order,
in parallel and after a restart. The generator hashes counters, as in Salmon et al. 2011, "Parallel random
numbers: as easy as 1, 2, 3". `keras.random` has no seeds per sample.
"""

from __future__ import annotations

import math
import zlib
from typing import Any

import numpy as np
from keras import ops


def sample_keys(seed: int, step: Any, count: Any) -> Any:
    """A key for each sample of a batch.

    Args:
        seed: Seed of the training, 0 to 2**32 - 1.
        step: Number of the batch, an integer or a scalar tensor.
        count: Samples in the batch.

    Returns:
        int32 tensor (count,).
    """
    batch = _mix(ops.bitwise_xor(_mix(_word(seed)), ops.cast(step, "int32")))
    return _mix(ops.bitwise_xor(batch, ops.arange(count, dtype="int32")))


def uniform(keys: Any, purpose: str, shape: tuple[int, ...]) -> Any:
    """Numbers in [0, 1), a multiple of 2**-24, float32 (sample, *shape)."""
    count = math.prod(shape)
    # Places of one purpose are hashed before they meet the key: no two samples walk the same sequence.
    places = _mix(ops.bitwise_xor(ops.arange(count, dtype="int32"), _word(zlib.crc32(purpose.encode()))))
    bits = _mix(ops.bitwise_xor(ops.expand_dims(keys, 1), ops.expand_dims(places, 0)))
    return ops.reshape(ops.cast(_shift_right(bits, 8), "float32") * 2.0**-24, (-1, *shape))


def normal(keys: Any, purpose: str, shape: tuple[int, ...]) -> Any:
    """Standard normal numbers by the Box-Muller transform, float32 (sample, *shape)."""
    count = math.prod(shape)
    pairs = uniform(keys, purpose, (2, (count + 1) // 2))
    radius = ops.sqrt(-2 * ops.log(1 - pairs[:, 0]))
    angle = 2 * math.pi * pairs[:, 1]
    numbers = ops.concatenate([radius * ops.cos(angle), radius * ops.sin(angle)], axis=1)
    return ops.reshape(numbers[:, :count], (-1, *shape))


def _mix(words: Any) -> Any:
    """The hash "lowbias32" of C. Wellons: a bijection of 32-bit words without visible structure."""
    words = ops.bitwise_xor(words, _shift_right(words, 16)) * _word(0x7FEB352D)
    words = ops.bitwise_xor(words, _shift_right(words, 15)) * _word(0x846CA68B)
    return ops.bitwise_xor(words, _shift_right(words, 16))


def _word(value: int) -> Any:
    """32 bits as a signed scalar: PyTorch cannot multiply unsigned ones."""
    return ops.convert_to_tensor(np.array(value, np.uint32).astype(np.int32))


def _shift_right(words: Any, places: int) -> Any:
    """Shift filling with zeros, where int32 would repeat the sign."""
    return ops.bitwise_and(ops.right_shift(words, places), (1 << (32 - places)) - 1)
