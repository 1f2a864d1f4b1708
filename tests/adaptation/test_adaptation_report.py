"""The table of what an adaptation changed."""

import csv

import nibabel as nib

from keras_scgm.adaptation.guard import Compared, Judgement
from keras_scgm.adaptation.report import CHANGES, write_report
from keras_scgm.segmentation import segment


def test_what_is_not_known_is_an_empty_cell(tmp_path, blob_image, bright_network):
    image = blob_image()
    voxels = image.get_fdata()
    voxels[..., 0] = 100
    result = segment(nib.Nifti1Image(voxels, image.affine), bright_network)
    write_report(tmp_path, Judgement(()), [Compared(result, result)])
    with (tmp_path / CHANGES).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == result.volume.n_slices
    assert {row["cord_area_mm2_before"] + row["cord_area_mm2_after"] for row in rows} == {""}
    with_gray_matter = [row for row in rows if float(row["area_mm2_before"])]
    assert {row["dsc_between"] for row in with_gray_matter} == {"1.0000"}
    assert {row["dsc_between"] for row in rows if row not in with_gray_matter} == {""}
