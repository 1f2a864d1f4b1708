"""Finds the series to segment in a folder of DICOM files."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from keras_scgm.dicom.series import (
    MR_CLASSES,
    MULTI_FRAME,
    ORIENTATION_TOLERANCE,
    place_of,
    quiet,
    values_of,
    why_ignored,
    why_unusable,
)
from keras_scgm.errors import InputError, first_of, printable
from keras_scgm.files import is_visible, place_name

OBJECT_CLASS = "MediaStorageSOPClassUID"


@dataclass(frozen=True)
class SeriesFiles:
    """Files of a series.

    Args:
        name: Name of its results: that of the folder, with protocol and number of the series if there are several.
        files: Its images, without phase images and projections.
        fault: Why slices of it are missing; empty if none are.
    """

    name: str
    files: tuple[Path, ...]
    fault: str = ""


@dataclass(frozen=True)
class _Candidate:
    """A series.

    Args:
        images: Those that can be segmented.
        others: The others, with the reasons against them.
    """

    images: Sequence[tuple[Path, Dataset]]
    others: Sequence[tuple[Path, Dataset, str]]

    @property
    def label(self) -> str:
        header = self.images[0][1]
        names = (header.get(keyword) for keyword in ("SeriesDescription", "ProtocolName"))
        described = next((f" ({printable(str(name))})" for name in names if name), "")
        return f"series {header.get('SeriesNumber') or 'without number'}{described}"

    @property
    def name(self) -> str:
        header = self.images[0][1]
        parts = (header.get("ProtocolName") or header.get("SeriesDescription"), header.get("SeriesNumber"))
        return "_".join(re.sub(r"[^\w.-]+", "-", str(part)) for part in parts if part)

    @property
    def why_ignored(self) -> str:
        """Empty if an image fits; of several echoes, the longest one decides."""
        reasons = [why_ignored(header) for _, header in self.images]
        return "" if "" in reasons else reasons[0]

    @property
    def fault(self) -> str:
        """Names an image that cannot be segmented at a place where no other image lies; empty if there is none."""
        first = self.images[0][1]
        if first.SOPClassUID in MULTI_FRAME:
            return ""
        places = {place_of(header) for _, header in self.images}
        for path, header, reason in self.others:
            direction = values_of(header, "ImageOrientationPatient")
            is_parallel = not direction or np.allclose(
                direction, values_of(first, "ImageOrientationPatient"), atol=ORIENTATION_TOLERANCE
            )
            if is_parallel and place_of(header) not in places:
                return f"its slice in {path.name} cannot be used ({reason}); convert the series by hand"
        return ""


def find_series(folder: Path) -> tuple[list[SeriesFiles], list[str]]:
    """The series to segment in a folder and the folders below it.

    A single series of MR images is taken whatever its contrast. Of several, those are taken that
    `keras_scgm.dicom.series.why_ignored` does not refuse.

    Args:
        folder: Folder of DICOM files, whatever their names; other files are passed over.

    Returns:
        The series, and one line for each one that is left out.

    Raises:
        keras_scgm.errors.InputError: There is none, or a header is damaged.
    """
    with quiet():
        try:
            return _chosen(folder)
        except InputError:
            raise
        # What a damaged header raises can be of any type.
        except Exception as error:
            raise InputError(
                f"{folder}: a header of its images cannot be read ({type(error).__name__}); copy the images again, or "
                "convert them by hand"
            ) from error


def _chosen(folder: Path) -> tuple[list[SeriesFiles], list[str]]:
    usable, unusable, damaged = _candidates(folder)
    if not usable:
        unreadable = [f"{path.name}: cannot be read" for path in damaged]
        reasons = first_of([*dict.fromkeys([*unusable, *unreadable])]) or "no DICOM image"
        raise InputError(f"{folder}: no series to segment in it ({reasons}); check the folder")
    if damaged:
        raise InputError(
            f"{damaged[0]}: cannot be read, and may be an image of a series; copy it again, or move it elsewhere"
        )
    if len(usable) == 1:
        return [_files(place_name(folder), usable[0])], []
    ignored = {one.label: one.why_ignored for one in usable if one.why_ignored}
    chosen = [one for one in usable if not one.why_ignored]
    lines = [f"{label}: {reason}" for label, reason in ignored.items()]
    if not chosen:
        raise InputError(
            f"{folder}: none of its {len(usable)} series is axial and T2*-weighted ({first_of(lines)}); "
            "give the folder of one series to segment it anyway"
        )
    names = [place_name(folder) + (f"_{one.name}" if len(chosen) > 1 else "") for one in chosen]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{folder}: two series would both become {name}; give their folders one by one")
    series = [_files(name, one) for name, one in zip(names, chosen, strict=True)]
    return series, [f"{folder}: left out, {line}" for line in lines]


def _candidates(folder: Path) -> tuple[list[_Candidate], list[str], list[Path]]:
    """Series with images that can be segmented, in the order of their numbers.

    Returns:
        The series; reasons against images of other series; files that may be images and cannot be read.
    """
    images: dict[str, dict[str, tuple[Path, Dataset]]] = defaultdict(dict)
    others: dict[str, list[tuple[Path, Dataset, str]]] = defaultdict(list)
    damaged = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(filter(is_visible, folders))
        for path in (Path(parent, name) for name in sorted(names) if is_visible(name)):
            try:
                if path.is_fifo():
                    continue
                header = dcmread(path, stop_before_pixels=True)
                reason = why_unusable(header)
                # Numbers are read when they are first asked for; the file of a damaged one is to be named.
                why_ignored(header), place_of(header), _number_of(header)
                series, instance = (
                    str(header.get(keyword)) for keyword in ("SeriesInstanceUID", "SOPInstanceUID")
                )
            # What a damaged header raises can be of any type.
            except Exception as error:
                if not isinstance(error, InvalidDicomError) or _is_named_as_image(path):
                    damaged.append(path)
                continue
            if "SeriesInstanceUID" not in header and header.file_meta.get(OBJECT_CLASS) in MR_CLASSES:
                damaged.append(path)
            elif reason:
                others[series].append((path, header, reason))
            else:
                images[series].setdefault(instance, (path, header))
    candidates = [_Candidate([*found.values()], others.pop(series, [])) for series, found in images.items()]
    candidates.sort(key=lambda one: _number_of(one.images[0][1]))
    return candidates, [reason for found in others.values() for _, _, reason in found], damaged


def _number_of(header: Dataset) -> int:
    return int(header.get("SeriesNumber") or 0)


def _is_named_as_image(path: Path) -> bool:
    """Whether a file has no ending, one of DICOM, or the number at the end of an identifier."""
    ending = path.suffix.lower().removeprefix(".")
    return ending in ("", "dcm", "ima") or ending.isdecimal()


def _files(name: str, series: _Candidate) -> SeriesFiles:
    return SeriesFiles(name, tuple(path for path, _ in series.images), series.fault)
