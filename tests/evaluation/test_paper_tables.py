"""The published values."""

import pytest

from keras_scgm.evaluation import (
    CHALLENGE_METRICS,
    FCN_METRICS,
    published,
)


def test_published_values_are_consistent():
    table_2 = published()["table2"]
    assert len(table_2) == 7
    for values in table_2.values():
        assert set(values) == set(CHALLENGE_METRICS)
        dsc = values["DSC"][0]
        # Means of a curve are not the curve of means, and the paper has two decimals.
        assert values["JI"][0] == pytest.approx(dsc / (2 - dsc), abs=0.02)
    for values in published()["table3"].values():
        assert set(values) == {"parameters", *FCN_METRICS}
    assert len(published()["table1"]["rows"]) == 7
