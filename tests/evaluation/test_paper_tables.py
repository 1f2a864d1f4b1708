"""The published values."""

import pytest

from keras_scgm.evaluation import (
    CHALLENGE_METRICS,
    FCN_METRICS,
    published,
)
from keras_scgm.evaluation.paper_tables import published_cell
from keras_scgm.evaluation.table import NOTHING


def test_published_values_are_consistent():
    table_2 = published()["table2"]
    assert len(table_2) == 7
    for values in table_2.values():
        assert set(values) <= set(CHALLENGE_METRICS)
        assert len(values) == 10
        dsc = values["DSC"][0]
        # Means of a curve are not the curve of means, and the paper has two decimals.
        assert values["JI"][0] == pytest.approx(dsc / (2 - dsc), abs=0.02)
    for values in published()["table3"].values():
        assert set(values) <= {"parameters", *FCN_METRICS}
        assert len(values) == 1 + 7
    assert len(published()["table1"]["rows"]) == 7


def test_a_metric_that_the_paper_does_not_have_has_an_empty_cell():
    published_values = published()["table2"]["DEEPSEG"]
    assert published_cell(published_values, "DSC") == "0.80 (0.06)"
    assert published_cell(published_values, "DSC", 4) == "0.8000 (0.06)"
    assert published_cell(published_values, "volumetric similarity") == NOTHING
