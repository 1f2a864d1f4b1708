"""Writes drawn subjects in the layout of the SCGM challenge (Prados et al., NeuroImage 2017)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import nibabel as nib
import numpy as np

from keras_scgm import checks
from keras_scgm.datasets.phantom.subject import SITES, PhantomConfig, draw_subject
from keras_scgm.errors import InputError
from keras_scgm.files import staged

FILE_NAME = re.compile(r"site\d+-sc\d+-(?:image\.nii\.gz|mask-r\d+\.nii\.gz|levels\.txt)")


def write_challenge_dataset(
    folder: str | Path,
    subjects_per_site: int = 10,
    seed: int = 0,
    *,
    raters: int = 4,
    unlabelled_per_site: int = 0,
    sites: Mapping[int, PhantomConfig] = SITES,
    force: bool = False,
) -> list[Path]:
    """Writes `siteS-scNN-image.nii.gz`, `siteS-scNN-mask-rR.nii.gz` and `siteS-scNN-levels.txt`.

    Masks hold 1 for gray and 2 for white matter. Each line of a levels file is "slice, level": index of the
    slice from 0 and vertebral level (1 is C1). The same arguments write the same bytes.

    Args:
        folder: Folder of the files; it is made if missing.
        subjects_per_site: Subjects with masks, numbered from 01.
        seed: Any non-negative integer.
        raters: Masks per subject, numbered from 1.
        unlabelled_per_site: Further subjects without masks, numbered on.
        sites: Settings of the subjects of each site.
        force: Whether to replace all subjects in the folder.

    Returns:
        The paths of all images, in order.

    Raises:
        InputError: A number out of its range, subjects in the folder, or a folder that cannot be written to; the
            folder holds what it held before.
    """
    folder, seed = checks.path("folder", folder), checks.integer(0)("seed", seed)
    subjects_per_site = checks.integer(1)("subjects_per_site", subjects_per_site)
    raters = checks.integer(1)("raters", raters)
    unlabelled_per_site = checks.integer(0)("unlabelled_per_site", unlabelled_per_site)
    former = sorted(path.name for path in folder.glob("site*") if FILE_NAME.fullmatch(path.name))
    if former and not force:
        raise InputError(f"{folder / former[0]}: exists; replace all subjects of the folder with --force")
    images = []
    with staged(folder, former) as staging:
        for site_id, config in sites.items():
            for number in range(1, subjects_per_site + unlabelled_per_site + 1):
                state = np.random.SeedSequence((seed, site_id, number)).generate_state(1)
                subject = draw_subject(config, int(state[0]))
                stem = f"site{site_id}-sc{number:02d}"
                images.append(folder / f"{stem}-image.nii.gz")
                nib.save(subject.image, staging / images[-1].name)
                lines = [f"{index}, {level}" for index, level in enumerate(subject.levels)]
                (staging / f"{stem}-levels.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
                if number > subjects_per_site:
                    continue
                for rater_id, mask in enumerate(subject.raters(raters, white_matter=True), start=1):
                    nib.save(mask, staging / f"{stem}-mask-r{rater_id}.nii.gz")
    return images
