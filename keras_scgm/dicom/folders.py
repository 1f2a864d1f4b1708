"""Finds the series to segment in a folder of DICOM files."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from keras_scgm.dicom.series import quiet, why_ignored, why_unusable
from keras_scgm.errors import InputError, first_of
from keras_scgm.files import is_visible, place_name


@dataclass(frozen=True)
class SeriesFiles:
    """Files of a series.

    Args:
        name: Name of its results: that of the folder, with protocol and number of the series if there are several.
        files: Its images, without phase images and projections.
    """

    name: str
    files: tuple[Path, ...]


@dataclass(frozen=True)
class _Candidate:
    images: Sequence[tuple[Path, Dataset]]

    @property
    def label(self) -> str:
        header = self.images[0][1]
        names = (header.get(keyword) for keyword in ("SeriesDescription", "ProtocolName"))
        described = next((f" ({name})" for name in names if name), "")
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


def find_series(folder: Path) -> tuple[list[SeriesFiles], list[str]]:
    """The series to segment in a folder and the folders below it.

    A single series of MR images is taken whatever its contrast. Of several, those are taken that
    `keras_scgm.dicom.series.why_ignored` does not refuse.

    Args:
        folder: Folder of DICOM files, whatever their names; other files are passed over.

    Returns:
        The series, and one line for each one that is left out.

    Raises:
        keras_scgm.errors.InputError: There is none.
    """
    usable, unusable = _candidates(folder)
    if not usable:
        reasons = first_of([*dict.fromkeys(unusable)]) or "no DICOM image"
        raise InputError(f"{folder}: no series to segment in it ({reasons}); check the folder")
    if len(usable) == 1:
        return [SeriesFiles(place_name(folder), _files(usable[0]))], []
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
    series = [SeriesFiles(name, _files(one)) for name, one in zip(names, chosen, strict=True)]
    return series, [f"{folder}: left out, {line}" for line in lines]


def _candidates(folder: Path) -> tuple[list[_Candidate], list[str]]:
    """Series with images that can be segmented, in the order of their numbers; reasons against all other images."""
    series: dict[str, list[tuple[Path, Dataset]]] = defaultdict(list)
    reasons = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(filter(is_visible, folders))
        for path in (Path(parent, name) for name in sorted(names) if is_visible(name)):
            with quiet():
                try:
                    header = dcmread(path, stop_before_pixels=True)
                    reason = why_unusable(header)
                    uid = str(header.get("SeriesInstanceUID"))
                except (InvalidDicomError, OSError):
                    continue
                # What a damaged header raises can be of any type.
                except Exception:
                    reason = f"{path.name}: its header cannot be read"
            if reason:
                reasons.append(reason)
            else:
                series[uid].append((path, header))
    candidates = [_Candidate(images) for images in series.values()]
    return sorted(candidates, key=lambda one: int(one.images[0][1].get("SeriesNumber") or 0)), reasons


def _files(series: _Candidate) -> tuple[Path, ...]:
    return tuple(path for path, _ in series.images)
