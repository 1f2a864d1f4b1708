"""Reading of data sets in BIDS, and what is missing in them."""

import importlib.util
import json
import os
import re
import sys
import time

import pytest
from study_data import write_bids

from keras_scgm import InputError
from keras_scgm.study import is_bids, read_bids, read_folder, read_list

needs_ancpbids = pytest.mark.skipif(importlib.util.find_spec("ancpbids") is None, reason="no ancpbids")


def place(participant: str, session: str = "", rest: str = "T2starw.nii.gz") -> str:
    names = [f"sub-{participant}", *([f"ses-{session}"] if session else [])]
    return "/".join([*names, "anat", "_".join([*names, rest])])


def problems_of(study):
    return {(one.participant_id, one.session_id, one.error) for one in study.problems}


@needs_ancpbids
def test_images_sessions_runs_and_sidecars(tmp_path):
    folder = write_bids(
        tmp_path,
        [
            place("01", "A", "run-1_T2starw.nii.gz"),
            place("01", "A", "run-2_T2starw.nii.gz"),
            place("01", "A", "T1w.nii.gz"),
            place("01", "A", "part-phase_T2starw.nii.gz"),
            f"derivatives/other/{place('01')}",
            f".git/{place('01')}",
            f"sub-01/.hidden/{place('01')}",
        ],
    )
    # Some editors of Windows begin a file with a byte order mark.
    shared = json.dumps({"Manufacturer": "A", "MagneticFieldStrength": 1.5})
    (folder / "T2starw.json").write_text(f"\ufeff{shared}", encoding="utf-8")
    (folder / place("01", "A", "run-2_T2starw.json")).write_text(json.dumps({"MagneticFieldStrength": 3}))
    study = read_bids(folder)
    assert [(one.participant_id, one.session_id, one.run, one.stem) for one in study.images] == [
        ("sub-01", "ses-A", "1", "sub-01_ses-A_run-1"),
        ("sub-01", "ses-A", "2", "sub-01_ses-A_run-2"),
    ]
    assert study.images[0].image == place("01", "A", "run-1_T2starw.nii.gz")
    assert study.images[0].path == folder / study.images[0].image
    assert study.images[0].metadata() == {"Manufacturer": "A", "MagneticFieldStrength": 1.5}
    assert study.images[1].metadata() == {"Manufacturer": "A", "MagneticFieldStrength": 3}
    assert study.problems == ()


@needs_ancpbids
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", r"not JSON \(Expecting .*\); mend it"),
        (b"[" * 100_000, r"not JSON \(.*recursion.*\); mend it"),
        (b"[1]", r"list, not a JSON object; mend it"),
        ('{"Manufacturer": "A"}'.encode("utf-16"), r"not a text in UTF-8; save it as UTF-8"),
    ],
)
def test_a_sidecar_that_cannot_be_read_is_named(tmp_path, content, message):
    folder = write_bids(tmp_path, [place("01"), place("02")])
    (folder / place("01", rest="T2starw.json")).write_bytes(content)
    (folder / place("02", rest="T2starw.json")).write_text('{"MagneticFieldStrength": 3}')
    (folder / "participants.json").write_bytes(content)
    study = read_bids(folder)
    with pytest.raises(InputError, match=rf"sub-01_T2starw\.json: {message}$"):
        study.images[0].metadata()
    assert study.images[1].metadata() == {"MagneticFieldStrength": 3}
    (warning,) = study.warnings
    assert re.fullmatch(rf".*participants\.json: {message}; columns .* have no description", warning)
    assert read_folder(tmp_path, "T2starw").warnings == study.warnings


@needs_ancpbids
def test_what_is_missing_is_a_problem(tmp_path):
    given = [place(name, session) for name in ("01", "02") for session in "AB"]
    given += [place("03", "A"), place("04", "A", "T1w.nii.gz"), place("04", "B")]
    folder = write_bids(tmp_path, given)
    (folder / "participants.tsv").write_text("participant_id\tage\nsub-01\t30\n02\t31\nsub-09\t32\n")
    study = read_bids(folder)
    assert len(study.images) == 6
    assert study.participants["sub-02"] == {"age": "31"}
    assert problems_of(study) == {
        ("sub-03", "ses-B", "session missing; other participants have it"),
        ("sub-04", "ses-A", "no image with the suffix T2starw; other participants have it"),
        ("sub-09", "", "in participants.tsv, but there is no image of this participant"),
    }


@needs_ancpbids
def test_a_session_of_few_is_not_missed(tmp_path):
    given = [place(name, "A") for name in ("01", "02", "03")] + [place("01", "B")]
    assert read_bids(write_bids(tmp_path, given)).problems == ()


@needs_ancpbids
@pytest.mark.parametrize(
    "other", ["run-01_T2starw.nii.gz", "run-1_T2starw.nii"], ids=["leading zero", "ending"]
)
def test_two_runs_of_one_name_are_both_problems(tmp_path, other):
    given = [place("01", "", "run-1_T2starw.nii.gz"), place("01", "", other), place("02")]
    study = read_bids(write_bids(tmp_path, given))
    assert [one.image for one in study.images] == [place("02")]
    assert {one.image for one in study.problems} == set(given[:2])
    assert all("are one run by their names; keep one" in one.error for one in study.problems)


@needs_ancpbids
def test_other_suffixes_are_named(tmp_path):
    folder = write_bids(tmp_path, [place("01", "", "T2star.nii.gz")])
    with pytest.raises(
        InputError, match=r"no image has the suffix T2starw; there is T2star; give another --suffix"
    ):
        read_bids(folder)
    assert len(read_bids(folder, "T2star").images) == 1


@needs_ancpbids
def test_the_description_is_needed_unless_validation_is_skipped(tmp_path):
    folder = write_bids(tmp_path, [place("01")])
    description = folder / "dataset_description.json"
    description.write_text('{"Name": "x"}')
    with pytest.raises(InputError, match=r"no BIDSVersion; add it, or give --skip-bids-validation"):
        read_bids(folder)
    description.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"dataset_description\.json: not a text in UTF-8; save it as UTF-8"):
        read_bids(folder)
    description.unlink()
    assert is_bids(folder)
    with pytest.raises(InputError, match=r"no dataset_description\.json"):
        read_bids(folder)
    assert len(read_bids(folder, validate=False).images) == 1


@needs_ancpbids
def test_participants_of_two_rows_are_refused(tmp_path):
    folder = write_bids(tmp_path, [place("01")])
    (folder / "participants.tsv").write_text("participant_id\nsub-01\n01\n")
    with pytest.raises(InputError, match="sub-01 has two rows"):
        read_bids(folder)


@needs_ancpbids
def test_labels_choose_participants_and_sessions(tmp_path):
    folder = write_bids(tmp_path, [place(name, session) for name in ("01", "02", "03") for session in "AB"])
    study = read_bids(folder)
    chosen = study.chosen(["01 sub-03"], ["B"])
    assert [(one.participant_id, one.session_id) for one in chosen.images] == [
        ("sub-01", "ses-B"),
        ("sub-03", "ses-B"),
    ]
    with pytest.raises(InputError, match="no participant sub-7; there are sub-01, sub-02, sub-03"):
        study.chosen(["7"])
    with pytest.raises(InputError, match="no session ses-C"):
        study.chosen([], ["C"])


@needs_ancpbids
def test_a_thousand_subjects_take_seconds(tmp_path):
    folder = write_bids(tmp_path, [place(f"{number:04d}", "A") for number in range(1000)])
    started = time.process_time()
    assert len(read_bids(folder).images) == 1000
    assert time.process_time() - started < 10


def test_a_plain_folder(tmp_path):
    for name in ("a/t2s.nii.gz", "b/t2s.nii.gz", "b/t2s_gmseg.nii.gz", "sub-07_ses-X_run-2_T2starw.nii.gz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "a/t2s.json").write_text('{"Manufacturer": "A"}')
    study = read_folder(tmp_path)
    assert [(one.participant_id, one.session_id, one.run, one.stem) for one in study.images] == [
        ("sub-07", "ses-X", "2", "sub-07_ses-X_run-2"),
        ("sub-at2s", "", "", "sub-at2s"),
        ("sub-bt2s", "", "", "sub-bt2s"),
    ]
    assert study.images[1].metadata() == {"Manufacturer": "A"}
    assert not is_bids(tmp_path)


def test_names_that_differ_in_signs_only_are_problems(tmp_path):
    for name in ("a_1.nii.gz", "a-1.nii.gz"):
        (tmp_path / name).write_bytes(b"x")
    assert len(read_folder(tmp_path).problems) == 2


def test_a_list_as_text_and_as_a_table(tmp_path):
    image = tmp_path / "scans" / "x.nii.gz"
    image.parent.mkdir()
    image.write_bytes(b"x")
    (tmp_path / "list.txt").write_text("\ufeffscans/x.nii.gz\n# mine\n  # indented\n", encoding="utf-8")
    (one,) = read_list(tmp_path / "list.txt").images
    assert (one.path, one.image, one.participant_id) == (image, "scans/x.nii.gz", "sub-scansx")
    table = tmp_path / "list.tsv"
    table.write_text(f"image\tparticipant_id\tsession_id\trun\tage\n{os.fspath(image)}\t7\tB\t2\t50\n")
    study = read_list(table)
    (one,) = study.images
    assert (one.image, one.participant_id, one.session_id, one.run) == (
        "scans/x.nii.gz",
        "sub-7",
        "ses-B",
        "2",
    )
    assert one.stem == "sub-7_ses-B_run-2"
    assert study.image_columns == {"scans/x.nii.gz": {"age": "50"}}


@pytest.mark.parametrize("is_relative", [True, False])
def test_the_home_folder_in_a_list(tmp_path, monkeypatch, is_relative):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.txt").write_text("~/a.nii.gz\n")
    (one,) = read_list("list.txt" if is_relative else tmp_path / "list.txt").images
    assert (one.path, one.image) == (tmp_path / "home/a.nii.gz", "home/a.nii.gz")


def test_a_row_of_a_list_counts_for_its_own_image(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.nii.gz").write_bytes(b"x")
    (tmp_path / "list.tsv").write_text(
        "image\tparticipant_id\tsession_id\tage\na.nii.gz\t1\t1\t35\nb.nii.gz\t1\t2\t40\n"
    )
    assert read_list(tmp_path / "list.tsv").image_columns == {
        "a.nii.gz": {"age": "35"},
        "b.nii.gz": {"age": "40"},
    }


@needs_ancpbids
def test_columns_of_sessions_and_times_of_scans(tmp_path):
    runs = [place("01", "B", f"run-{run}_T2starw.nii.gz") for run in (1, 2)]
    folder = write_bids(tmp_path, [place("01", "A"), *runs, place("02")])
    (folder / "sub-01/sub-01_sessions.tsv").write_text(
        "session_id\tacq_time\tage\nses-A\t1900-01-01T10:00:00\t30\nses-B\t1901-01-01T10:00:00\t31\n"
    )
    (folder / "sub-01/ses-B/sub-01_ses-B_scans.tsv").write_text(
        "filename\tacq_time\toperator\nanat/sub-01_ses-B_run-2_T2starw.nii.gz\t1901-01-01T10:20:00\tx\n"
    )
    (folder / "sub-02/sub-02_scans.tsv").write_text(
        "filename\tacq_time\nanat/sub-02_T2starw.nii.gz\t1902-01-01T10:00:00\n"
    )
    assert read_bids(folder).image_columns == {
        place("01", "A"): {"acq_time": "1900-01-01T10:00:00", "age": "30"},
        runs[0]: {"acq_time": "1901-01-01T10:00:00", "age": "31"},
        runs[1]: {"acq_time": "1901-01-01T10:20:00", "age": "31"},
        place("02"): {"acq_time": "1902-01-01T10:00:00"},
    }


@pytest.mark.parametrize(("name", "content"), [("a.tsv", "file\nx\n"), ("a.txt", "\n"), ("a.tsv", "image\n")])
def test_lists_without_images_are_refused(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=r"no column image|names no image"):
        read_list(tmp_path / name)


def test_other_kinds_of_lists_are_refused(tmp_path):
    (tmp_path / "list.csv").write_text("image,age\na.nii.gz,50\n")
    with pytest.raises(
        InputError, match=r"list.csv: neither .txt nor .tsv; give a folder, or a list of files"
    ):
        read_list(tmp_path / "list.csv")


def test_an_image_that_a_list_names_twice_is_refused(tmp_path):
    (tmp_path / "list.tsv").write_text("image\tparticipant_id\na.nii.gz\t1\nx/../a.nii.gz\t2\n")
    with pytest.raises(InputError, match=r"list.tsv: names a.nii.gz twice; keep one of them"):
        read_list(tmp_path / "list.tsv")


@pytest.mark.parametrize(
    ("column", "label"),
    [
        ("participant_id", "Müller 1"),
        ("participant_id", "01,02"),
        ("participant_id", "a/b"),
        ("session_id", ".."),
        ("run", "1 2"),
    ],
)
def test_what_is_no_label_is_refused(tmp_path, column, label):
    (tmp_path / "list.tsv").write_text(f"image\t{column}\na.nii.gz\t{label}\n", encoding="utf-8")
    with pytest.raises(InputError, match=f"list.tsv: {column} '{label}' is no label; write letters"):
        read_list(tmp_path / "list.tsv")


def test_a_participant_without_label_is_refused(tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(b"x")
    (tmp_path / "participants.tsv").write_text("participant_id\tage\n01,02\t5\n")
    with pytest.raises(InputError, match=r"participants.tsv: participant_id '01,02' is no label"):
        read_folder(tmp_path)


def test_a_name_without_letters_of_labels_needs_a_list(tmp_path):
    image = tmp_path / "患者一.nii.gz"
    image.write_bytes(b"x")
    with pytest.raises(InputError, match=r"患者一.nii.gz: its name has no letter \(A to Z\) and no digit"):
        read_folder(tmp_path)
    (tmp_path / "list.tsv").write_text(f"image\tparticipant_id\n{image.name}\t1\n", encoding="utf-8")
    (one,) = read_list(tmp_path / "list.tsv").images
    assert (one.path, one.participant_id) == (image, "sub-1")


@pytest.mark.skipif(sys.platform == "darwin", reason="names of files are UTF-8")
def test_a_name_that_is_not_utf8_is_a_problem(tmp_path):
    (tmp_path / "good.nii.gz").write_bytes(b"x")
    (tmp_path / os.fsdecode(b"m\xfcller.nii.gz")).write_bytes(b"x")
    study = read_folder(tmp_path)
    assert [one.image for one in study.images] == ["good.nii.gz"]
    (problem,) = study.problems
    assert (problem.participant_id, problem.image) == ("sub-mller", "m\\udcfcller.nii.gz")
    assert problem.error == "its name is not UTF-8; rename the file"
