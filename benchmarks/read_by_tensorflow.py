"""Is an export read by another version of TensorFlow? Needs TensorFlow only, so that it runs where keras_scgm does not.

Loads `gm_nifti` in a session, as TensorFlow Serving of the same version does, and prints the SHA-256 of the mask:

    python -m venv older && older/bin/pip install tensorflow-cpu==2.19.1
    older/bin/python benchmarks/read_by_tensorflow.py models/gm_nifti/1 t2s.nii.gz
"""

import hashlib
import sys
from pathlib import Path

import tensorflow as tf


def mask_bytes(model: str, image: str) -> bytes:
    """The mask that a SavedModel gives for a NIfTI file, as a NIfTI file."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], model)
        signature = loaded.signature_def["serving_default"]
        feeds = {signature.inputs["nifti_bytes"].name: [Path(image).read_bytes()]}
        (mask,) = session.run(signature.outputs["mask_bytes"].name, feeds)
    return mask


if __name__ == "__main__":
    print(f"TensorFlow {tf.__version__}: {hashlib.sha256(mask_bytes(*sys.argv[1:])).hexdigest()}")
