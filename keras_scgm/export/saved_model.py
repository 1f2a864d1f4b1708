"""SavedModels for TensorFlow Serving.

`gm_slices` is the network alone, whose requests a server may join into batches; `gm_nifti` is all of
`keras_scgm.segment`, from the bytes of an image to the bytes of its mask.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np
import tensorflow as tf

from keras_scgm import checks
from keras_scgm.dice import dice
from keras_scgm.errors import InputError
from keras_scgm.export.check import synthetic_image, warm_up_files
from keras_scgm.export.graph.answer import MASKS, PACKED, PROBABILITIES, packed_answer, unpacked_answers
from keras_scgm.export.graph.network import (
    EXPORT_PRECISIONS,
    GraphNetwork,
    compute,
    compute_each_stack,
)
from keras_scgm.export.graph.nifti import read_nifti
from keras_scgm.export.graph.processor import PROCESSOR
from keras_scgm.export.graph.refusals import require
from keras_scgm.export.graph.segmentation import GraphConfig
from keras_scgm.export.warmup import WarmupRequest, tensorflow_writes, write_warmup
from keras_scgm.files import staging_folder
from keras_scgm.limits import MAX_REQUEST_FILES
from keras_scgm.prediction import Weights
from keras_scgm.segmentation import Segmentation, SegmentationConfig, Segmenter
from keras_scgm.volume import as_array

SLICES_MODEL, NIFTI_MODEL = "gm_slices", "gm_nifti"
BATCHING_FILE = "batching_params.pbtxt"
CARD_FILE = Path("assets.extra") / "keras_scgm.json"

BATCHES = (1, 4, 8, 16, 32, 64)
"""Batch sizes of `gm_slices`: `allowed_batch_sizes` of the batching file; the server warms up with each."""
STACK_SHAPE = (1, 5)
"""Stacks and their slices with which the server warms up in place of `BATCHES`."""
MIN_DSC = {"float32": 0.999, "bfloat16": 0.995, "float16": 0.995}
"""Precision -> lowest DSC with `keras_scgm.segment` on the synthetic volume; below it nothing is exported.

On processors float32 gives the same mask, voxel for voxel; on a GPU, rounding may change a voxel.
"""


@dataclass(frozen=True)
class ExportedModels:
    """What was exported.

    Args:
        version: Version number, the name of both folders.
        slices: Folder of this version of `gm_slices`.
        nifti: Folder of this version of `gm_nifti`.
        dsc: DSC of `gm_nifti` with `keras_scgm.segment` on the synthetic volume.
    """

    version: int
    slices: Path
    nifti: Path
    dsc: float


def export_saved_model(
    weights: Weights | Sequence[Weights] | None,
    path: str | Path,
    *,
    threshold: float | None = None,
    window: Literal["auto", "center"] = "auto",
    precision: Literal["float32", "bfloat16", "float16"] = "float32",
) -> ExportedModels:
    """Export a network for TensorFlow Serving, alone and with the whole segmentation around it.

    Writes the next version of two models in `path`, which holds them as a server expects: `gm_slices/1` and
    `gm_nifti/1`, then `gm_slices/2` and `gm_nifti/2`, and so on. A version appears completely or not at all,
    never replaces another, and its masks agree with `keras_scgm.segment` on a synthetic volume. The graphs hold
    core operations only.

    | model | signature | inputs | outputs |
    |---|---|---|---|
    | `gm_slices` | `serving_default` | `slices` float32 [n, size, size, 1], z-scored over their volume | \
`probabilities` float32 and `mask` uint8, [n, size, size, tissue]: gray matter, and the cord if the network knows it |
    | | `raw` | the same in any unit; each slice is z-scored by itself | the same |
    | `gm_nifti` | `serving_default` | `nifti_bytes` string [n], .nii or .nii.gz files | `mask_bytes` string \
[n], uncompressed .nii files on the grid of the inputs; `cord_bytes`, likewise, if the network knows the cord, which \
holds all gray matter, so that the rest of it is white matter; and what `keras_scgm.export.graph.answer` lists of \
the volume and of each slice: areas, predicted Dice coefficient, verdict and its reason, warnings, provenance |
    | | `soft` | the same | the same, and `probability_bytes`, `cord_probability_bytes` string [n], float32 .nii files |

    What `gm_nifti` refuses is an INVALID_ARGUMENT error that names the file, what is wrong and what to do. The
    slices' size is that of the weights' card, 200 for all published ones. `gm_slices` of a network of stacks takes
    stacks of neighbouring slices from the inferior end, [n, slices, size, size, 1], and answers likewise; `raw`
    z-scores each stack by itself, and there is no batching.

    Args:
        weights: Known name, file, model or card of an ensemble, or several of the same tissues to be averaged; None
            for the default weights.
        path: Folder of the models, created if missing.
        threshold: Probability above which a voxel is gray matter; None takes the one in the weights' card.
        window: "auto" finds the cord, "center" is the middle of the field of view (paper 3.4.1).
        precision: Precision of the network's feature maps.

    Returns:
        The version and its folders.

    Raises:
        keras_scgm.errors.InputError: The weights or an option cannot be used, the folder cannot be written, or
            the exported model does not agree with `keras_scgm.segment`.
    """
    folder = checks.path("path", path)
    checks.one_of(EXPORT_PRECISIONS)("precision", precision)
    checks.one_of(("auto", "center"))("window", window)
    segmenter = Segmenter(
        weights, SegmentationConfig(threshold=threshold, window=window, runtime="tensorflow")
    )
    networks = segmenter.networks
    network = GraphNetwork([one.model for one in networks.networks], precision)
    config = GraphConfig(networks.config, networks.thresholds, window, networks.unknown_contrast)
    provenance = {**segmenter.provenance, "precision": precision}
    card = json.dumps(provenance, indent=2) + "\n"
    expected = segmenter.segment(synthetic_image())
    with staging_folder(folder) as staging:
        slices_folder, nifti_folder = staging / SLICES_MODEL, staging / NIFTI_MODEL
        size = config.slices.window_px
        slices = slices_endpoints(network, config)
        _save(slices_folder, slices, network, card)
        write_warmup(
            slices_folder,
            SLICES_MODEL,
            [
                WarmupRequest({"slices": np.zeros((*shape, size, size, 1), np.float32)}, signature)
                for signature in slices
                for shape in (
                    [(count,) for count in BATCHES] if network.slice_reach is None else [STACK_SHAPE]
                )
            ],
        )
        # No batching where requests differ in size: of stacks, and of gm_nifti, where one bad file would fail others.
        if network.slice_reach is None:
            batching = files("keras_scgm.export").joinpath(BATCHING_FILE).read_text(encoding="utf-8")
            (slices_folder / BATCHING_FILE).write_text(batching, encoding="utf-8")
        nifti = nifti_endpoints(network, config, json.dumps(provenance))
        _save(nifti_folder, nifti, network, card)
        synthetic, *others = (np.array([file], object) for file in warm_up_files())
        write_warmup(
            nifti_folder,
            NIFTI_MODEL,
            [
                *(WarmupRequest({"nifti_bytes": synthetic}, signature) for signature in nifti),
                *(WarmupRequest({"nifti_bytes": file}) for file in others),
            ],
        )
        dsc = _dsc_with_segment(nifti_folder, synthetic, expected)
        if dsc < MIN_DSC[precision]:
            raise InputError(
                f"precision {precision}: the exported model agrees with keras-scgm segment to a DSC of only "
                f"{dsc:.4f}, below {MIN_DSC[precision]}; choose another precision"
            )
        version = _publish(staging, folder)
    return ExportedModels(
        version, folder / SLICES_MODEL / str(version), folder / NIFTI_MODEL / str(version), dsc
    )


Endpoints = dict[str, Callable[..., dict[str, tf.Tensor]]]
"""Name of a signature -> its function."""


def slices_endpoints(network: GraphNetwork, config: GraphConfig) -> Endpoints:
    """The signatures of `gm_slices` (see `export_saved_model`)."""
    in_stacks = network.slice_reach is not None
    size = config.slices.window_px
    shape = [None, None, size, size, 1] if in_stacks else [None, size, size, 1]
    inputs = [tf.TensorSpec(shape, tf.float32, name="slices")]
    probabilities_of = compute_each_stack if in_stacks else compute

    def predict(slices: tf.Tensor) -> dict[str, tf.Tensor]:
        probabilities = tf.ensure_shape(probabilities_of(network, slices), [*shape[:-1], network.n_tissues])
        is_tissue = probabilities > tf.constant(config.thresholds)
        # With a lower threshold than the cord's, gray matter could leave the mask of the cord.
        is_tissue = tf.logical_and(is_tissue, is_tissue[..., -1:])
        return {"probabilities": probabilities, "mask": tf.cast(is_tissue, tf.uint8)}

    @tf.function(input_signature=inputs, autograph=False)
    def normalized(slices: tf.Tensor) -> dict[str, tf.Tensor]:
        # Without this check, a request of another shape ends the server's process.
        return predict(_finite(tf.ensure_shape(slices, shape)))

    @tf.function(input_signature=inputs, autograph=False)
    def raw(slices: tf.Tensor) -> dict[str, tf.Tensor]:
        slices = _finite(tf.ensure_shape(slices, shape))
        mean = tf.reduce_mean(slices, axis=_within_samples(slices), keepdims=True)
        std = tf.math.reduce_std(slices, axis=_within_samples(slices), keepdims=True)
        return predict(tf.math.divide_no_nan(slices - mean, std))

    return {"serving_default": normalized, "raw": raw}


def nifti_endpoints(network: GraphNetwork, config: GraphConfig, provenance: str) -> Endpoints:
    """The signatures of `gm_nifti` (see `export_saved_model`).

    Args:
        network: The network.
        config: Configuration of the segmentation.
        provenance: JSON text that is part of every answer.
    """
    inputs = [tf.TensorSpec([None], tf.string, name="nifti_bytes")]
    file_spec = [tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.int32)]

    @tf.function(input_signature=file_spec, autograph=False)
    def segment_file(data: tf.Tensor, source: tf.Tensor, n_files: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.device(PROCESSOR):
            return packed_answer(read_nifti(data, source, n_files), network, config)

    def answers(nifti_bytes: tf.Tensor, images: Sequence[str]) -> dict[str, tf.Tensor]:
        packed = _for_each(nifti_bytes, segment_file, [*images, *PACKED])
        with tf.device(PROCESSOR):
            files = {name: packed[name] for name in images}
            answer = {**files, **unpacked_answers(packed, network.n_tissues)}
            return {**answer, "provenance": tf.fill(tf.shape(nifti_bytes), provenance)}

    @tf.function(input_signature=inputs, autograph=False)
    def masks(nifti_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        return answers(nifti_bytes, MASKS[: network.n_tissues])

    @tf.function(input_signature=inputs, autograph=False)
    def probabilities(nifti_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        return answers(nifti_bytes, MASKS[: network.n_tissues] + PROBABILITIES[: network.n_tissues])

    return {"serving_default": masks, "soft": probabilities}


def _for_each(
    nifti_bytes: tf.Tensor,
    segment_file: Callable[[tf.Tensor, tf.Tensor, tf.Tensor], dict[str, tf.Tensor]],
    names: Sequence[str],
) -> dict[str, tf.Tensor]:
    """Segment file after file; each output, one string for each file, in the order of the files."""
    with tf.device(PROCESSOR):
        nifti_bytes = tf.ensure_shape(nifti_bytes, [None])
        n_files = tf.size(nifti_bytes)
        checks = [
            (n_files > 0, "no file in the request"),
            (
                n_files <= MAX_REQUEST_FILES,
                f"more than {MAX_REQUEST_FILES} files; send them in several requests",
            ),
        ]
        n_files = require(tf.constant("nifti_bytes"), checks, n_files)
        results = tf.fill([n_files, len(names)], "")

    def add(index: tf.Tensor, results: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.device(PROCESSOR):
            data, source = nifti_bytes[index], tf.strings.format("nifti_bytes[{}]", [index])
        outputs = segment_file(data, source, n_files)
        with tf.device(PROCESSOR):
            row = tf.stack([outputs[name] for name in names])
            return index + 1, tf.tensor_scatter_nd_update(results, [[index]], [row])

    # Loop variables around the network may be copied to the GPU and back in every iteration; strings never are.
    _, results = tf.while_loop(
        lambda index, _: index < n_files,
        add,
        (tf.constant(0), results),
        shape_invariants=(tf.TensorShape([]), tf.TensorShape([None, len(names)])),
        parallel_iterations=1,
    )
    with tf.device(PROCESSOR):
        return dict(zip(names, tf.unstack(results, axis=1), strict=True))


def _finite(slices: tf.Tensor) -> tf.Tensor:
    """Slices or stacks whose NaN and infinite pixels have the mean of the finite ones, as in a volume."""
    is_finite, axes = tf.math.is_finite(slices), _within_samples(slices)
    known = tf.where(is_finite, slices, 0.0)
    count = tf.math.count_nonzero(is_finite, axis=axes, keepdims=True, dtype=tf.float32)
    means = tf.math.divide_no_nan(tf.reduce_sum(known, axis=axes, keepdims=True), count)
    return tf.where(is_finite, slices, means)


def _within_samples(slices: tf.Tensor) -> tuple[int, ...]:
    """The axes within a slice, or within a stack."""
    return tuple(range(1, len(slices.shape)))


def _save(folder: Path, endpoints: Endpoints, network: GraphNetwork, card: str) -> None:
    module = tf.Module()
    module.weights = network.weights
    with tensorflow_writes():
        tf.saved_model.save(module, str(folder), endpoints)
    path = folder / CARD_FILE
    path.parent.mkdir(exist_ok=True)
    path.write_text(card, encoding="utf-8")


def _dsc_with_segment(folder: Path, request: np.ndarray, expected: Segmentation) -> float:
    """Lowest DSC of a tissue between the mask of the exported model and the one of `segment`."""
    served = tf.saved_model.load(str(folder)).signatures["serving_default"](nifti_bytes=tf.constant(request))
    scores = []
    for name, voxels in zip(MASKS, (expected.mask_voxels, expected.cord_voxels), strict=True):
        if voxels is not None:
            mask = np.asarray(nib.Nifti1Image.from_bytes(served[name].numpy()[0]).dataobj) > 0
            own = as_array(voxels) > 0
            scores.append(dice(mask, own) if mask.any() or own.any() else 1.0)
    return min(scores)


def _publish(staging: Path, folder: Path) -> int:
    """Move the new version of both models to its place, and return its number."""
    names = (SLICES_MODEL, NIFTI_MODEL)
    for name in names:
        (folder / name).mkdir(exist_ok=True)
    while True:
        taken = [
            int(path.name) for name in names for path in (folder / name).iterdir() if path.name.isdecimal()
        ]
        version = max(taken, default=0) + 1
        try:
            os.rename(staging / SLICES_MODEL, folder / SLICES_MODEL / str(version))
        except OSError as error:
            # Another export has just taken the number: a folder with files is not replaced.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        else:
            os.rename(staging / NIFTI_MODEL, folder / NIFTI_MODEL / str(version))
            return version
