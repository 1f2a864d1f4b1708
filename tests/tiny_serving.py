"""Small SavedModels with the signatures of an export, for tests of what is around them.

Gray matter, to them, is every voxel over 100; they read uint8 NIfTI files of three dimensions.
"""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import tensorflow as tf

from keras_scgm.serving.warmup import WarmupRequest, write_warmup

THRESHOLD = 100


class TinyNifti(tf.Module):
    def __init__(self, threshold=THRESHOLD):
        super().__init__()
        self.threshold = tf.Variable(threshold, dtype=tf.int32)
        self.bytes_of = tf.constant([bytes([value]) for value in range(256)])

    def header(self, data):
        gzipped = tf.strings.substr(data, 0, 2) == b"\x1f\x8b"
        plain = tf.cond(gzipped, lambda: tf.io.decode_compressed(data, "GZIP"), lambda: data)
        n_bytes = tf.strings.length(plain)
        is_nifti = tf.logical_and(n_bytes >= 352, tf.strings.substr(plain, 344, 3) == b"n+1")
        with tf.control_dependencies([tf.debugging.Assert(is_nifti, ["not a NIfTI-1 file"])]):
            shape = tf.cast(tf.io.decode_raw(tf.strings.substr(plain, 40, 8), tf.int16)[1:], tf.int32)
        complete = n_bytes == 352 + tf.reduce_prod(shape)
        with tf.control_dependencies([tf.debugging.Assert(complete, ["the file is cut off"])]):
            voxels = tf.cast(tf.io.decode_raw(tf.strings.substr(plain, 352, -1), tf.uint8), tf.int32)
        return plain, shape, voxels

    def segment_one(self, data):
        plain, shape, voxels = self.header(data)
        mask = tf.cast(voxels > self.threshold, tf.int32)
        areas = tf.reduce_sum(tf.reshape(mask, [shape[2], -1]), axis=1)
        n_gray = tf.reduce_sum(mask)
        file = tf.strings.substr(plain, 0, 352) + tf.strings.reduce_join(tf.gather(self.bytes_of, mask))
        return file, tf.cast(areas, tf.float32), tf.where(n_gray == 0, "no gray matter found", "")

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "nifti_bytes")])
    def segment(self, nifti_bytes):
        file, areas, warnings = tf.map_fn(
            self.segment_one, nifti_bytes, fn_output_signature=(tf.string, tf.float32, tf.string)
        )
        return {"mask_bytes": file, "area_mm2": areas, "warnings": warnings}


class TinySlices(tf.Module):
    def __init__(self):
        super().__init__()
        self.threshold = tf.Variable(0.5)

    @tf.function(input_signature=[tf.TensorSpec([None, 4, 4, 1], tf.float32, "slices")])
    def predict(self, slices):
        slices = tf.ensure_shape(slices, [None, 4, 4, 1])
        probabilities = tf.sigmoid(slices)
        return {"probabilities": probabilities, "mask": tf.cast(probabilities > self.threshold, tf.uint8)}


def save_tiny_models(folder: Path, version: int = 1, threshold: int = THRESHOLD) -> Path:
    """`gm_nifti` and `gm_slices` in `folder`, with warm-up requests."""
    nifti, slices = TinyNifti(threshold), TinySlices()
    tf.saved_model.save(nifti, str(folder / "gm_nifti" / str(version)), {"serving_default": nifti.segment})
    tf.saved_model.save(slices, str(folder / "gm_slices" / str(version)), {"serving_default": slices.predict})
    request = np.array([nifti_bytes(np.zeros((2, 2, 1), np.uint8))], object)
    write_warmup(folder / "gm_nifti" / str(version), "gm_nifti", [WarmupRequest({"nifti_bytes": request})])
    batches = [WarmupRequest({"slices": np.zeros((n, 4, 4, 1), np.float32)}) for n in (1, 4)]
    write_warmup(folder / "gm_slices" / str(version), "gm_slices", batches)
    return folder


def random_voxels(seed: int, shape=(8, 9, 3)) -> np.ndarray:
    """uint8 [x, y, z]."""
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def nifti_bytes(voxels: np.ndarray, compress: bool = False) -> bytes:
    image = nib.Nifti1Image(voxels, np.diag([-1.0, 1, 1, 1]))
    data = image.to_bytes()
    return gzip.compress(data) if compress else data
