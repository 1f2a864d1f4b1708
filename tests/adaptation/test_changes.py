"""Pictures of what an adaptation changed."""

from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np

from keras_scgm.adaptation.guard import Compared
from keras_scgm.adaptation.report import draw_changes
from keras_scgm.nifti import read_volume

LONG = "sub-unf01_ses-baseline_acq-highres_run-01_T2starw"


def compared(folder: Path, name: str, changed: list[int]) -> Compared:
    """A scan of voxels of 0.25 mm² whose mask has 16 voxels in each slice, and 4 more in some slices after."""
    image = np.random.default_rng(0).normal(100, 10, (40, 40, 8)).astype(np.float32)
    nib.save(nib.Nifti1Image(image, np.diag([-0.5, 0.5, 3.0, 1.0])), folder / f"{name}.nii.gz")
    before = np.zeros(image.shape, bool)
    before[20:24, 20:24] = True
    after = before.copy()
    after[24, 20:24, changed] = True
    volume = read_volume(folder / f"{name}.nii.gz")
    return Compared(
        *(SimpleNamespace(volume=volume, mask_voxels=mask, cord_voxels=None) for mask in (before, after))
    )


def test_only_slices_that_changed_are_shown_with_what_changed(tmp_path):
    pairs = [compared(tmp_path, *scan) for scan in (("a", [1, 6]), ("same", []), (LONG, [0, 2, 4]))]
    figure = draw_changes(pairs)
    heads = [part.get_suptitle().replace("\n", "") for part in figure.subfigs]
    assert heads == [f"{LONG}.nii.gz", "a.nii.gz"]
    for part, slices in zip(figure.subfigs, ([0, 2, 4], [1, 6]), strict=True):
        panels = [axes for axes in part.axes if axes.images]
        # Of 16 and 20 voxels, 16 are common: 2 * 16 / 36.
        titles = [f"slice {k}, DSC between 0.889\n4.0 → 5.0 mm²" for k in slices]
        assert [axes.get_title() for axes in panels] == [*titles, *[""] * len(slices)]
        assert [axes.get_ylabel() for axes in part.axes if axes.get_ylabel()] == ["before", "after"]
    assert len(figure.subfigs[0].axes) == 2 * 3


def test_titles_do_not_overlap(tmp_path):
    figure = draw_changes([compared(tmp_path, LONG, [0, 1, 2, 3, 4, 5])])
    figure.draw_without_rendering()
    (part,) = figure.subfigs
    boxes = [axes.title.get_window_extent() for axes in part.axes if axes.get_title()]
    assert len(boxes) == 5
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


def test_no_change_is_said(tmp_path):
    figure = draw_changes([compared(tmp_path, "same", [])])
    assert figure.get_suptitle() == "the gray matter of no slice changed"
