"""Regions along the cord."""

import pytest

from keras_scgm.study.group.measures import along_cord


@pytest.mark.parametrize(
    ("regions", "shown", "label"),
    [
        (["2:3", "10", "all", "9", "slices 2:4"], ["9", "10"], "vertebral level"),
        (["0:10", "all", "-10:0", "-100:-90"], ["-100:-90", "-10:0", "0:10"], "position from the middle"),
        (["slices 2:4", "all"], ["all", "slices 2:4"], "region"),
    ],
)
def test_what_figures_show_along_the_cord(regions, shown, label):
    found, axis = along_cord(regions)
    assert found == shown
    assert axis.startswith(label)
