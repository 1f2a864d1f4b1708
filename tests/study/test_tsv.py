"""Tables of BIDS."""

import math

import pandas as pd
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
        (b"a\tb\n1\n", "line 2 has 1 column, the first line 2"),
        (b"b\n1\n", "no column a"),
        (b"", "no column a"),
        (b"a\n\xff\n", "not a text in UTF-8"),
        (b"a\tage\tage \n1\t2\t3\n", "a.tsv: two columns age; keep one of them"),
        (b"\ta\n1\t2\n", "a.tsv: line 2 has '1' in a column without a name; name it in the first line"),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path, content, message):
    path = tmp_path / "a.tsv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_tsv(path, "a")


def test_tables_as_r_and_spreadsheets_write_them(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text('"a" \tage \tnote\t\n"01"\tNA\t5 "mm"\t\n02\tNaN\tN/A\t\n 03\t\tnull\t\n')
    assert read_tsv(path, "a", "age") == [
        {"a": "01", "age": "n/a", "note": '5 "mm"'},
        {"a": "02", "age": "n/a", "note": "n/a"},
        {"a": "03", "age": "n/a", "note": "n/a"},
    ]


def test_no_cell_begins_with_a_quote(tmp_path):
    path = tmp_path / "a.tsv"
    write_tsv(path, ["a", "b"], [{"a": '"open', "b": '2"'}, {"a": "next", "b": 1}])
    table = pd.read_csv(path, sep="\t", dtype=str)
    assert table.values.tolist() == [["'open", '2"'], ["next", "1"]]
