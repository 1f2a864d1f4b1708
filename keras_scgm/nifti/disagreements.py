"""Warnings about headers that contradict themselves or the unit of their spacing."""

from __future__ import annotations

import nibabel as nib
import numpy as np
from nibabel.orientations import io_orientation, ornt2axcodes
from nibabel.quaternions import quat2mat

from keras_scgm import messages
from keras_scgm.volume import to_nanometre

SPACING_TOLERANCE = 0.01
"""Relative difference above which spacings disagree; headers rounded to float32 or to 0.001 mm stay below."""

DIRECTION_TOLERANCE_DEG = 3.0
"""Angle above which the axes of two forms disagree; rounding of a quaternion to float32 makes 0.1 degrees."""

ENDS_OF_AXES = ("left and right", "anterior and posterior", "inferior and superior")
"""Names of the world axes x, y and z in warnings."""


OTHER_UNITS = {1: "metres", 3: "micrometres"}
"""Units of length that are not millimetres, by their codes in `xyzt_units`."""


def disagreements(header: nib.Nifti1Header, affine: np.ndarray, n_dims: int) -> tuple[str, ...]:
    """Warnings where the spacing is not in mm, and where qform or pixdim contradict the sform, one line each."""
    unit = OTHER_UNITS.get(int(header["xyzt_units"]) & 7)
    warnings = [messages.OTHER_UNIT.format(unit)] if unit else []
    if header["sform_code"] == 0:
        return tuple(warnings)
    has_qform = header["qform_code"] > 0
    stored = slice(min(n_dims, 3))
    lengths_mm = np.linalg.norm(affine[:3, :3], axis=0)
    sform_mm = to_nanometre(lengths_mm[stored])
    pixdim_mm = to_nanometre(header["pixdim"][1:4][stored].astype(np.float64))
    if np.any(np.abs(sform_mm - pixdim_mm) > SPACING_TOLERANCE * pixdim_mm):
        others = "qform and pixdim say" if has_qform else "pixdim says"
        warnings.append(messages.OTHER_SPACING.format(_by(sform_mm), others, _by(pixdim_mm)))
    qform = np.eye(4)
    qform[:3, :3] = _qform_directions(header)
    if not has_qform or not np.all(np.isfinite(qform)):
        return tuple(warnings)
    # The closest rotation, because a qform cannot hold the shear of a sform.
    left, _, right = np.linalg.svd(affine[:3, :3] / lengths_mm)
    cosines = np.sum(qform[:3, :3] * (left @ right), axis=0)[stored]
    angle_deg = to_nanometre(np.rad2deg(np.arccos(np.clip(cosines.min(), -1, 1))))
    axes = [io_orientation(form)[stored] for form in (qform, affine)]
    if angle_deg > DIRECTION_TOLERANCE_DEG:
        if np.array_equal(*axes):
            warnings.append(messages.OTHER_DIRECTION.format(f"{angle_deg:.0f}"))
        else:
            codes = ["".join(ornt2axcodes(form)) for form in axes]
            warnings.append(messages.OTHER_AXES.format(_exchanged(*axes), *codes))
    return tuple(warnings)


def _qform_directions(header: nib.Nifti1Header) -> np.ndarray:
    """Directions of the stored axes, one column each; NaN where the quaternion is not finite."""
    # nibabel's `get_qform` refuses headers that other programs accept: a quaternion slightly longer than 1, or a
    # pixdim[0] of 0.
    quaternion = np.array([header[f"quatern_{name}"] for name in "bcd"], np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        real = np.sqrt(np.maximum(0.0, 1 - quaternion @ quaternion))
        directions = quat2mat([real, *quaternion])
    directions[:, 2] *= -1 if header["pixdim"][0] < 0 else 1
    return directions


def _exchanged(one: np.ndarray, other: np.ndarray) -> str:
    if not np.array_equal(one[:, 0], other[:, 0]):
        return "axes"
    return ", ".join(ENDS_OF_AXES[int(axis)] for axis, _ in one[one[:, 1] != other[:, 1]])


def _by(spacing_mm: np.ndarray) -> str:
    return " x ".join(f"{value:.3g}" for value in spacing_mm)
