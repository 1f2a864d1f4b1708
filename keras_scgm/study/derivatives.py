"""Results of a study as BIDS derivatives: names, sidecars, and the description of the data set."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from keras_scgm.errors import InputError
from keras_scgm.files import CORD_SUFFIX, RESULT_SUFFIX, WHITE_MATTER_SUFFIX, nifti_stem, write_text
from keras_scgm.morphometry import SliceArea
from keras_scgm.outputs import OutputPaths
from keras_scgm.study.columns import SLICE_COLUMNS
from keras_scgm.study.images import StudyImage, sidecar
from keras_scgm.study.tsv import write_tsv

Names = Literal["bids", "sct"]

TISSUES = {
    RESULT_SUFFIX: ("GM", "gray matter"),
    WHITE_MATTER_SUFFIX: ("WM", "white matter"),
    CORD_SUFFIX: ("SC", "spinal cord"),
}
"""Label of BIDS and name of a tissue, by the end of its file's name in the Spinal Cord Toolbox."""

MASK = "_label-GM_mask"

BIDS_VERSION = "1.10.0"
DESCRIPTION = "dataset_description.json"
RAW = "raw"
"""Name of the folder of the images in BIDS URIs."""
STUDY_ID = "StudyID"
"""Key of dataset_description.json: tells studies apart, wherever their folder is."""

IGNORED = (
    "areas.*",
    "summary.*",
    "group",
    "quality*",
    "figures",
    "sub-*_areas.tsv",
    "sub-*_summary.tsv",
    "*_gmseg.*",
    "*_wmseg.*",
    "*_seg.*",
)
"""What BIDS has no names for, in .bidsignore."""

README = """Masks of gray matter (GM), white matter (WM) and spinal cord (SC), made by keras_scgm study.

areas.tsv has a row per image and slice, summary.tsv a row per image and region, such as a vertebral level;
areas.json and summary.json say what the columns are. The sidecar of each GM mask says how it was made. The
folders figures hold a picture of each result. For research, not for diagnosis: look at the pictures before
you use a number.
"""


@dataclass(frozen=True)
class DerivativePaths(OutputPaths):
    """Names of the files of one result among derivatives.

    Masks and their sidecars are in `sub-X/[ses-Y/]anat`, the picture in `figures` beside it. Names begin as that of the
    image, without its suffix, which BIDS does not have in the middle of a name.

    Args:
        mask: Mask of gray matter, `STEM_label-GM_mask.nii.gz` or, with the names of the Spinal Cord Toolbox,
            `IMAGE_gmseg.nii.gz`.
        source: Path of the image from the folder of the images.
    """

    source: str = ""

    @classmethod
    def of_image(cls, image: StudyImage, output: Path, names: Names = "bids") -> DerivativePaths:
        """Names of the result of an image below the folder of all results."""
        folder = Path(output, image.participant_id, image.session_id, "anat")
        name = f"{image.stem}{MASK}" if names == "bids" else f"{nifti_stem(image.path)}{RESULT_SUFFIX}"
        return cls(folder / f"{name}.nii.gz", image.image)

    @property
    def folder(self) -> Path:
        return self.mask.parent.parent

    @property
    def is_exclusive(self) -> bool:
        return True

    @property
    def _stem(self) -> str:
        return nifti_stem(self.mask).removesuffix(MASK).removesuffix(RESULT_SUFFIX)

    def _tissue(self, suffix: str) -> Path:
        if not nifti_stem(self.mask).endswith(MASK):
            return super()._tissue(suffix)
        return self.mask.with_name(f"{self._stem}_label-{TISSUES[suffix][0]}_mask.nii.gz")

    @property
    def areas(self) -> Path:
        return self.mask.with_name(f"{self._stem}_areas.tsv")

    @property
    def picture(self) -> Path:
        name = nifti_stem(self.mask).removesuffix("_mask")
        return self.folder / "figures" / f"{name}_qc.png"

    @property
    def uncertainty(self) -> Path:
        if not nifti_stem(self.mask).endswith(MASK):
            return super().uncertainty
        return self.mask.with_name(f"{self._stem}_label-GM_desc-uncertainty_probseg.nii.gz")

    def write_areas(self, path: Path, areas: Sequence[SliceArea]) -> None:
        write_tsv(path, SLICE_COLUMNS, map(_slice_row, areas))

    def described(self, record: dict[str, Any]) -> dict[Path, dict[str, Any]]:
        by_hand = {mask["file"] for mask in record["masks"] if mask["edited"]}
        sidecars = {
            mask.with_name(f"{nifti_stem(mask)}.json"): {
                "Description": f"Mask of the {tissue}: 1 inside, 0 outside",
                "Sources": [f"bids:{RAW}:{self.source}"],
                "SpatialReference": "orig",
                "Type": "ROI",
                "Manual": _relative(mask, self.folder) in by_hand,
            }
            for mask, tissue in ((self._tissue(suffix), tissue) for suffix, (_, tissue) in TISSUES.items())
            if _relative(mask, self.folder) in record["files"]
        }
        files = sorted({*record["files"], *(_relative(path, self.folder) for path in sidecars)})
        return {**sidecars, self.record: {**record, **sidecars[self.record], "files": files}}


def write_description(output: Path, images: Path) -> str:
    """Write dataset_description.json, README and .bidsignore, unless they are there.

    Args:
        output: Folder of the results, made if missing.
        images: Folder of the images.

    Returns:
        Identifier of the study, which stays the same.

    Raises:
        InputError: The folder holds a data set of something else, or cannot be written to.
    """
    path = output / DESCRIPTION
    name = "keras_scgm"
    description: dict[str, Any] = dict(sidecar(path))
    if path.exists():
        made_by = description.get("GeneratedBy")
        if not any(isinstance(one, dict) and one.get("Name") == name for one in made_by or ()):
            raise InputError(
                f"{output}: holds a data set that this program has not made; choose another folder"
            )
    else:
        raw = Path(os.path.relpath(images, output)).as_posix()
        description = {
            "Name": "Gray matter, white matter and cord by keras_scgm",
            "BIDSVersion": BIDS_VERSION,
            "DatasetType": "derivative",
            "GeneratedBy": [
                {"Name": name, "Version": version(name), "Description": "Segmentation of the spinal cord"}
            ],
            "SourceDatasets": [{"URL": raw}],
            "DatasetLinks": {RAW: raw},
        }
        write_text(output / "README", README)
        write_text(output / ".bidsignore", "\n".join(IGNORED) + "\n")
    if STUDY_ID not in description:
        description[STUDY_ID] = uuid4().hex
        write_text(path, json.dumps(description, indent=2) + "\n")
    return str(description[STUDY_ID])


def _relative(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _slice_row(area: SliceArea) -> dict[str, Any]:
    sides_mm2 = area.gm_left_mm2 + area.gm_right_mm2
    derived = {
        "gm_asymmetry": (area.gm_left_mm2 - area.gm_right_mm2) / sides_mm2 if sides_mm2 else None,
        "contrast_to_noise": area.contrast / area.noise if area.noise else None,
        "reason": area.warning,
    }
    names = (name for name in SLICE_COLUMNS if name not in derived)
    return {**{name: getattr(area, name) for name in names}, **derived}
