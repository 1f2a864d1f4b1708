"""Columns of the tables of a study, and their data dictionary as BIDS has it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from keras_scgm.morphometry import TISSUE_COLUMNS
from keras_scgm.morphometry.regions import has_sd, with_sd_columns
from keras_scgm.quality.verdicts import FAIL_DSC, PASS_DSC

UNKNOWN = "n/a"
"""Cell of a value that is not known, in tables of BIDS."""

KEYS = ("participant_id", "session_id", "run", "image")
"""Columns that name an image, in both tables."""

MEASUREMENTS = (
    "area_mm2",
    "soft_area_mm2",
    "n_voxels",
    "mean_probability",
    "equivalent_diameter_mm",
    "area_sd_mm2",
    "uncertainty",
    *TISSUE_COLUMNS,
    "gm_asymmetry",
    "contrast",
    "noise",
    "contrast_to_noise",
)
"""Measurements of a slice, in both tables."""

WITH_SD = tuple(filter(has_sd, MEASUREMENTS))
"""Measurements whose standard deviation over the slices of a region is in `summary.tsv`."""

QUALITY = ("predicted_dsc", "verdict", "reason")
SLICE_COLUMNS = ("slice", "position_mm", *MEASUREMENTS, *QUALITY)
AREA_COLUMNS = (*KEYS, "slice", "position_mm", "level", *MEASUREMENTS, *QUALITY)

SCANNER = {
    "manufacturer": "Manufacturer",
    "model": "ManufacturersModelName",
    "field_strength_t": "MagneticFieldStrength",
}
"""Columns on the scanner, and their keys in the JSON sidecar of an image."""


SUMMARY_COLUMNS = (
    *KEYS,
    "region",
    "levels",
    "n_slices",
    "n_cord_slices",
    *with_sd_columns(MEASUREMENTS),
    *QUALITY,
    "warnings",
    "status",
    "error",
    "mask",
    "version",
    "weights",
    "settings",
    "spacing_mm",
    *SCANNER,
)
"""Columns of `summary.tsv`; those of participants.tsv, sessions.tsv and scans.tsv, or of a list, follow."""

_GM, _WM, _CORD = "gray matter", "white matter", "cord (gray and white matter)"
_PERPENDICULAR = (
    "of the section perpendicular to the cord: area in the slice times the cosine of the cord's angle"
)

_HALF = (
    ", in the slice, cut along the axes of the stack's mean section, or the patient's if that is nearly round"
)

_TEXTS: dict[str, tuple[str, str, str]] = {
    "participant_id": ("Participant", "Label of the participant, as in participants.tsv", ""),
    "session_id": ("Session", "Label of the session", ""),
    "run": ("Run", "Index of the run", ""),
    "image": ("Image", "Path of the image, from the folder of the images", ""),
    "slice": ("Slice", "Index along the axial axis of the file, from 0", ""),
    "position_mm": ("Position", "Distance from the most inferior slice, along the slice normal", "mm"),
    "level": ("Vertebral level", "Vertebral level of the slice: 1 is C1, 7 is C7, 8 is T1, 20 is L1", ""),
    "region": (
        "Region",
        "Slices that were pooled: all; a vertebral level such as 3; levels such as 2:3, both ends included; slices "
        "such as slices 3:8, both ends included; or, without levels, positions in mm from the middle of the stack of "
        "slices, up positive, such as -10:0, without the upper end",
        "",
    ),
    "levels": (
        "Levels of the region",
        "Vertebral levels of the slices of the region with gray matter. A range of levels is left out of the group's "
        "tables where it lacks one",
        "",
    ),
    "n_slices": ("Slices", "Number of slices of the region with gray matter", ""),
    "n_cord_slices": ("Slices with cord", "Number of slices of the region with cord", ""),
    "area_mm2": ("Gray matter area", f"Area of the {_GM} in the slice", "mm^2"),
    "soft_area_mm2": ("Soft gray matter area", f"Sum of the probabilities of {_GM} times voxel area", "mm^2"),
    "n_voxels": ("Gray matter voxels", f"Number of voxels of {_GM}; the sum over the slices of a region", ""),
    "mean_probability": ("Mean probability", f"Mean probability of the voxels of {_GM}", ""),
    "equivalent_diameter_mm": ("Equivalent diameter", f"Diameter of the circle with the area of {_GM}", "mm"),
    "area_sd_mm2": (
        "Uncertainty of the area",
        "Standard deviation of the soft area over predictions of the slightly changed image",
        "mm^2",
    ),
    "uncertainty": ("Uncertainty", "Sum of the uncertainty map over that of the probabilities", ""),
    "cord_area_mm2": ("Cord area", f"Area of the {_CORD} in the slice", "mm^2"),
    "wm_area_mm2": ("White matter area", f"Area of the {_WM} in the slice", "mm^2"),
    "gm_cord_ratio": ("Gray matter to cord", f"Area of {_GM} divided by that of the cord", ""),
    "cord_angle_deg": ("Cord angle", "Angle between the slice normal and the cord, 0 to 90", "degree"),
    "gm_perpendicular_mm2": ("Perpendicular gray matter area", f"Area of {_GM} {_PERPENDICULAR}", "mm^2"),
    "wm_perpendicular_mm2": ("Perpendicular white matter area", f"Area of {_WM} {_PERPENDICULAR}", "mm^2"),
    "cord_perpendicular_mm2": ("Perpendicular cord area", f"Area of the {_CORD} {_PERPENDICULAR}", "mm^2"),
    "cord_ap_mm": (
        "Anteroposterior diameter",
        "Axis nearer to the front-back direction of the ellipse with the moments of the cord's section",
        "mm",
    ),
    "cord_rl_mm": ("Transverse diameter", "The other axis of that ellipse", "mm"),
    "cord_eccentricity": ("Eccentricity", "Eccentricity of that ellipse, 0 for a circle", ""),
    "cord_orientation_deg": (
        "Orientation",
        "Angle between the ellipse's longer axis and the patient's right-left axis, 0 to 90",
        "degree",
    ),
    "cord_solidity": ("Solidity", "Area of the cord divided by that of its convex hull", ""),
    "gm_left_mm2": (
        "Left gray matter",
        f"Area of {_GM} on the patient's left of the cord's centre{_HALF}",
        "mm^2",
    ),
    "gm_right_mm2": ("Right gray matter", f"Area of {_GM} on the patient's right{_HALF}", "mm^2"),
    "gm_ventral_mm2": ("Ventral gray matter", f"Area of {_GM} in front of the cord's centre{_HALF}", "mm^2"),
    "gm_dorsal_mm2": ("Dorsal gray matter", f"Area of {_GM} behind the cord's centre{_HALF}", "mm^2"),
    "gm_asymmetry": (
        "Left-right asymmetry",
        f"{_GM.capitalize()} on the left less that on the right, divided by their sum: 0 if both are equal",
        "",
    ),
    "contrast": ("Contrast", f"Brightness of the {_GM} less that of its rim", "arbitrary"),
    "noise": ("Noise", f"Standard deviation of the noise around the {_GM}", "arbitrary"),
    "contrast_to_noise": ("Contrast to noise", "Contrast divided by noise", ""),
    "predicted_dsc": (
        "Predicted Dice coefficient",
        "Predicted agreement with a reference mask, 0 to 1; of the slice, or of the whole image in the summary",
        "",
    ),
    "verdict": (
        "Verdict",
        "Verdict on the slice, or on the whole image in the summary; pass from a predicted Dice coefficient of "
        f"{PASS_DSC} without a doubt, fail below {FAIL_DSC}",
        "",
    ),
    "reason": ("Reason", "Reason of a verdict other than pass", ""),
    "warnings": ("Warnings", "What may be wrong with the result, joined by semicolons", ""),
    "status": ("Status", "Whether the image was segmented", ""),
    "error": ("Error", "Why the image was not segmented, or why its levels are not known", ""),
    "mask": ("Mask", "Path of the mask of gray matter, from the folder of the results", ""),
    "version": ("Version", "Program and version that made the mask", ""),
    "weights": ("Weights", "Weights of the networks that made the mask", ""),
    "settings": (
        "Settings",
        "Settings of the segmentation that differ from the defaults, such as threshold 0.9, mirror",
        "",
    ),
    "spacing_mm": (
        "Voxel spacing",
        "Spacing of the voxels right to left, posterior to anterior, inferior to superior",
        "mm",
    ),
    "manufacturer": ("Manufacturer", "Manufacturer of the scanner, of the image's sidecar", ""),
    "model": ("Model", "Model of the scanner, of the image's sidecar", ""),
    "field_strength_t": ("Field strength", "Magnetic field strength, of the image's sidecar", "tesla"),
}

_LEVELS: dict[str, dict[str, str]] = {
    "verdict": {"pass": "use it", "review": "look at it first", "fail": "discard it"},
    "status": {"segmented": "there is a mask", "failed": "there is none; the error says why"},
}

_POOLED = "; in the summary the mean over the slices of the region"


def describe(
    columns: Iterable[str], of_participants: Mapping[str, object] | None = None
) -> dict[str, object]:
    """Data dictionary of a table, as BIDS has it beside a TSV file.

    Args:
        columns: Names of the columns.
        of_participants: What participants.json says of other columns.

    Returns:
        LongName, Description, Units and Levels by column.

    >>> describe(["cord_rl_mm_sd"])["cord_rl_mm_sd"]["Units"]
    'mm'
    """
    return {name: _described(name, of_participants or {}) for name in columns}


def _described(name: str, of_participants: Mapping[str, object]) -> object:
    measured = name.removesuffix("_sd")
    if name not in _TEXTS and measured in WITH_SD:
        title, _, unit = _TEXTS[measured]
        text = f"Standard deviation of {measured} over the slices of the region, divided by their number, n"
        return _entry(f"{title}, standard deviation", text, unit)
    if name not in _TEXTS:
        return of_participants.get(
            name, {"Description": "Column of the study's participants, sessions or images"}
        )
    title, text, unit = _TEXTS[name]
    if name in MEASUREMENTS and name != "n_voxels":
        text += _POOLED
    return {**_entry(title, text, unit), **({"Levels": _LEVELS[name]} if name in _LEVELS else {})}


def _entry(title: str, text: str, unit: str) -> dict[str, str]:
    return {"LongName": title, "Description": text, **({"Units": unit} if unit else {})}
