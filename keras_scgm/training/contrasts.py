"""Which contrasts of gray and white matter a training shows, for the card of its weights."""

from __future__ import annotations

import numpy as np

from keras_scgm.datasets import AnnotatedSlices
from keras_scgm.pretrained import BRIGHT, DARK
from keras_scgm.quality.features import slice_features

LEAST_SHARE = 0.1
"""Share of the slices from which on a contrast counts as learned."""
MEASURED_SLICES = 200


def learned_contrasts(dark: float, inverted: float = 0.0) -> tuple[str, ...]:
    """Contrasts of at least `LEAST_SHARE` of the slices, of `keras_scgm.pretrained.CONTRASTS`.

    >>> learned_contrasts(0.02), learned_contrasts(0.02, inverted=0.1)
    (('bright gray matter',), ('bright gray matter', 'dark gray matter'))

    Args:
        dark: Share of slices with gray matter darker than white matter.
        inverted: Share of slices whose dark and bright are exchanged.
    """
    shown = dark * (1 - inverted) + (1 - dark) * inverted
    return tuple(name for name, share in ((BRIGHT, 1 - shown), (DARK, shown)) if share >= LEAST_SHARE)


def measured_dark_share(slices: AnnotatedSlices) -> float:
    """Share of slices that are of volumes whose gray matter is darker than its rim; 0 if none has gray matter.

    Evenly spaced slices with gray matter are measured. The fluid beside the tips of the dorsal horns can brighten the
    rim in a single one, so the mean of its volume counts.
    """
    held = np.flatnonzero(slices.masks[..., 0].max(axis=(1, 2)) > 0.5)
    chosen = held[:: max(1, -(-len(held) // MEASURED_SLICES))]
    contrasts = np.array([_contrast(slices, k) for k in chosen])
    is_known = np.isfinite(contrasts)
    if not is_known.any():
        return 0.0
    volumes, contrasts = slices.volume_indices[chosen][is_known], contrasts[is_known]
    return float(np.mean((np.bincount(volumes, contrasts) < 0)[volumes]))


def _contrast(slices: AnnotatedSlices, index: int) -> float:
    return slice_features(
        slices.images[index, ..., 0], slices.masks[index, ..., 0], slices.spacing_mm
    ).contrast
