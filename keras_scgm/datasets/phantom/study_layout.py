"""Writes a drawn study in the layout of BIDS: participants of two sites, two sessions each."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from keras_scgm import checks
from keras_scgm.datasets.phantom.subject import SITES, PhantomSubject, draw_subject
from keras_scgm.errors import InputError
from keras_scgm.files import files_below, staged

BIDS_VERSION = "1.10.0"
N_SESSIONS = 2

SCANNERS = (
    {"Manufacturer": "Siemens", "ManufacturersModelName": "Prisma", "MagneticFieldStrength": 3},
    {"Manufacturer": "GE", "ManufacturersModelName": "Discovery MR750", "MagneticFieldStrength": 3},
)
"""What the sidecars of the images of each site say."""

LABELS = "derivatives/labels"

OWN_FILE = re.compile(
    rf"(?:dataset_description\.json|participants\.(?:tsv|json)|{LABELS}/dataset_description\.json|"
    rf"(?:{LABELS}/)?sub-\d+/ses-\d+/anat/sub-\d+_ses-\d+_T2starw(?:_levels)?\.(?:nii\.gz|json))"
)

PARTICIPANT_COLUMNS = {
    "participant_id": {"Description": "Label of the participant"},
    "age": {"Description": "Age at the first session", "Units": "year"},
    "sex": {"Description": "Sex", "Levels": {"F": "female", "M": "male"}},
    "site": {"Description": "Place of the scanner"},
}


def write_study_dataset(
    folder: str | Path, participants: int = 6, seed: int = 0, *, force: bool = False
) -> list[Path]:
    """Writes T2*-weighted images of 0.5 mm with their sidecars, participants.tsv and maps of vertebral levels.

    The sessions of a participant have the same anatomy, with other noise and artefacts. The maps are in
    `derivatives/labels`, with the number of the level (1 is C1) in every voxel of the cord. The same arguments write
    the same bytes.

    Args:
        folder: Folder of the data set; it is made if missing.
        participants: Number of participants.
        seed: Any non-negative integer.
        force: Whether to replace a study in the folder.

    Returns:
        The paths of all images, in order.

    Raises:
        InputError: A number out of its range, a study in the folder, or a folder that cannot be written to; the
            folder holds what it held before.
    """
    folder, seed = checks.path("folder", folder), checks.integer(0)("seed", seed)
    participants = checks.integer(1)("participants", participants)
    former = [name for name in files_below(folder) if OWN_FILE.fullmatch(name)] if folder.is_dir() else []
    if former and not checks.flag("force", force):
        raise InputError(f"{folder / former[0]}: exists; replace the study of the folder with --force")
    width = max(2, len(str(participants)))
    images, rows = [], ["\t".join(PARTICIPANT_COLUMNS)]
    with staged(folder, former) as staging:
        for number in range(1, participants + 1):
            state = int(np.random.SeedSequence((seed, number)).generate_state(1)[0])
            name, site = f"sub-{number:0{width}d}", number % len(SCANNERS)
            rows.append(f"{name}\t{20 + state % 50}\t{'FM'[state % 2]}\tsite{site + 1}")
            for session in range(1, N_SESSIONS + 1):
                subject = draw_subject(replace(SITES[1], n_slices=8), state, scan_number=session)
                images.append(folder / _write_session(staging, f"{name}/ses-{session}/anat", subject, site))
        (staging / "participants.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
        _write_json(staging / "participants.json", PARTICIPANT_COLUMNS)
        _write_json(
            staging / "dataset_description.json", {"Name": "Drawn study", "BIDSVersion": BIDS_VERSION}
        )
        _write_json(
            staging / LABELS / "dataset_description.json",
            {
                "Name": "Levels of the drawn study",
                "BIDSVersion": BIDS_VERSION,
                "DatasetType": "derivative",
                "GeneratedBy": [{"Name": "keras_scgm phantom"}],
            },
        )
    return images


def _write_session(root: Path, place: str, subject: PhantomSubject, site: int) -> Path:
    """Write image, sidecar and level map; returns the path of the image from the root."""
    participant, session, _ = place.split("/")
    stem = f"{participant}_{session}_T2starw"
    (root / place).mkdir(parents=True)
    (root / LABELS / place).mkdir(parents=True)
    nib.save(subject.image, root / place / f"{stem}.nii.gz")
    _write_json(root / place / f"{stem}.json", SCANNERS[site])
    in_cord = np.asarray(subject.cord.dataobj) > 0.5
    levels = nib.Nifti1Image((in_cord * np.array(subject.levels)).astype(np.uint8), subject.cord.affine)
    nib.save(levels, root / LABELS / place / f"{stem}_levels.nii.gz")
    return Path(place, f"{stem}.nii.gz")


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
