"""Folders of DICOM images among the inputs of `keras-scgm segment`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from keras_scgm.errors import InputError, log_traceback
from keras_scgm_cli.say import say

if TYPE_CHECKING:
    from keras_scgm.cohort import SegmentationJob

EXTRA = ("dcm2niix", "highdicom", "pydicom")


def split_dicom_folders(inputs: Sequence[str]) -> tuple[list[Path], list[str]]:
    """The folders that hold DICOM images and no NIfTI file, and the other inputs."""
    from keras_scgm import checks
    from keras_scgm.files import nifti_files
    from keras_scgm.nifti import holds_dicom

    folders, others = [], []
    for item in inputs:
        place = checks.path("inputs", item)
        if place.is_dir() and not nifti_files(place) and holds_dicom(place):
            folders.append(place)
        else:
            others.append(item)
    return folders, others


def converted_jobs(
    folders: Sequence[Path], output: Path | None, force: bool, images: Sequence[Path] = ()
) -> tuple[list[SegmentationJob], list[str]]:
    """Convert the series of folders to NIfTI files, and tell the user which series are left out.

    Args:
        folders: Folders of DICOM images.
        output: Folder of the converted images and of the results, or the file of a single mask, beside which the
            image is written.
        force: Whether to replace other images of the same names.
        images: NIfTI files among the inputs, which are never replaced.

    Returns:
        Jobs of the converted images, and one line for each folder or series that cannot be converted.

    Raises:
        InputError: Several images would have one name or one file, or that of an input.
    """
    from keras_scgm.cohort import SegmentationJob
    from keras_scgm.files import check_inputs_stay, is_nifti
    from keras_scgm.outputs import OutputPaths

    if output is None:
        advice = "give a folder for the converted images and the masks with --output"
        return [], [f"{folder}: holds DICOM images; {advice}" for folder in folders]
    try:
        from keras_scgm.dicom.conversion import convert
        from keras_scgm.dicom.folders import find_series
        from keras_scgm.dicom.series import SeriesError
    except ModuleNotFoundError as error:
        if error.name not in EXTRA:
            raise
        return [], [
            f"{folder}: holds DICOM images, and {error.name} is not installed; pip install 'keras-scgm[dicom]', or "
            f"convert them with dcm2niix -z y {folder}"
            for folder in folders
        ]
    found, problems = [], []
    for folder in folders:
        try:
            series, notes = find_series(folder)
        except InputError as error:
            problems.append(str(error))
            continue
        for note in notes:
            say(note)
        found += [(folder, one) for one in series]
    is_file = is_nifti(output)
    if is_file and len(found) > 1:
        raise InputError(f"{output}: one file cannot hold the results of {len(found)} series; give a folder")
    owners: dict[str, Path] = {}
    for folder, one in found:
        if one.name in owners:
            raise InputError(
                f"{owners[one.name]} and {folder} would both become {one.name}.nii.gz; convert them into folders of "
                "their own"
            )
        owners[one.name] = folder
    jobs = []
    target = output.parent if is_file else output
    check_inputs_stay(images, [target / f"{name}.nii.gz" for name in owners])
    for folder, one in found:
        try:
            if is_file and target / f"{one.name}.nii.gz" == output:
                raise InputError(f"{output}: the converted image has this name; give the mask another one")
            image = convert(one, target, force)
        except SeriesError as error:
            problems.append(f"{folder}: {error}")
        except InputError as error:
            problems.append(str(error))
        # One series must not stop the others, whatever is wrong with it.
        except Exception as error:
            problems.append(log_traceback(str(folder), error))
        else:
            paths = OutputPaths(output) if is_file else OutputPaths.for_input(image.image)
            jobs.append(SegmentationJob(image.image, paths, dicom=image.files))
    return jobs, problems
