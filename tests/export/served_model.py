"""A served model and files for it, for tests of exports."""

import struct

import nibabel as nib
import numpy as np
import tensorflow as tf
from unchecked_export import as_exported

GOOD = nib.Nifti1Image(
    np.arange(60, dtype=np.float32).reshape(4, 5, 3), np.diag([-0.5, 0.5, 5, 1])
).to_bytes()


class Served:
    """An exported `gm_nifti` as a server has it, without the objects it was made from."""

    def __init__(self, models):
        self.models = models
        self.loaded = tf.saved_model.load(str(models.nifti))

    def __call__(self, *files, signature="serving_default"):
        with as_exported():
            outputs = self.loaded.signatures[signature](nifti_bytes=tf.constant(list(files), tf.string))
        return {name: output.numpy() for name, output in outputs.items()}


OF_SLICES = {
    "position_mm": "position_mm",
    "area_mm2": "area_mm2",
    "soft_area_mm2": "soft_area_mm2",
    "mean_probability": "mean_probability",
    "n_voxels": "n_voxels",
    "slice_contrast": "contrast",
    "slice_noise": "noise",
    "slice_predicted_dsc": "predicted_dsc",
    "slice_verdict": "verdict",
    "slice_reason": "warning",
}
"""Output of the server -> field of `SliceArea`."""
OF_CORD = ("cord_area_mm2", "wm_area_mm2", "gm_cord_ratio")
"""Likewise, of networks that segment the cord."""


def check_answer(got, expected, file=0):
    """The numbers and texts of one file are those of `segment`."""
    quality, record = expected.quality, expected.record
    assert got["warnings"][file].decode().splitlines() == list(expected.warnings)
    assert [got[name][file].decode() for name in ("verdict", "reason")] == [quality.verdict, quality.reason]
    numbers = {
        "predicted_dsc": quality.predicted_dsc,
        "contrast": quality.contrast,
        "noise": quality.noise,
        "intensity_mean": record["intensity_mean"],
        "intensity_std": record["intensity_std"],
        "removed_away_from_cord_mm3": record["removed_away_from_cord_mm3"],
        "window_moved": record["window_moved"],
        "n_slices": len(expected.areas),
    }
    for name, number in numbers.items():
        np.testing.assert_allclose(got[name][file], number, rtol=1e-6, atol=1e-9, err_msg=name)
    of_cord = {} if expected.cord_voxels is None else dict(zip(OF_CORD, OF_CORD, strict=True))
    assert set(OF_CORD) & set(got) == set(of_cord)
    for name, field in (OF_SLICES | of_cord).items():
        values = [getattr(area, field) for area in expected.areas]
        if isinstance(values[0], str):
            assert [text.decode() for text in got[name][file][: len(values)]] == values, name
        else:
            np.testing.assert_allclose(
                got[name][file][: len(values)], values, rtol=1e-6, atol=1e-6, err_msg=name
            )


def stored(image, dtype=np.float32, byte_order="<", slope=None, intercept=0.0, extension=None):
    """A single NIfTI-1 file of the image's data in another type and byte order."""
    header = nib.Nifti1Header(endianness=byte_order)
    header.set_data_shape(image.shape)
    header.set_data_dtype(np.dtype(dtype).newbyteorder(byte_order))
    header.set_zooms(image.header.get_zooms())
    header.set_sform(image.affine, code=1)
    header.set_qform(image.affine, code=1)
    header["descrip"] = b"kept"
    block = bytearray(header.binaryblock)
    offset = 352 + (len(extension) if extension else 0)
    block[108:112] = struct.pack(byte_order + "f", offset)
    if slope is not None:
        block[112:120] = struct.pack(byte_order + "2f", slope, intercept)
    marks = b"\1\0\0\0" + extension if extension else bytes(4)
    data = np.asarray(image.dataobj).astype(np.dtype(dtype).newbyteorder(byte_order))
    return bytes(block) + marks + data.tobytes(order="F")


def reoriented(image, codes):
    start = nib.io_orientation(image.affine)
    return image.as_reoriented(nib.orientations.ornt_transform(start, nib.orientations.axcodes2ornt(codes)))


def patched(data, offset, code, *values):
    block = bytearray(data)
    struct.pack_into("<" + code, block, offset, *values)
    return bytes(block)
