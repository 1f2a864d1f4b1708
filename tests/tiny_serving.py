"""Small SavedModels with the signatures of exported models, for tests of servers and clients.

They read three-dimensional uint8 NIfTI files and take every voxel above 100 for gray matter, and above 50 for the cord.
"""

import gzip
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import tensorflow as tf

from keras_scgm.export.warmup import WarmupRequest, write_warmup

THRESHOLD, CORD_THRESHOLD = 100, 50

COMMON = ("warnings", "area_mm2")
"""Outputs of all exported models."""
STRINGS = (
    "mask_bytes",
    "probability_bytes",
    "cord_bytes",
    "cord_probability_bytes",
    "warnings",
    "verdict",
    "reason",
    "provenance",
    "slice_verdict",
    "slice_reason",
)
TYPES = dict.fromkeys(STRINGS, tf.string)
TYPES |= {"window_moved": tf.bool, "n_slices": tf.int32, "n_voxels": tf.int32}
"""Types of the outputs that are not float64."""
MEASURED = (
    "verdict",
    "reason",
    "predicted_dsc",
    "contrast",
    "noise",
    "window_moved",
    "intensity_mean",
    "intensity_std",
    "removed_away_from_cord_mm3",
    "provenance",
    "n_slices",
    "position_mm",
    "soft_area_mm2",
    "mean_probability",
    "n_voxels",
    "slice_contrast",
    "slice_noise",
    "slice_predicted_dsc",
    "slice_verdict",
    "slice_reason",
)
"""Outputs that models exported by earlier releases lack."""


OF_CORD = ("cord_bytes", "cord_area_mm2", "wm_area_mm2", "gm_cord_ratio")
"""Outputs of models that segment the cord."""


class TinyNifti(tf.Module):
    def __init__(self, threshold=THRESHOLD, has_cord=True):
        super().__init__()
        self.has_cord = has_cord
        self.threshold = tf.Variable(threshold, dtype=tf.int32)
        self.bytes_of = tf.constant([bytes([value]) for value in range(256)])
        self.floats_of = tf.constant([np.float32(value / 255).tobytes() for value in range(256)])
        self.cord_floats_of = tf.constant([cord_probability(value).tobytes() for value in range(256)])

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
        cord = tf.cast(voxels > CORD_THRESHOLD, tf.int32)
        probabilities = tf.cast(voxels, tf.float64) / 255
        by_slice = [shape[2], -1]
        n_voxels = tf.reduce_sum(tf.reshape(mask, by_slice), axis=1)
        n = tf.cast(n_voxels, tf.float64)
        n_cord = tf.cast(tf.reduce_sum(tf.reshape(cord, by_slice), axis=1), tf.float64)
        inside = tf.reduce_sum(tf.reshape(tf.cast(mask, tf.float64) * probabilities, by_slice), axis=1)
        soft = tf.reduce_sum(tf.reshape(probabilities, by_slice), axis=1)
        nan = tf.constant(np.nan, tf.float64)
        mean = tf.where(n > 0, tf.math.divide_no_nan(inside, n), nan)
        is_good = n >= 20
        n_gray = tf.reduce_sum(n_voxels)
        provenance = {"program": "tiny", "weights": [{"name": "tiny", "sha256": "0"}], "threshold": THRESHOLD}
        provenance["tissues"] = ["gray_matter", "cord"] if self.has_cord else ["gray_matter"]
        start = tf.strings.substr(plain, 0, 352)
        as_float = [tf.strings.substr(start, 0, 70), b"\x10\0\x20\0", tf.strings.substr(start, 74, -1)]
        good = tf.reduce_all(is_good)
        dsc = tf.where(n > 0, tf.where(is_good, tf.constant(0.9, tf.float64), 0.7), nan)
        return {
            "mask_bytes": start + tf.strings.reduce_join(tf.gather(self.bytes_of, mask)),
            "probability_bytes": tf.strings.join(as_float)
            + tf.strings.reduce_join(tf.gather(self.floats_of, voxels)),
            "cord_bytes": start + tf.strings.reduce_join(tf.gather(self.bytes_of, cord)),
            "cord_probability_bytes": tf.strings.join(as_float)
            + tf.strings.reduce_join(tf.gather(self.cord_floats_of, voxels)),
            "cord_area_mm2": n_cord,
            "wm_area_mm2": n_cord - n,
            "gm_cord_ratio": n / n_cord,
            "warnings": tf.where(n_gray == 0, "no gray matter found", ""),
            "verdict": tf.where(n_gray == 0, "fail", tf.where(good, "pass", "review")),
            "reason": tf.where(good, "", "few voxels"),
            "predicted_dsc": tf.reduce_mean(tf.where(n > 0, dsc, tf.zeros_like(dsc))),
            "contrast": tf.where(n_gray > 0, tf.reduce_mean(mean), nan),
            "noise": tf.where(n_gray > 0, tf.constant(0.125, tf.float64), nan),
            "window_moved": tf.constant(True),
            "intensity_mean": tf.reduce_mean(probabilities),
            "intensity_std": tf.math.reduce_std(probabilities),
            "removed_away_from_cord_mm3": tf.constant(0.25, tf.float64),
            "provenance": tf.constant(json.dumps(provenance)),
            "n_slices": shape[2],
            "position_mm": tf.cast(tf.range(shape[2]), tf.float64),
            "area_mm2": n,
            "soft_area_mm2": soft,
            "mean_probability": mean,
            "n_voxels": n_voxels,
            "slice_contrast": mean * 2,
            "slice_noise": tf.where(n > 0, tf.constant(0.125, tf.float64), nan),
            "slice_predicted_dsc": dsc,
            "slice_verdict": tf.where(is_good, "pass", "review"),
            "slice_reason": tf.where(is_good, "", "few voxels"),
        }

    def segment_all(self, nifti_bytes, names):
        def chosen(data):
            outputs = self.segment_one(data)
            return {name: outputs[name] for name in names}

        types = {name: TYPES.get(name, tf.float64) for name in names}
        return tf.map_fn(chosen, nifti_bytes, fn_output_signature=types)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "nifti_bytes")])
    def segment(self, nifti_bytes):
        of_cord = OF_CORD if self.has_cord else ()
        return self.segment_all(nifti_bytes, [*COMMON, *MEASURED, *of_cord, "mask_bytes"])

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "nifti_bytes")])
    def soft(self, nifti_bytes):
        of_cord = (*OF_CORD, "cord_probability_bytes") if self.has_cord else ()
        names = [*COMMON, *MEASURED, *of_cord, "mask_bytes", "probability_bytes"]
        return self.segment_all(nifti_bytes, names)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "nifti_bytes")])
    def old_segment(self, nifti_bytes):
        return self.segment_all(nifti_bytes, [*COMMON, "mask_bytes"])

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "nifti_bytes")])
    def old_soft(self, nifti_bytes):
        return self.segment_all(nifti_bytes, ["probability_bytes"])


class TinySlices(tf.Module):
    def __init__(self):
        super().__init__()
        self.threshold = tf.Variable(0.5)

    @tf.function(input_signature=[tf.TensorSpec([None, 4, 4, 1], tf.float32, "slices")])
    def predict(self, slices):
        slices = tf.ensure_shape(slices, [None, 4, 4, 1])
        probabilities = tf.sigmoid(slices)
        return {"probabilities": probabilities, "mask": tf.cast(probabilities > self.threshold, tf.uint8)}


def save_tiny_models(
    folder: Path,
    version: int = 1,
    threshold: int = THRESHOLD,
    is_old: bool = False,
    has_cord: bool = True,
) -> Path:
    """`gm_nifti` and `gm_slices` in `folder`, with warm-up requests.

    Args:
        folder: Folder of the models.
        version: Version of both models.
        threshold: Intensity above which a voxel is gray matter.
        is_old: Whether to omit the outputs that earlier releases did not have.
        has_cord: Whether the model segments the cord.
    """
    nifti, slices = TinyNifti(threshold, has_cord), TinySlices()
    signatures = {"serving_default": nifti.segment, "soft": nifti.soft}
    if is_old:
        signatures = {"serving_default": nifti.old_segment, "soft": nifti.old_soft}
    tf.saved_model.save(nifti, str(folder / "gm_nifti" / str(version)), signatures)
    tf.saved_model.save(slices, str(folder / "gm_slices" / str(version)), {"serving_default": slices.predict})
    request = np.array([nifti_bytes(np.zeros((2, 2, 1), np.uint8))], object)
    write_warmup(folder / "gm_nifti" / str(version), "gm_nifti", [WarmupRequest({"nifti_bytes": request})])
    batches = [WarmupRequest({"slices": np.zeros((n, 4, 4, 1), np.float32)}) for n in (1, 4)]
    write_warmup(folder / "gm_slices" / str(version), "gm_slices", batches)
    return folder


def cord_probability(value: np.ndarray | int) -> np.ndarray:
    """float32, of an intensity."""
    return np.minimum(np.float32(value) / np.float32(128), np.float32(1))


def random_voxels(seed: int, shape=(8, 9, 3)) -> np.ndarray:
    """uint8 [x, y, z]."""
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def nifti_bytes(voxels: np.ndarray, compress: bool = False) -> bytes:
    image = nib.Nifti1Image(voxels, np.diag([-1.0, 1, 1, 1]))
    data = image.to_bytes()
    return gzip.compress(data) if compress else data
