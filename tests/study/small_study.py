"""Folders of a study with tables, images and masks, as the step participant leaves them."""

import csv
from pathlib import Path

import nibabel as nib
import numpy as np

SPACING_MM = (0.5, 0.5, 4.0)
AFFINE = np.diag([-SPACING_MM[0], *SPACING_MM[1:], 1.0])
"""Voxels from right to left, back to front, and upwards, as the page shows them."""


def write_table(path, rows):
    """A TSV table of BIDS, unknown cells as n/a."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, names, delimiter="\t", restval="n/a", lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def cord_and_gray_matter(shape=(80, 72, 4)):
    """A cord of 12 x 8 mm and gray matter of 6 x 4 mm in it."""
    cord = np.zeros(shape, bool)
    cord[30:54, 28:44] = True
    gray = np.zeros(shape, bool)
    gray[36:48, 32:40] = True
    return cord, gray


def save(path: Path, voxels, affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, affine), path)


def add_image(folder, name, verdict, dsc, **cells):
    """An image with its masks; returns its row of `summary.tsv` and those of its slices."""
    image, mask = (
        f"sub-{name}/anat/sub-{name}_T2starw.nii.gz",
        f"sub-{name}/anat/sub-{name}_T2starw_label-GM_mask.nii.gz",
    )
    cord, gray = cord_and_gray_matter()
    noise = np.random.default_rng(sum(map(ord, name))).normal(0, 4, cord.shape)
    save(folder / "bids" / image, (200 - 100 * cord + 40 * gray + noise).astype(np.float32))
    save(folder / "out" / mask, gray.astype(np.uint8))
    save(folder / "out" / mask.replace("label-GM", "label-SC"), cord.astype(np.uint8))
    summary = {
        "participant_id": f"sub-{name}",
        "image": image,
        "region": "all",
        "status": "segmented",
        "mask": mask,
    }
    summary |= {"area_mm2": 24, "cord_area_mm2": 96, "predicted_dsc": dsc, "verdict": verdict, **cells}
    slices = [
        {
            "image": image,
            "slice": k,
            "level": 3 + k // 2,
            "area_mm2": 24,
            "cord_area_mm2": 96,
            "predicted_dsc": dsc,
        }
        | {"verdict": verdict, "reason": "the outline is uncertain" if verdict != "pass" else "n/a"}
        for k in range(cord.shape[2])
    ]
    return summary, slices


def write_study(folder, images, failed=()):
    """Tables, images and masks of (name, verdict, predicted DSC); returns (input folder, folder of the study)."""
    (folder / "out").mkdir(parents=True, exist_ok=True)
    found = [add_image(folder, *image) for image in images]
    rows = [summary for summary, _ in found] + list(failed)
    write_table(folder / "out" / "summary.tsv", rows)
    write_table(folder / "out" / "areas.tsv", [row for _, slices in found for row in slices])
    return folder / "bids", folder / "out"
