"""Warnings of the graph about slices are those of `keras_scgm.segmentation.warnings`, in its words and order."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from feature_matrix import as_matrix, name_slices
from good_slice import BLANK, EMPTY_CORD, GOOD, GOOD_WITH_CORD, WITHOUT_CORD

from keras_scgm import messages
from keras_scgm.export.graph.slice_features import FEATURES
from keras_scgm.export.graph.slice_warnings import slice_warnings
from keras_scgm.quality.verdicts import predict_quality
from keras_scgm.segmentation.native_grid import SliceMeasurement
from keras_scgm.segmentation.warnings import result_warnings

CORD_AT_EDGE = replace(GOOD_WITH_CORD, cord_near_edge=True)
KINDS = {
    False: [BLANK, GOOD, replace(GOOD, near_edge=True), replace(GOOD, contrast=-9.0)],
    True: [
        WITHOUT_CORD,
        EMPTY_CORD,
        replace(EMPTY_CORD, cord_near_edge=True),
        GOOD_WITH_CORD,
        CORD_AT_EDGE,
        replace(CORD_AT_EDGE, near_edge=True),
    ],
}


@pytest.mark.parametrize(("knows_cord", "unknown"), [(False, -1), (False, 1), (True, -1)])
def test_warnings_of_random_volumes(knows_cord, unknown):
    @tf.function(
        input_signature=[
            tf.TensorSpec([None, len(FEATURES)], tf.float64),
            *[tf.TensorSpec([None], tf.bool)] * 2,
            tf.TensorSpec([None], tf.float64),
            tf.TensorSpec([], tf.bool),
        ]
    )
    def warned(features, is_present, near_edge, removed_mm2, is_unknown):
        of_contrast = is_unknown, messages.UNKNOWN_CONTRAST[unknown]
        cases = slice_warnings(
            features, is_present, near_edge, removed_mm2, of_contrast, name_slices, knows_cord
        )
        is_given, lines = (tf.stack(each) for each in zip(*cases, strict=True))
        return tf.boolean_mask(lines, is_given)

    rng, seen = np.random.default_rng(3), set()
    for _ in range(200):
        chosen = rng.permutation(len(KINDS[knows_cord]))[: rng.integers(1, 5)]
        volume = [KINDS[knows_cord][k] for k in rng.choice(chosen, rng.integers(1, 15))]
        removed_mm2 = np.where(rng.random(len(volume)) < 0.2, 1.5, 0.0)
        measurements = [
            SliceMeasurement(
                n_voxels=int(one.area_mm2),
                n_cord_voxels=int(one.has_cord),
                near_edge=one.near_edge,
                removed_mm2=removed,
            )
            for one, removed in zip(volume, removed_mm2, strict=True)
        ]
        quality = predict_quality(volume)
        lines = warned(
            as_matrix(volume),
            np.array([one.area_mm2 > 0 for one in volume]),
            np.array([one.near_edge for one in volume]),
            removed_mm2,
            quality.contrast * unknown > 0,
        )
        expected = result_warnings(
            SimpleNamespace(stored_slice_index=lambda k: k),
            SimpleNamespace(statistics=SimpleNamespace(n_not_finite=0, is_constant=False)),
            (),
            (),
            measurements,
            quality,
            unknown_contrast=unknown,
            knows_cord=knows_cord,
        )
        expected = [line for line in expected if not line.startswith("predicted DSC")]
        assert [line.decode() for line in lines.numpy()] == expected
        seen |= {line.split(":")[0] for line in expected}
    assert len(seen) == (7 if knows_cord else 4)
