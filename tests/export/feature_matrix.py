"""Features of slices as the graph has them."""

from collections.abc import Sequence

import numpy as np

from keras_scgm.export.graph.slice_features import FEATURES
from keras_scgm.quality.features import SliceFeatures


def as_matrix(slices: Sequence[SliceFeatures]) -> np.ndarray:
    """(slice, feature)."""
    return np.array([[float(getattr(one, name)) for name in FEATURES] for one in slices])
