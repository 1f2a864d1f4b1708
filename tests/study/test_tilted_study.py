"""Areas perpendicular to tilted cords in the summary, with the default weights."""

import csv
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from keras_scgm.cohort import OutputConfig, run_here
from keras_scgm.segmentation import SegmentationConfig, Segmenter
from keras_scgm.study import read_folder, run_study

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from tilted_cord import draw_tilted_cord


def test_the_mean_of_tilted_cords_is_that_of_the_drawing(tmp_path):
    seeds, tilt_deg = (1, 2, 3), 15.0
    drawn = [draw_tilted_cord(tilt_deg, seed, n_slices=6) for seed in seeds]
    images = tmp_path / "images"
    images.mkdir()
    for seed, one in zip(seeds, drawn, strict=True):
        nib.save(one.image, images / f"{seed}.nii.gz")
    segmenter = Segmenter(config=SegmentationConfig(keep_probabilities=False))
    run_study(read_folder(images), tmp_path / "out", lambda jobs: run_here(segmenter, jobs, OutputConfig()))
    with (tmp_path / "out/summary.tsv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["region"] == "all"]
    ratios = [
        float(row["cord_perpendicular_mm2"]) / one.cord_mm2 for row, one in zip(rows, drawn, strict=True)
    ]
    assert np.mean(ratios) == pytest.approx(1, abs=0.02)
    for row in rows:
        assert float(row["cord_angle_deg"]) == pytest.approx(tilt_deg, abs=1.5)
