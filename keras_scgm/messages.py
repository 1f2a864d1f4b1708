"""Texts of errors and warnings that the NumPy pipeline and the served graph both give; `{}` stands for a value."""

import math

from keras_scgm.limits import MAX_FIELD_MM2, MAX_SLICE_VOXELS

# --- files

EMPTY_FILE = "the file is empty; copy it again"
DAMAGED_GZIP = "gzip data damaged or cut short; copy the file again"
CUT_SHORT = (
    "the header claims {} of data, the file holds {}; it is cut short or its header is damaged; copy it again"
)
NOT_NIFTI = "not a NIfTI file; give a .nii or .nii.gz file"
DICOM_FILE = "a DICOM file, not NIfTI; convert it, for example with dcm2niix"
PAIR_HEADER = "header of a .hdr/.img pair; convert it to a single .nii file"

# --- headers

NO_SLICE = "dimensions ({}) hold no slice; the header is damaged"
SPACING_NOT_POSITIVE = "voxel spacing {} mm is not positive; correct pixdim in the header"
COLOUR = "colour (RGB) voxels; convert to one gray-scale channel"
COMPLEX = "complex voxels; save the magnitude image"
VOXEL_TYPE = "voxel type {} is not supported; convert to float32"
INTERCEPT_NOT_FINITE = "scl_inter is not finite; correct scl_inter in the header"
SLOPE_TOO_SMALL = "scl_slope is too small; correct scl_slope in the header"
BAD_OFFSET = "vox_offset {} is unusable; the header is damaged"
FRAMES = "{} frames of {} voxels; {}"
NO_ORIENTATION = (
    "no usable affine, qform and sform codes are both 0, so the axial axis is unknown; if you know how it is "
    "stored, {}"
)
UNUSABLE_AFFINE = "no usable affine; correct qform or sform in the header"
FLAT_AFFINE = (
    "no usable affine, it maps the voxels onto a plane, a line or not at all; correct qform or sform in the "
    "header"
)
IMPLAUSIBLE_SPACING = (
    "axial voxels of {} x {} mm, outside {} to {} mm; check the units and the orientation in the header"
)
TOO_MANY_VOXELS = (
    f"axial slices of {{}} x {{}} voxels, more than {MAX_SLICE_VOXELS / 1e6:.1f} million; check the orientation in the "
    "header, or cut out the part with the cord"
)
TOO_WIDE = (
    f"a field of view of {{}} x {{}} mm, more than {MAX_FIELD_MM2 / 1e6:g} m2; check the units and the spacing in the "
    "header"
)
OTHER_SPACING = (
    "the sform says voxels of {} mm, {} {} mm; the sform counts and areas follow it; "
    "correct the header if that is wrong"
)
OTHER_AXES = "qform and sform exchange {} (qform: {}, sform: {}); the sform counts; correct the header if that is wrong"
OTHER_DIRECTION = (
    "the axes of qform and sform differ in direction by {} degrees; the sform counts; "
    "correct the header if that is wrong"
)
OTHER_ORIENTATION = (
    "orientation {} was given, but the header says {}, which counts; correct the header if that is wrong"
)

OTHER_UNIT = (
    "the header gives its voxel spacing in {}, but it was taken as mm, and areas follow it; correct xyzt_units or the "
    "spacing in the header"
)
SURPLUS = (
    "the file holds more voxels than its header claims; slices may be missing; correct dim in the header"
)

# --- voxels

TOO_INTENSE = (
    "intensities of up to {} exceed the limit of {}; divide them, or correct scl_slope and scl_inter in the "
    "header"
)
LABELS = "labels, not an image, it holds {} values ({}); give the image itself"

# --- results

SLICE_DISTANCE = "slices {} mm apart: volumes and angles follow it; check the voxel spacing in the header"
TOO_COARSE = "axial voxels of {} x {} mm are too coarse for gray matter; is this an axial acquisition?"
INTERPOLATED = (
    "interpolated to axial voxels of {} x {} mm from about {} x {} mm, according to the power spectrum of the image; "
    "gray matter may be marked too large"
)
GHOST = (
    "ghosting: according to its power spectrum the image has copies, together at least {} % as bright, shifted by {} "
    "mm along {}; gray matter may be marked too large; check the outlines, or repeat the scan"
)
IN_PLANE_AXES = ("right-left", "anterior-posterior")
NO_CORD = "the cord could not be located; the windows stay where they are"
GIVEN_CORD = "in the given cord, {}"
NOT_FINITE = "{} voxels are NaN or infinite; each was given the mean of its slice"
CONSTANT_IMAGE = "the image is constant inside the window; the mask is empty"
EMPTY_MASK = "no gray matter was found; the mask is empty"
MISSING_SLICES = "no gray matter between slices that have some: {}"
CORD_ALONE = (
    "no gray matter was found in what is marked as cord; the mask is empty; T2-weighted images, for "
    "example, hardly show gray matter"
)
RARE_GRAY_MATTER = (
    "gray matter was found in {} of {} slices with a cord; T2-weighted images, for example, hardly show it"
)
MISSING_CORD = "no cord between slices that have one: {}"
REMOVED_WITHOUT_CORD = "no cord at its place, and what was found away from it was removed: {}"
UNKNOWN_CONTRAST = {
    -1: "gray matter is darker than its surroundings; the contrast may be inverted (PSIR, T1-weighted), which these "
    "weights may not know",
    1: "gray matter is brighter than its surroundings, as in T2*-weighted images, which these weights may not know",
}
"""By the sign of the contrast, as in `keras_scgm.predict.UnknownContrast`."""
VOLUME_NOT_PASSED = "predicted DSC {}, {}: {}{}"
LOOK_AT = "; look at {}"
DSC_STEP_SHARE = 1e-7
"""How little below a step of a shown Dice coefficient, in shares of it, a value still counts as on it."""


def shown_dsc(dsc: float) -> str:
    """A predicted Dice coefficient with two decimal places, cut off and not rounded.

    So no text shows a slice that misses the limit of a verdict at that limit.

    >>> shown_dsc(0.8496), shown_dsc(0.29), shown_dsc(math.nan)
    ('0.84', '0.29', 'unknown')
    """
    if math.isnan(dsc):
        return "unknown"
    return f"{math.floor(100 * dsc + DSC_STEP_SHARE) / 100:.2f}"


def verdict_text(verdict: str, dsc: float) -> str:
    """A verdict with the predicted Dice coefficient, if that is known."""
    return verdict if math.isnan(dsc) else f"{verdict}, predicted DSC {shown_dsc(dsc)}"
