"""Writes drawn subjects in the layout of the SCGM challenge (Prados et al., NeuroImage 2017)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import nibabel as nib
import numpy as np

from keras_scgm import checks
from keras_scgm.datasets.phantom.subject import SITES, PhantomSpec, draw_subject


def write_challenge_dataset(
    folder: str | Path,
    subjects_per_site: int = 10,
    seed: int = 0,
    *,
    raters: int = 4,
    unlabelled_per_site: int = 0,
    sites: Mapping[int, PhantomSpec] = SITES,
) -> list[Path]:
    """Writes `siteS-scNN-image.nii.gz`, `siteS-scNN-mask-rR.nii.gz` and `siteS-scNN-levels.txt`.

    Masks hold 1 for gray and 2 for white matter. Each line of a levels file is "slice, level": index of the
    slice from 0 and vertebral level (1 is C1). The same arguments write the same bytes.

    Args:
        folder: created if missing; files of the same names are overwritten.
        subjects_per_site: subjects with masks, numbered from 01.
        seed: any non-negative integer.
        raters: masks per subject, numbered from 1.
        unlabelled_per_site: further subjects without masks, numbered on.
        sites: what the subjects of each site look like.

    Returns:
        The paths of all images, in order.
    """
    folder, seed = checks.path("folder", folder), checks.integer(0)("seed", seed)
    subjects_per_site = checks.integer(1)("subjects_per_site", subjects_per_site)
    raters = checks.integer(1)("raters", raters)
    unlabelled_per_site = checks.integer(0)("unlabelled_per_site", unlabelled_per_site)
    folder.mkdir(parents=True, exist_ok=True)
    images = []
    for site_id, spec in sites.items():
        for number in range(1, subjects_per_site + unlabelled_per_site + 1):
            state = np.random.SeedSequence((seed, site_id, number)).generate_state(1)
            subject = draw_subject(spec, int(state[0]))
            stem = folder / f"site{site_id}-sc{number:02d}"
            images.append(Path(f"{stem}-image.nii.gz"))
            nib.save(subject.image, images[-1])
            lines = [f"{index}, {level}" for index, level in enumerate(subject.levels)]
            Path(f"{stem}-levels.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
            if number > subjects_per_site:
                continue
            for rater_id, mask in enumerate(subject.raters(raters, white_matter=True), start=1):
                nib.save(mask, f"{stem}-mask-r{rater_id}.nii.gz")
    return images
