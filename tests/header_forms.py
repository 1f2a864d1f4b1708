"""NIfTI headers whose qform, sform and pixdim agree or disagree, and the warnings they deserve."""

import struct
from collections.abc import Callable

import nibabel as nib
import numpy as np

SFORM_COUNTS = "; the sform counts; correct the header if that is wrong"
SPACING_MM = (0.5, 0.5, 5.0)


def las(*spacing_mm: float) -> np.ndarray:
    """An affine in the package's orientation."""
    x, y, z = spacing_mm or SPACING_MM
    return np.diag([-x, y, z, 1.0])


def turned(degrees: float, affine: np.ndarray) -> np.ndarray:
    """An affine rotated in the axial plane."""
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    rotation = np.eye(4)
    rotation[:2, :2] = [[cosine, -sine], [sine, cosine]]
    return rotation @ affine


def nifti_bytes(
    data: np.ndarray,
    sform: np.ndarray | None,
    qform: np.ndarray | None,
    byte_order: str = "<",
    image_class: type[nib.Nifti1Image] = nib.Nifti1Image,
    pixdim_mm: tuple[float, ...] | None = None,
) -> bytes:
    """A file of the data as float32; a form that is None has the code 0."""
    header = image_class.header_class(endianness=byte_order)
    header.set_data_shape(data.shape)
    header.set_data_dtype(np.dtype(np.float32).newbyteorder(byte_order))
    header.set_qform(sform if qform is None else qform, code=0 if qform is None else 1, strip_shears=True)
    header.set_sform(sform, code=0 if sform is None else 1)
    if pixdim_mm:
        header.set_zooms(pixdim_mm)
    header["vox_offset"] = header.single_vox_offset
    header["magic"] = header.single_magic
    return header.binaryblock + bytes(4) + data.astype(header.get_data_dtype()).tobytes(order="F")


def _with(**arguments: object) -> Callable[[np.ndarray], bytes]:
    return lambda data: nifti_bytes(data, **{"sform": las(), "qform": las()} | arguments)


def _patched(offset: int, fmt: str, *values: float) -> Callable[[np.ndarray], bytes]:
    def build(data: np.ndarray) -> bytes:
        raw = bytearray(_with()(data))
        struct.pack_into(fmt, raw, offset, *values)
        return bytes(raw)

    return build


def _scaled(sform: str, others: str, who: str = "qform and pixdim say") -> str:
    return (
        f"the sform says voxels of {sform} mm, {who} {others} mm; the sform counts and areas follow it; "
        "correct the header if that is wrong"
    )


def _unit(unit: str) -> str:
    return (
        f"the header gives its voxel spacing in {unit}, but it was taken as mm, and areas follow it; "
        "correct xyzt_units or the spacing in the header"
    )


def _exchange(what: str, qform: str, sform: str = "LAS") -> str:
    return f"qform and sform exchange {what} (qform: {qform}, sform: {sform})" + SFORM_COUNTS


def _direction(degrees: int) -> str:
    return f"the axes of qform and sform differ in direction by {degrees} degrees" + SFORM_COUNTS


SHIFTED = las()
SHIFTED[:3, 3] = 40, -30, 200
SHEARED = las()
SHEARED[1, 2] = 2.0
NO_NORMAL = las(0.5, 0.5, 0)
PERMUTED = las()[:, [0, 2, 1, 3]]

FORMS: dict[str, tuple[Callable[[np.ndarray], bytes], list[str]]] = {
    "equal": (_with(), []),
    "big-endian": (_with(byte_order=">"), []),
    "sform only": (_with(qform=None), []),
    "qform only": (_with(sform=None), []),
    "qform only, sform of code 0": (_patched(252, "<2h", 1, 0), []),
    "origin": (_with(qform=SHIFTED), []),
    "sheared": (_with(sform=SHEARED, qform=SHEARED), []),
    "rounded spacing": (_with(sform=las(0.3516, 0.3516, 3.3), qform=las(0.352, 0.352, 3.3)), []),
    "spacing 0.9 %": (_with(qform=las(0.5045, 0.5, 5)), []),
    "spacing 1.1 %": (_with(qform=las(0.5056, 0.5, 5)), [_scaled("0.5 x 0.5 x 5", "0.506 x 0.5 x 5")]),
    "scaled": (_with(qform=las(0.703125, 0.703125, 5)), [_scaled("0.5 x 0.5 x 5", "0.703 x 0.703 x 5")]),
    "scaled, big-endian": (
        _with(qform=las(0.7, 0.7, 5), byte_order=">"),
        [_scaled("0.5 x 0.5 x 5", "0.7 x 0.7 x 5")],
    ),
    "slice spacing": (_with(qform=las(0.5, 0.5, 4)), [_scaled("0.5 x 0.5 x 5", "0.5 x 0.5 x 4")]),
    "pixdim": (
        _with(qform=None, pixdim_mm=(0.7, 0.5, 5.0)),
        [_scaled("0.5 x 0.5 x 5", "0.7 x 0.5 x 5", "pixdim says")],
    ),
    "2 degrees": (_with(qform=turned(2, las())), []),
    "5 degrees": (_with(qform=turned(5, las())), [_direction(5)]),
    "50 degrees": (_with(qform=turned(25, las()), sform=turned(-25, las())), [_direction(50)]),
    "2 degrees about a change of axes": (_with(qform=turned(46, las()), sform=turned(44, las())), []),
    "10 degrees about a change of axes": (
        _with(qform=turned(50, las()), sform=turned(40, las())),
        [_exchange("axes", "PLS")],
    ),
    "left and right": (_with(qform=las(-0.5, 0.5, 5)), [_exchange("left and right", "RAS")]),
    "superior": (_with(qform=las(0.5, 0.5, -5)), [_exchange("inferior and superior", "LAI")]),
    "two axes": (
        _with(qform=las(-0.5, -0.5, 5)),
        [_exchange("left and right, anterior and posterior", "RPS")],
    ),
    "permuted": (
        _with(qform=PERMUTED),
        [_scaled("0.5 x 0.5 x 5", "0.5 x 5 x 0.5"), _exchange("axes", "LSA")],
    ),
    "scaled and reversed": (
        _with(qform=las(-0.7, 0.7, 5)),
        [_scaled("0.5 x 0.5 x 5", "0.7 x 0.7 x 5"), _exchange("left and right", "RAS")],
    ),
    "two dimensions": (lambda data: _with(sform=NO_NORMAL)(data[..., 0]), []),
    "two dimensions, reversed and scaled": (
        lambda data: _with(sform=NO_NORMAL, qform=las(-0.5, 0.7, 5))(data[..., 0]),
        [_scaled("0.5 x 0.5", "0.5 x 0.7"), _exchange("left and right", "RA", "LA")],
    ),
    "mm and seconds": (_patched(123, "B", 10), []),
    "metres": (_patched(123, "B", 1), [_unit("metres")]),
    "micrometres and seconds": (_patched(123, "B", 11), [_unit("micrometres")]),
    # The third axis of a qform is reversed by a pixdim[0] below 0 alone, which this affine needs.
    "pixdim[0] of 0": (_patched(76, "<f", 0.0), [_exchange("inferior and superior", "LAI")]),
    # A quaternion that is a little too long, and one that is none.
    "long quaternion": (_patched(256, "<3f", 0, 1.00001, 0), []),
    "NaN quaternion": (_patched(256, "<3f", float("nan"), 0, 0), []),
    "infinite quaternion": (_patched(256, "<3f", float("inf"), 0, 0), []),
}
"""Name -> what makes a file of a float32 volume (i, j, k), and the warnings about it."""
