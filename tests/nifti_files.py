"""Small NIfTI files, sound and damaged."""

import struct

import nibabel as nib
import numpy as np

SHAPE = (5, 4, 3)


def las_data() -> np.ndarray:
    return np.arange(np.prod(SHAPE)).reshape(SHAPE)


def save(path, data, affine=None, image_class=nib.Nifti1Image, byte_order="<"):
    header = image_class.header_class(endianness=byte_order)
    image = image_class(data, np.diag([-0.5, 0.5, 5, 1]) if affine is None else affine, header)
    image.header.set_data_dtype(data.dtype)
    image.to_filename(path)
    return path


def good_bytes(tmp_path) -> bytearray:
    return bytearray(save(tmp_path / "good.nii", las_data().astype("int16")).read_bytes())


def patched(offset, fmt, *values):
    def build(tmp_path):
        raw = good_bytes(tmp_path)
        struct.pack_into(fmt, raw, offset, *values)
        return bytes(raw)

    return build
