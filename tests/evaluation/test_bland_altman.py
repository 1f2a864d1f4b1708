"""Areas, volumes, and their limits of agreement."""

import csv

import numpy as np
import pytest
from evaluation_helpers import disc

from keras_scgm.evaluation import (
    write_evaluation,
)
from keras_scgm.evaluation.bland_altman import slice_areas
from keras_scgm.evaluation.scores import Score
from keras_scgm.evaluation.tables import all_tables


def test_areas_and_volumes(result, tmp_path):
    write_evaluation(result, tmp_path)
    with open(tmp_path / "cases.csv", newline="") as file:
        row = next(
            row
            for row in csv.DictReader(file)
            if (row["model"], row["case"], row["rater"]) == ("good", "site2-sc01", "r2")
        )
    for name, mask in (("prediction", disc(5.1)), ("reference", disc(5.5))):
        assert float(row[f"volume_{name}_mm3"]) == pytest.approx(mask.sum())
        filled = mask.any(axis=(0, 1)).sum()
        assert float(row[f"mean_area_{name}_mm2"]) == pytest.approx(mask.sum() * 0.25 / filled)

    # By hand: the raters' mean is 0.1 of a rater's spread away, the model 0.1 mm of radius.
    def areas(radius):
        return disc(radius).sum(axis=(0, 1)) * 0.25

    pairs = []
    for site, number in ((site, number) for site in (1, 2, 3) for number in (1, 2)):
        radius = 4 + 0.4 * site + 0.2 * number
        raters = np.mean([areas(radius + wider) for wider in (0.0, 0.5, -0.4)], axis=0)
        pairs += [pair for pair in zip(areas(radius + 0.1), raters, strict=True) if any(pair)]
    differences = -np.diff(pairs, axis=1)
    bias, reach = differences.mean(), 1.96 * differences.std(ddof=1)
    tables = {table.name: table for table in all_tables(result)}
    first = tables["agreement"].rows[0]
    assert first[:3] == ("good", "slice area (mm2)", str(len(pairs)))
    assert first[4:] == (f"{bias:.2f}", f"[{bias - reach:.2f}, {bias + reach:.2f}]")
    assert [row[:3] for row in tables["agreement"].rows[1:3]] == [
        ("good", "volume (mm3)", "6"),
        ("poor", "slice area (mm2)", str(len(pairs))),
    ]


def test_slices_that_one_alone_marked_count():
    areas_mm2 = [(0.0, 0.0), (0.0, 5.0), (4.0, 0.0), (3.0, 5.0)]
    rows = [
        {"slice_from_inferior": k, "area_prediction_mm2": one, "area_reference_mm2": other}
        for k, (one, other) in enumerate(areas_mm2)
    ]
    score = Score("m", "case", None, "r1", {}, {}, {}, rows)
    assert slice_areas([score]) == {("case", k): areas_mm2[k] for k in (1, 2, 3)}
