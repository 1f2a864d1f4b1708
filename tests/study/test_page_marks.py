"""Marks of a quality page, read from YAML and from a TSV table."""

import pytest

pytest.importorskip("yaml", reason="needs the extra 'study'")
pytest.importorskip("jinja2", reason="needs the extra 'study'")
pytest.importorskip("skimage", reason="needs the extra 'study'")

from keras_scgm import InputError
from keras_scgm.study.page import Mark, read_marks

YAML = """# a comment
marks:
  - image: "sub-01/anat/a b.nii.gz"
    mark: "fail"
    comment: "it says \\"no\\": 3 °"
    mask_sha256: "0123456789ab"
    time: "2026-01-01T00:00:00.000Z"
  - {image: sub-02/anat/x.nii.gz, mark: artefact}
  - image: sub-03/anat/y.nii.gz
    mark: pass
    comment: null
"""
TSV = (
    "image\tmark\tcomment\tmask_sha256\ttime\n"
    'sub-01/anat/a b.nii.gz\tfail\tit says "no": 3 °\t0123456789ab\t2026\n'
    "sub-02/anat/x.nii.gz\tartefact\tn/a\tn/a\tn/a\n"
    "sub-03/anat/y.nii.gz\tpass\t\t\tn/a\n"
)
EXPECTED = {
    "sub-01/anat/a b.nii.gz": Mark("fail", 'it says "no": 3 °', "0123456789ab"),
    "sub-02/anat/x.nii.gz": Mark("artefact"),
    "sub-03/anat/y.nii.gz": Mark("pass"),
}


@pytest.mark.parametrize(
    ("name", "text"), [("qc.yml", YAML), ("marks.YAML", YAML), ("qc.tsv", TSV), ("QC.TSV", TSV)]
)
def test_both_forms(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    marks = read_marks(tmp_path / name)
    assert marks == EXPECTED
    assert [image for image, mark in marks.items() if mark.is_excluded] == list(EXPECTED)[:2]


def test_files_of_spreadsheets_and_without_comments(tmp_path):
    path = tmp_path / "qc.tsv"
    path.write_bytes("\ufeffimage\tmark\r\nä.nii.gz\tfail\r\n".encode())
    assert read_marks(path) == {"ä.nii.gz": Mark("fail")}


def test_texts_stay_as_they_are_written(tmp_path):
    text = "marks:\n  - {image: a, mark: pass, comment: no, mask_sha256: 001234567012}\n"
    (tmp_path / "qc.yml").write_text(
        f"{text}  - {{image: b, mark: fail, comment: 2026-99-99, mask_sha256: ~}}\n"
    )
    marks = read_marks(tmp_path / "qc.yml")
    assert marks == {"a": Mark("pass", "no", "001234567012"), "b": Mark("fail", "2026-99-99")}


def bomb(key):
    """YAML of a few lines whose last list has a million elements."""
    lines = ["a0: &a0 [x]", *(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]" for k in range(1, 7))]
    return "\n".join([*lines, "marks:", f"  - {{image: a, mark: pass, {key}: *a6}}\n"])


def test_no_marks(tmp_path):
    (tmp_path / "qc.yml").write_text("marks: []\n")
    assert read_marks(tmp_path / "qc.yml") == {}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("qc.yml", "marks:\n  - image: [\n", r"not YAML \(line 3\)"),
        ("qc.yml", "- image: a\n", "no list of marks"),
        ("qc.yml", "marks: fail\n", "no list of marks"),
        ("qc.yml", "marks:\n  - mark: fail\n", "entry 1: no image"),
        (
            "qc.yml",
            "marks:\n  - {image: a, mark: bad}\n",
            "entry 1: mark must be one of pass, fail, artefact, received 'bad'",
        ),
        (
            "qc.yml",
            "marks:\n  - {image: a, mark: pass}\n  - {image: a, mark: fail}\n",
            "entry 2: a is marked pass and fail",
        ),
        (
            "qc.tsv",
            "image,mark\na,fail\n",
            "no column image; the first line names the columns, separated by tabs",
        ),
        ("qc.tsv", "image\tmark\na.nii\tfail\nb.nii\tgood\n", "row 2: mark must be one of"),
        ("qc.tsv", "image\tmark\nn/a\tfail\n", "row 1: no image"),
        ("qc.yml", bomb("comment"), "entry 1: comment and mask_sha256 must be texts"),
        ("qc.yml", bomb("mask_sha256"), "entry 1: comment and mask_sha256 must be texts"),
        ("qc.yml", bomb("mark"), "entry 1: mark must be one of pass, fail, artefact, received list"),
        ("qc.yml", "marks: " + "[" * 600, "not YAML; give the qc.yml"),
    ],
)
def test_refused(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message) as error:
        read_marks(tmp_path / name)
    assert "\n" not in str(error.value)


def test_unreadable(tmp_path):
    with pytest.raises(InputError, match=r"cannot be read \(No such file or directory\)"):
        read_marks(tmp_path / "qc.yml")
    (tmp_path / "qc.yml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="not a text in UTF-8; save it as UTF-8"):
        read_marks(tmp_path / "qc.yml")
