"""Warm-up records against TensorFlow Serving's own messages."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2
from tiny_serving import nifti_bytes, random_voxels

from keras_scgm.export.warmup import WARMUP_FILE, WarmupRequest, read_warmup, write_warmup


def test_warm_up_records_are_the_servers(tmp_path):
    requests = [
        WarmupRequest({"slices": np.zeros((8, 200, 200, 1), np.float32)}),
        WarmupRequest(
            {"nifti_bytes": np.array([nifti_bytes(random_voxels(0), compress=True)], object)}, "soft"
        ),
        WarmupRequest({"slices": np.arange(6, dtype=np.float32).reshape(2, 3)}),
    ]
    path = write_warmup(tmp_path, "gm_nifti", requests)
    assert path == tmp_path / WARMUP_FILE
    assert [file.name for file in path.parent.iterdir()] == ["tf_serving_warmup_requests"]
    assert path.stat().st_size < 2000, "constant slices are one number"
    records = list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())
    for record, request, again in zip(records, requests, read_warmup(tmp_path), strict=True):
        official = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        assert official.model_spec.name == "gm_nifti"
        assert official.model_spec.signature_name == request.signature == again.signature
        for name, array in request.inputs.items():
            np.testing.assert_array_equal(tf.make_ndarray(official.inputs[name]), array)
            np.testing.assert_array_equal(again.inputs[name], array)
    assert read_warmup(tmp_path / "none") == []
    with pytest.raises(ValueError, match="requests must be 1 to 1000, received 0"):
        write_warmup(tmp_path, "gm_nifti", [])
