"""The table of what an adaptation changed."""

import csv

from keras_scgm.adaptation.guard import Compared, Judgement
from keras_scgm.adaptation.report import CHANGES, write_report
from keras_scgm.segmentation import segment


def test_what_is_not_known_is_an_empty_cell(tmp_path, blob_image, bright_network):
    result = segment(blob_image(), bright_network)
    write_report(tmp_path, Judgement(()), [Compared(result, result)])
    with (tmp_path / CHANGES).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == result.volume.n_slices
    assert {row["cord_area_mm2_before"] + row["cord_area_mm2_after"] for row in rows} == {""}
    with_gray_matter = [row for row in rows if float(row["area_mm2_before"])]
    assert {row["dsc_between"] for row in with_gray_matter} == {"1.0000"}
    assert {row["dsc_between"] for row in rows if row not in with_gray_matter} == {""}
