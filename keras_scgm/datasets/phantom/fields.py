"""Smooth random fields of one slice: cubic B-splines through random values at knots."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from keras_scgm.datasets.phantom.anatomy import Floats

N_SCALARS = 768
"""Number of dials of a slice that are single numbers; those of its smooth fields follow."""
_EXTENT_MM = 208.0
_FINE_MM, _COARSE_MM = 4.0, 16.0
_N_FINE, _N_COARSE = 4, 3
_FINE_SIDE, _COARSE_SIDE = int(_EXTENT_MM / _FINE_MM), int(_EXTENT_MM / _COARSE_MM)
N_DIALS = N_SCALARS + _N_FINE * _FINE_SIDE**2 + _N_COARSE * _COARSE_SIDE**2


@lru_cache(maxsize=64)
def _spline_weights(n: int, spacing_mm: float, knot_mm: float, knots: int) -> Floats:
    """Cubic B-spline weights of `knots` values on `n` centred pixels, scaled to keep unit variance."""
    position = ((np.arange(n) - (n - 1) / 2) * spacing_mm / knot_mm + (knots - 1) / 2)[:, None]
    t = np.abs(position - np.arange(knots))
    weights = np.where(t < 1, 2 / 3 - t * t + t**3 / 2, np.where(t < 2, (2 - t) ** 3 / 6, 0.0))
    return (weights / math.sqrt(0.4794)).astype(np.float32)


def spline_field(knot_values: Floats, shape: tuple[int, int], spacing_mm: float, knot_mm: float) -> Floats:
    """Random field of about unit variance that varies over `knot_mm`, [*shape]."""
    rows = _spline_weights(shape[0], spacing_mm, knot_mm, knot_values.shape[0])
    columns = _spline_weights(shape[1], spacing_mm, knot_mm, knot_values.shape[1])
    return rows @ knot_values.astype(np.float32) @ columns.T


def speckle(rng: np.random.Generator, shape: tuple[int, int], spacing_mm: float, grain_mm: float) -> Floats:
    """Fine tissue texture of about unit variance and grain `grain_mm`, [*shape]."""
    knots = [math.ceil(n * spacing_mm / grain_mm) + 3 for n in shape]
    return spline_field(rng.standard_normal(knots, dtype=np.float32), shape, spacing_mm, grain_mm)


def shapes_along_cord(own: Floats, distance_mm: float, rng: np.random.Generator) -> Iterator[Floats]:
    """The dials of slice after slice of a person, `N_DIALS` standard normal numbers each, without end.

    Four fifths of their variance are the person's; the rest changes along the cord.

    Args:
        own: The dials of the person, as many standard normal numbers.
        distance_mm: Distance between slices.
        rng: Random generator of what changes.
    """
    memory = math.exp(-distance_mm / 8)
    local = rng.standard_normal(N_DIALS, dtype=np.float32)
    while True:
        local = memory * local + math.sqrt(1 - memory**2) * rng.standard_normal(N_DIALS, dtype=np.float32)
        yield math.sqrt(0.8) * own + math.sqrt(0.2) * local


class Fields:
    """Smooth random fields of one slice, from its dials."""

    def __init__(self, numbers: Floats, shape: tuple[int, int], spacing_mm: float):
        split = _N_FINE * _FINE_SIDE**2
        fine = numbers[:split].reshape(_N_FINE, _FINE_SIDE, _FINE_SIDE)
        coarse = numbers[split:].reshape(_N_COARSE, _COARSE_SIDE, _COARSE_SIDE)
        self.tone, self.fold, self.wave_u, self.wave_v = (
            spline_field(knots, shape, spacing_mm, _FINE_MM) for knots in fine
        )
        self.bend_u, self.bend_v, self.bias = (
            spline_field(knots, shape, spacing_mm, _COARSE_MM) for knots in coarse
        )
