"""Synthetic evaluations of two models against three raters, and their results."""

import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from evaluation_helpers import disc, save

from keras_scgm import evaluate


@pytest.fixture(scope="module")
def drawn_study(tmp_path_factory):
    """Three sites with two subjects, three raters; "good" draws like them and "poor" smaller."""
    folder = tmp_path_factory.mktemp("study")
    for site in (1, 2, 3):
        for number in (1, 2):
            stem = f"site{site}-sc{number:02d}"
            radius = 4 + 0.4 * site + 0.2 * number
            for rater, wider in ((1, 0.0), (2, 0.5), (3, -0.4)):
                gray = disc(radius + wider)
                white = disc(radius + 6) & ~gray
                save(folder / "raters" / f"{stem}-mask-r{rater}.nii.gz", gray + 2 * white)
            image = 100.0 + 50 * disc(radius) + np.random.default_rng(number).normal(0, 5, (40, 36, 4))
            save(folder / "raters" / f"{stem}-image.nii.gz", image, dtype=np.float32)
            save(folder / "good" / f"{stem}-image_gmseg.nii.gz", disc(radius + 0.1))
            save(folder / "poor" / f"{stem}-image_gmseg.nii.gz", disc(radius - 1.5, (0.6, 0.3)))
    return folder


@pytest.fixture
def run(run):
    return partial(run, "evaluate")


@pytest.fixture
def study(drawn_study, tmp_path):
    """A copy to change."""
    return Path(shutil.copytree(drawn_study, tmp_path / "study"))


@pytest.fixture(scope="module")
def result(drawn_study):
    return evaluate({"good": drawn_study / "good", "poor": drawn_study / "poor"}, drawn_study / "raters")
