"""Tables of BIDS."""

import math

import pytest

from keras_scgm import InputError
from keras_scgm.study.tsv import read_tsv, write_tsv


def test_round_trip_with_unknown_values(tmp_path):
    path = tmp_path / "a.tsv"
    rows = [{"a": 1 / 3, "b": "two\twords", "c": None}, {"a": math.nan, "b": "", "d": 1}]
    write_tsv(path, ["a", "b", "c"], rows)
    assert path.read_text() == "a\tb\tc\n0.3333333333\ttwo words\tn/a\nn/a\tn/a\tn/a\n"
    assert read_tsv(path, "a")[0] == {"a": "0.3333333333", "b": "two words", "c": "n/a"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\tb\n1\n", "line 2 has 1 columns, the first line 2"),
        (b"b\n1\n", "no column a"),
        (b"", "no column a"),
        (b"a\n\xff\n", "not a text in UTF-8"),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path, content, message):
    path = tmp_path / "a.tsv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_tsv(path, "a")
