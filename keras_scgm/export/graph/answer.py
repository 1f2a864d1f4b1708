"""Outputs of the served model beside the mask: numbers and texts of the volume and of each slice.

| of a volume, [n] | |
|---|---|
| `verdict` string, `reason` string, `predicted_dsc` float64 | as `keras_scgm.quality.verdicts.Quality` |
| `contrast`, `noise` float64 | in the image's unit, NaN if not known |
| `warnings` string | what may be wrong with the result, one line each |
| `window_moved` bool | whether some window is not in the middle of the field of view |
| `intensity_mean`, `intensity_std` float64 | of the windows |
| `removed_away_from_cord_mm3` float64 | gray matter that was removed because it lies away from the cord |
| `provenance` string | JSON: program, weights and settings |
| `n_slices` int32 | axial slices of the file |

| of a slice, [n, slices], in the order of the file, 0 or "" after its last | |
|---|---|
| `position_mm`, `area_mm2`, `soft_area_mm2`, `mean_probability` float64, `n_voxels` int32 | as \
`keras_scgm.morphometry.SliceArea` |
| `slice_contrast`, `slice_noise`, `slice_predicted_dsc` float64 | NaN if not known |
| `slice_verdict`, `slice_reason` string | |
| `cord_area_mm2`, `wm_area_mm2`, `gm_cord_ratio` float64 | of networks that segment the cord, too |
"""

from __future__ import annotations

import tensorflow as tf

from keras_scgm.export.graph.network import GraphNetwork
from keras_scgm.export.graph.nifti import StoredImage
from keras_scgm.export.graph.raw_bytes import to_bytes
from keras_scgm.export.graph.segmentation import GraphConfig, segment
from keras_scgm.export.graph.slice_features import column

NUMBERS = {
    "predicted_dsc": tf.float64,
    "contrast": tf.float64,
    "noise": tf.float64,
    "window_moved": tf.bool,
    "intensity_mean": tf.float64,
    "intensity_std": tf.float64,
    "removed_away_from_cord_mm3": tf.float64,
    "n_slices": tf.int32,
}
TEXTS = ("verdict", "reason", "warnings")
MASKS, PROBABILITIES = (
    ("mask_bytes", "cord_bytes"),
    ("probability_bytes", "cord_probability_bytes"),
)
"""Files of the tissues, gray matter first; networks without the cord give the first of each."""
SLICE_NUMBERS = {
    "position_mm": tf.float64,
    "area_mm2": tf.float64,
    "soft_area_mm2": tf.float64,
    "mean_probability": tf.float64,
    "n_voxels": tf.int32,
    "slice_contrast": tf.float64,
    "slice_noise": tf.float64,
    "slice_predicted_dsc": tf.float64,
}
CORD_NUMBERS = dict.fromkeys(("cord_area_mm2", "wm_area_mm2", "gm_cord_ratio"), tf.float64)
"""Further numbers of a slice from networks that segment the cord, too."""
SLICE_TEXTS = ("slice_verdict", "slice_reason")

PACKED = ("numbers", "slice_numbers", *TEXTS, *SLICE_TEXTS)
"""Names of the strings that hold all outputs of one file."""

# Precedes each text of a slice, since an empty string cannot be split.
_START = "."


def packed_answer(image: StoredImage, network: GraphNetwork, config: GraphConfig) -> dict[str, tf.Tensor]:
    """Segment an image: string () of each file of `MASKS` and `PROBABILITIES`, and those of `PACKED`."""
    result = segment(image, network, config)
    quality, measured = result.quality, result.measurements
    n_voxels, n_cord_voxels = (
        tf.cast(counts, tf.float64) for counts in (measured.n_voxels, measured.n_cord_voxels)
    )
    n_slices = tf.size(measured.n_voxels)
    numbers = {
        "predicted_dsc": quality.predicted_dsc,
        "contrast": quality.contrast,
        "noise": quality.noise,
        "window_moved": result.window_moved,
        "intensity_mean": result.statistics.mean,
        "intensity_std": result.statistics.std,
        "removed_away_from_cord_mm3": tf.reduce_sum(measured.removed_mm2) * image.slice_spacing_mm,
        "n_slices": n_slices,
    }
    of_slices = {
        "position_mm": tf.cast(tf.range(n_slices), tf.float64) * image.slice_spacing_mm,
        "area_mm2": n_voxels * image.voxel_area_mm2,
        "soft_area_mm2": measured.probability_sum * image.voxel_area_mm2,
        "mean_probability": measured.mask_probability / n_voxels,
        "n_voxels": n_voxels,
        "slice_contrast": column(result.features, "contrast"),
        "slice_noise": column(result.features, "noise"),
        "slice_predicted_dsc": quality.slice_predicted_dsc,
        "cord_area_mm2": n_cord_voxels * image.voxel_area_mm2,
        "wm_area_mm2": (n_cord_voxels - n_voxels) * image.voxel_area_mm2,
        "gm_cord_ratio": n_voxels / n_cord_voxels,
    }
    names = slice_numbers(network.n_tissues)
    table = image.in_file_order(tf.stack([of_slices[name] for name in names], axis=1))
    texts = {name: image.in_file_order(getattr(quality, name)) for name in SLICE_TEXTS}
    return {
        **{name: image.write(voxels) for name, voxels in zip(MASKS, result.masks, strict=False)},
        **{
            name: image.write(voxels)
            for name, voxels in zip(PROBABILITIES, result.probabilities, strict=False)
        },
        "numbers": to_bytes(tf.stack([tf.cast(numbers[name], tf.float64) for name in NUMBERS])),
        "slice_numbers": to_bytes(table),
        "verdict": quality.verdict,
        "reason": quality.reason,
        "warnings": result.warnings,
        **{name: tf.strings.reduce_join(_START + each, separator="\n") for name, each in texts.items()},
    }


def slice_numbers(n_tissues: int) -> dict[str, tf.DType]:
    """Types of the numbers of each slice."""
    return SLICE_NUMBERS if n_tissues == 1 else SLICE_NUMBERS | CORD_NUMBERS


def unpacked_answers(packed: dict[str, tf.Tensor], n_tissues: int) -> dict[str, tf.Tensor]:
    """The outputs for all files of a request, from string [n] of `PACKED`."""
    of_slices = slice_numbers(n_tissues)
    numbers = tf.io.decode_raw(packed["numbers"], tf.float64)
    longest = tf.reduce_max(tf.strings.length(packed["slice_numbers"]))
    table = tf.io.decode_raw(packed["slice_numbers"], tf.float64, fixed_length=longest)
    table = tf.reshape(table, [tf.shape(table)[0], -1, len(of_slices)])
    answers = {name: packed[name] for name in TEXTS}
    for k, (name, dtype) in enumerate(NUMBERS.items()):
        answers[name] = tf.cast(numbers[:, k], dtype)
    for k, (name, dtype) in enumerate(of_slices.items()):
        answers[name] = tf.cast(table[..., k], dtype)
    for name in SLICE_TEXTS:
        texts = tf.strings.split(packed[name], sep="\n").to_tensor(_START)
        answers[name] = tf.strings.substr(texts, len(_START), tf.int32.max)
    return answers
