"""Writes a drawn ex vivo cord in the layout of BIDS, like the volume of paper 3.3.2."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib

from keras_scgm import checks
from keras_scgm.datasets.phantom.subject import PhantomConfig, draw_subject
from keras_scgm.errors import InputError
from keras_scgm.files import staged

IMAGE = Path("sub-exvivo/anat/sub-exvivo_T2star.nii.gz")
MASK = Path("derivatives/labels/sub-exvivo/anat/sub-exvivo_T2star_gmseg.nii.gz")

LENGTH_MM = 468.0
"""Of the paper's volume, 4676 slices of 0.1 mm."""

SPACING_MM = 0.1


def write_exvivo_dataset(
    folder: str | Path, n_slices: int = 312, seed: int = 0, *, matrix_size: int = 220, force: bool = False
) -> Path:
    """Writes one ex vivo cord from L2 to C1, pixels of 0.1 mm, and its gray matter on all slices.

    The slices are spread over the length of the paper's cord, 468 mm, which has 4676. The same arguments write the
    same bytes.

    Args:
        folder: Folder of the data set; it is made if missing.
        n_slices: Number of slices, at least 16.
        seed: Any non-negative integer.
        matrix_size: Voxels to the left and to the front.
        force: Whether to replace the cord in the folder.

    Returns:
        The path of the image.

    Raises:
        InputError: A number out of its range, a cord in the folder, or a folder that cannot be written to.
    """
    folder, n_slices = checks.path("folder", folder), checks.integer(16)("n_slices", n_slices)
    config = PhantomConfig(
        spacing_mm=SPACING_MM,
        slice_thickness_mm=LENGTH_MM / n_slices,
        matrix_size=matrix_size,
        n_slices=n_slices,
        contrast="exvivo",
        levels=(21.0, 1.0),
        contrast_to_noise=(6.0, 12.0),
        off_centre_mm=1.0,
        drift=0.02,
        tilt_deg=0.0,
    )
    if not checks.flag("force", force) and (folder / IMAGE).exists():
        raise InputError(f"{folder / IMAGE}: exists; replace it with --force")
    subject = draw_subject(config, seed)
    for path, image in ((IMAGE, subject.image), (MASK, subject.mask)):
        with staged(folder / path.parent) as staging:
            nib.save(image, staging / path.name)
    return folder / IMAGE
