"""The files of a result: masks, areas, picture and record, all of them or none."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_scgm import checks
from keras_scgm.errors import InputError
from keras_scgm.files import (
    CORD_SUFFIX,
    RESULT_SUFFIX,
    WHITE_MATTER_SUFFIX,
    csv_cell,
    files_below,
    nifti_stem,
    sha256_of,
    staged,
    write_rows,
)
from keras_scgm.morphometry import TISSUE_COLUMNS, SliceArea, tissue_cells
from keras_scgm.picture import save_mosaic
from keras_scgm.segmentation import Segmentation
from keras_scgm.volume import as_array

AREA_FORMATS = {
    "slice": "",
    "position_mm": ".3f",
    "area_mm2": ".3f",
    "soft_area_mm2": ".3f",
    "n_voxels": "",
    "mean_probability": ".4f",
    "equivalent_diameter_mm": ".3f",
    "warning": "",
    "contrast": ".6g",
    "noise": ".6g",
    "predicted_dsc": ".3f",
    "verdict": "",
    "area_sd_mm2": ".3f",
    "uncertainty": ".3f",
}
"""Columns of the table of areas before `TISSUE_COLUMNS`, and the format of their cells."""


@dataclass(frozen=True)
class OutputPaths:
    """Names of the files of one result.

    Args:
        mask: File of the mask or of the probabilities of gray matter. The others share its stem; white matter and cord
            that of the image.
    """

    mask: Path

    def __post_init__(self) -> None:
        checks.check_fields(self, mask=checks.path)

    @classmethod
    def for_input(cls, image: Path, folder: Path | None = None) -> OutputPaths:
        """`NAME_gmseg.nii.gz` beside the image or in `folder`."""
        return cls((folder or image.parent) / f"{nifti_stem(image)}{RESULT_SUFFIX}.nii.gz")

    def _sibling(self, ending: str) -> Path:
        return self.mask.with_name(nifti_stem(self.mask) + ending)

    def _tissue(self, suffix: str) -> Path:
        stem = nifti_stem(self.mask)
        return self.mask.with_name(stem.removesuffix(RESULT_SUFFIX) + suffix + self.mask.name[len(stem) :])

    @property
    def folder(self) -> Path:
        """Folder that holds all files, or the folders with them."""
        return self.mask.parent

    @property
    def is_exclusive(self) -> bool:
        """Whether nothing else writes files of these names, so that files without a record are left by a killed run."""
        return False

    @property
    def white_matter(self) -> Path:
        return self._tissue(WHITE_MATTER_SUFFIX)

    @property
    def cord(self) -> Path:
        return self._tissue(CORD_SUFFIX)

    @property
    def areas(self) -> Path:
        return self._sibling("_area.csv")

    @property
    def picture(self) -> Path:
        return self._sibling("_qc.png")

    @property
    def uncertainty(self) -> Path:
        return self._sibling("_uncertainty.nii.gz")

    @property
    def record(self) -> Path:
        return self._sibling(".json")

    @property
    def dicom(self) -> Path:
        return self._sibling(".dcm")

    @property
    def own(self) -> tuple[Path, ...]:
        """Files that nothing else writes; white matter and cord may be there from another program."""
        return self.mask, self.areas, self.picture, self.uncertainty, self.dicom, self.record

    def of_cord(self, is_given: bool) -> tuple[Path, ...]:
        """Files of the other tissues of a result with a cord; a cord that the user gave is not written again."""
        return (self.white_matter,) if is_given else (self.white_matter, self.cord)

    def write_areas(self, path: Path, areas: Sequence[SliceArea]) -> None:
        """Write the table of the slices to a file that takes its place later."""
        write_areas(path, areas)

    def described(self, record: dict[str, Any]) -> dict[Path, dict[str, Any]]:
        """JSON files and what they hold.

        Args:
            record: How the result was made, with its files but for these.
        """
        return {self.record: record}


def write_outputs(
    result: Segmentation,
    paths: OutputPaths,
    soft: bool = False,
    *,
    gray_matter_alone: bool = False,
    dicom: Sequence[Path] = (),
    edited: Collection[Path] = (),
) -> None:
    """Write every file of a result.

    Args:
        result: The segmentation.
        paths: Files to write; those of an earlier result are replaced, or removed if this result has no such file.
        soft: Whether to write the probabilities (float32) instead of the masks (uint8).
        gray_matter_alone: Whether to leave out the files of white matter and cord.
        dicom: DICOM images on the grid of the image, for whose series the masks are written as a DICOM segmentation,
            too; none by default. Needs the extra `dicom`.
        edited: Masks that a person edited, as the record then says.

    Raises:
        keras_scgm.errors.InputError: The folder cannot be written to, a file cannot be replaced, or the disk is
            full; all files are unchanged.
    """
    if soft and result.probability_voxels is None:
        raise InputError("soft output needs a segmentation with keep_probabilities=True")
    tissues = [(paths.mask, result.probability_voxels if soft else result.mask_voxels)]
    if result.cord_voxels is not None and not gray_matter_alone:
        is_given = result.record["cord_sha256"] is not None
        cord = result.cord_probability_voxels if soft else result.cord_voxels
        white_matter = result.white_matter_probability_voxels if soft else result.white_matter_voxels
        tissues += zip(paths.of_cord(is_given), (white_matter, cord), strict=False)
    masks = {path: voxels for path, voxels in tissues if voxels is not None}
    former = _former(paths, result.record["settings"]["cord"])
    with staged(paths.folder, former=former) as staging:

        def at(path: Path) -> Path:
            place = staging / path.relative_to(paths.folder)
            place.parent.mkdir(parents=True, exist_ok=True)
            return place

        for path, voxels in masks.items():
            result.volume.write_result(at(path), voxels)
        if result.uncertainty_voxels is not None:
            result.volume.write_result(at(paths.uncertainty), result.uncertainty_voxels)
        paths.write_areas(at(paths.areas), result.areas)
        save_mosaic(result, at(paths.picture), soft)
        if dicom:
            at(paths.dicom).write_bytes(_dicom_segmentation(result, dicom, gray_matter_alone))
        record = {
            **result.record,
            **output_kind(soft, gray_matter_alone),
            "files": files_below(staging),
            "masks": [
                {
                    "file": path.relative_to(paths.folder).as_posix(),
                    "sha256": sha256_of(at(path)),
                    "edited": path in edited,
                }
                for path in masks
            ],
        }
        for path, content in paths.described(record).items():
            at(path).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _dicom_segmentation(result: Segmentation, images: Sequence[Path], gray_matter_alone: bool) -> bytes:
    from keras_scgm.dicom.objects import SegmentedSeries, make_segmentation, on_grid_of
    from keras_scgm.dicom.series import quiet, read_series

    of_cord = () if gray_matter_alone else (result.white_matter_voxels, result.cord_voxels)
    voxels = [as_array(one) for one in (result.mask_voxels, *of_cord) if one is not None]
    with quiet():
        series = read_series(images)
        masks = [on_grid_of(series, one, result.volume.affine) for one in voxels]
        return make_segmentation(series, SegmentedSeries.from_record(masks, result.record))


def write_areas(path: Path, areas: Sequence[SliceArea]) -> None:
    """CSV table, one row per axial slice, units in the column names."""
    rows = [
        {name: csv_cell(getattr(row, name), form) for name, form in AREA_FORMATS.items()}
        | tissue_cells(vars(row))
        for row in areas
    ]
    write_rows(path, rows, [*AREA_FORMATS, *TISSUE_COLUMNS])


def output_kind(soft: bool, gray_matter_alone: bool) -> dict[str, str]:
    """What the files hold, as the record says it."""
    return {
        "output": "probabilities" if soft else "mask",
        "output_tissues": "gm" if gray_matter_alone else "all",
    }


def _former(paths: OutputPaths, cord: str) -> list[str]:
    """Names of the files of an earlier result.

    White matter and cord are among them if its record says so, but not a cord that the user gave for this result.
    """
    _, recorded = _recorded(paths)
    others = [path for path in (paths.white_matter, paths.cord) if path in recorded]
    return [
        path.relative_to(paths.folder).as_posix()
        for path in (*paths.own, *others)
        if path.resolve() != Path(cord).resolve()
    ]


def _recorded(paths: OutputPaths) -> tuple[dict[str, Any], list[Path]]:
    """The record of a result and the files it names; both are empty if it cannot be read."""
    try:
        record = json.loads(paths.record.read_text(encoding="utf-8"))
        return record, [paths.folder / name for name in record["files"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}, []


@dataclass(frozen=True)
class EditedMasks:
    """Masks of a result that a person edited.

    Args:
        record: Record of the result.
        changed: Those that were edited since they were written.
        measured: Those whose edited voxels are already what the tables tell.
    """

    record: dict[str, Any]
    changed: tuple[Path, ...]
    measured: tuple[Path, ...]


def edited_masks(paths: OutputPaths, given: Sequence[Path] = ()) -> EditedMasks | None:
    """The masks of a result that are no longer as they were made, None if there are none.

    Args:
        paths: Files of the result.
        given: Masks that the user gave, which are not the result's own.
    """
    record, _ = _recorded(paths)
    changed, measured = [], []
    for mask in record.get("masks", ()):
        path = paths.folder / mask["file"]
        if not path.is_file() or path.resolve() in {one.resolve() for one in given}:
            continue
        if sha256_of(path) != mask["sha256"]:
            changed.append(path)
        elif mask.get("edited"):
            measured.append(path)
    return EditedMasks(record, tuple(changed), tuple(measured)) if changed or measured else None


def finished_record(paths: OutputPaths, like: dict[str, Any]) -> dict[str, Any] | None:
    """The record of a result, or None if it differs from `like` or a file is missing."""
    record, files = _recorded(paths)
    is_same = record and not differences(record, like)
    return record if is_same and all(file.is_file() for file in files) else None


def other_settings(paths: OutputPaths, like: dict[str, Any]) -> list[str]:
    """Settings of a result that differ from those of `like`, none if they are not known."""
    record, _ = _recorded(paths)
    return differences(record["settings"], like["settings"]) if "settings" in record else []


def differences(record: dict[str, Any], like: dict[str, Any]) -> list[str]:
    """Keys of `like` that a record has not, or with another value."""
    return [key for key, value in json.loads(json.dumps(like)).items() if record.get(key) != value]
