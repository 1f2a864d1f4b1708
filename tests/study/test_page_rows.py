"""The order of the rows of a quality page, and tables that cannot be used."""

import pytest
from small_study import write_table

pytest.importorskip("yaml", reason="needs the extra 'study'")
pytest.importorskip("jinja2", reason="needs the extra 'study'")
pytest.importorskip("skimage", reason="needs the extra 'study'")

from keras_scgm import InputError
from keras_scgm.study.page.rows import read_rows


def test_worst_first(tmp_path):
    rows = [
        {"image": "good", "verdict": "pass", "predicted_dsc": 0.95},
        {"image": "doubtful", "verdict": "review", "predicted_dsc": 0.9},
        {"image": "worse", "verdict": "review", "predicted_dsc": 0.7},
        {"image": "unknown", "verdict": "review"},
        {"image": "bad", "verdict": "fail", "predicted_dsc": 0.99},
        {"image": "broken", "error": "a.nii: truncated"},
        {"participant_id": "sub-1", "session_id": "ses-2", "status": "failed", "error": "session missing"},
        {"image": "also good", "verdict": "pass", "predicted_dsc": 0.95},
    ]
    levels = [{"image": "good", "region": "3", "verdict": "fail"}]
    write_table(tmp_path / "summary.tsv", [row | {"region": "all"} for row in rows] + levels)
    write_table(
        tmp_path / "areas.tsv",
        [{"image": "good", "slice": k, "verdict": verdict} for k, verdict in ((7, "pass"), (8, "n/a"))],
    )
    found = read_rows(tmp_path)
    assert found[0].is_missing
    assert found.pop(0).image == "sub-1, ses-2"
    order = ["broken", "bad", "unknown", "worse", "doubtful", "also good", "good"]
    assert [row.image for row in found] == order
    assert found[0].verdict is None
    assert found[-1].verdicts == {7: "pass"}
    assert found[0].summary == {"image": "broken", "error": "a.nii: truncated", "region": "all"}


def test_areas_may_be_missing(tmp_path):
    write_table(tmp_path / "summary.tsv", [{"image": "a", "region": "all"}])
    assert [row.slices for row in read_rows(tmp_path)] == [{}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such table; run participant first"),
        (b"image\nx\n", "no column region"),
        (b"image\tregion\nn/a\tall\n", "column image has gaps"),
        (b"\xff\xfe\x00", "not a text in UTF-8"),
    ],
)
def test_refused(tmp_path, text, message):
    if text is not None:
        (tmp_path / "summary.tsv").write_bytes(text)
    with pytest.raises(InputError, match=message):
        read_rows(tmp_path)


def test_slices_that_are_no_numbers_are_refused(tmp_path):
    write_table(tmp_path / "summary.tsv", [{"image": "a", "region": "all"}])
    write_table(tmp_path / "areas.tsv", [{"image": "a", "slice": "first"}])
    with pytest.raises(InputError, match=r"areas.tsv: slice 'first' is no number"):
        read_rows(tmp_path)
