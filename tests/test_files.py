"""Names, paths and writing: everything or nothing."""

import csv
import math
import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from keras_scgm import checks
from keras_scgm.adaptation import GuardConfig
from keras_scgm.adaptation.scans import find_scans
from keras_scgm.datasets import Split
from keras_scgm.errors import InputError
from keras_scgm.files import (
    is_nifti,
    nifti_files,
    nifti_stem,
    place_name,
    read_text,
    replaced,
    staged,
    write_rows,
    write_text,
    written_once,
)
from keras_scgm.pretrained.ensemble import ensemble_members
from keras_scgm.study import read_list
from keras_scgm.training import TrainingConfig
from keras_scgm_cli.config_file import find_defaults


def content(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize(
    ("name", "stem"),
    [("a.nii", "a"), ("a.nii.gz", "a"), ("A.b.NII.GZ", "A.b"), ("a.Nii", "a"), ("a.gz", None), ("nii", None)],
)
def test_the_ending_of_a_nifti_name_is_of_any_case(name, stem):
    assert is_nifti(Path(name)) == (stem is not None)
    assert nifti_stem(Path("folder", name)) == (stem or name)


def test_a_place_has_a_name_of_its_own(tmp_path, monkeypatch):
    (tmp_path / "results").mkdir()
    (tmp_path / "object-0123.nii.gz").touch()
    (tmp_path / "mask.nii.gz").symlink_to("object-0123.nii.gz")
    monkeypatch.chdir(tmp_path / "results")
    assert place_name(Path(".")) == "results"
    assert place_name(Path("../mask.nii.gz")) == "mask"


def test_the_home_folder_may_be_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert checks.path("image", "~/a.nii") == checks.path("image", Path("~/a.nii")) == tmp_path / "a.nii"
    with pytest.raises(InputError, match=r"~no-such-user/a.nii: not a path \(Could not determine home"):
        checks.path("image", "~no-such-user/a.nii")
    (tmp_path / "~old.nii").touch()
    monkeypatch.chdir(tmp_path)
    assert checks.path("image", "./~old.nii") == checks.path("image", Path("~old.nii")) == Path("~old.nii")
    with pytest.raises(InputError, match="image must be a path, received None"):
        checks.path("image", None)


def test_hidden_folders_and_links_to_folders_are_not_searched(tmp_path):
    for name in ("b.nii", "a/c.NII.GZ", ".git/d.nii", "a/.e.nii", "derivatives/f.nii", "a/derivatives/g.nii"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "gone.nii").symlink_to("nowhere.nii")
    assert nifti_files(tmp_path, lambda name: name == "a") == [
        tmp_path / name for name in ("a/c.NII.GZ", "b.nii", "gone.nii")
    ]
    assert len(nifti_files(tmp_path)) == 5
    assert nifti_files(tmp_path / ".git") == [tmp_path / ".git" / "d.nii"]


def test_a_replaced_file_is_the_old_one_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with replaced(path) as temporary:
        temporary.write_text("1")
        assert not path.exists()
    with pytest.raises(ZeroDivisionError), replaced(path) as temporary:
        temporary.write_text(str(1 / 0))
    failed = pytest.raises(InputError, match=r"writing failed \(No such file or directory\); try again")
    with failed, replaced(path, "try again"):
        pass
    with pytest.raises(InputError, match=r"writing failed \(one two\); free"), replaced(path):
        raise OSError("one\ntwo")
    assert content(tmp_path) == {"new/a.txt": "1"}


def write(staging: Path, text: str, *names: str) -> None:
    for name in names:
        (staging / name).write_text(text)


def test_a_folder_is_written_once_and_whole(tmp_path):
    folder = tmp_path / "new" / "drawn"

    def interrupted(place):
        place.mkdir()
        (place / "half").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        written_once(folder, interrupted)
    assert not folder.exists()

    def overtaken(place):
        place.mkdir()
        (place / "slower").touch()
        written_once(folder, faster)

    def faster(place):
        place.mkdir()
        (place / "faster").touch()

    assert written_once(folder, overtaken) == written_once(folder, interrupted) == folder
    assert [path.name for path in folder.parent.rglob("*")] == ["drawn", "faster"]


def test_rows_are_a_table_with_all_their_columns(tmp_path):
    write_rows(tmp_path / "new" / "a.csv", [{"n": 1, "what": "a,b"}, {"n": 2, "score": 0.5}])
    assert (tmp_path / "new" / "a.csv").read_bytes() == b'n,what,score\r\n1,"a,b",\r\n2,,0.5\r\n'


def test_what_is_not_known_is_an_empty_cell_and_a_table_without_rows_has_its_columns(tmp_path):
    write_rows(tmp_path / "a.csv", [{"n": math.nan, "m": 0.5}, {"n": np.float32("nan"), "m": None}])
    assert (tmp_path / "a.csv").read_bytes() == b"n,m\r\n,0.5\r\n,\r\n"
    write_rows(tmp_path / "a.csv", [], ["n", "m"])
    assert (tmp_path / "a.csv").read_bytes() == b"n,m\r\n"


def test_a_table_that_cannot_be_written_names_the_folder_of_the_result(tmp_path, monkeypatch, no_space):
    monkeypatch.setattr(csv.DictWriter, "writerows", no_space)
    message = f"{tmp_path}: writing failed (No space left on device); free space or change folder"
    with pytest.raises(InputError, match=re.escape(message)), staged(tmp_path) as staging:
        write_rows(staging / "below" / "a.csv", [{"n": 1}])
    assert not list(tmp_path.iterdir())


def test_a_text_is_utf_8(tmp_path):
    write_text(tmp_path / "a.json", "\u00b5\n")
    assert (tmp_path / "a.json").read_bytes() == b"\xc2\xb5\n"
    assert read_text(tmp_path / "a.json") == "\u00b5\n"
    (tmp_path / "b.json").write_text("\ufeff{}", encoding="utf-8")
    assert read_text(tmp_path / "b.json") == "{}"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no links for pipes")
def test_a_pipe_is_read_and_a_named_one_does_not_keep_waiting(run, tmp_path):
    output, given = os.pipe()
    os.write(given, b"{}")
    os.close(given)
    assert run("augment-preview", tmp_path / "a.png", "--augmentation", f"/dev/fd/{output}")[0] == 0
    os.close(output)
    os.mkfifo(tmp_path / "settings.json")
    with pytest.raises(InputError, match=r"settings.json: a named pipe; give a file"):
        TrainingConfig.read(tmp_path / "settings.json")


READERS = {
    "settings.json": TrainingConfig.read,
    "guard.json": GuardConfig.read,
    "split.json": Split.read,
    "ensemble.json": ensemble_members,
    "rescans.csv": lambda path: find_scans(path.parent, rescans=path),
    "list.txt": read_list,
    "list.tsv": read_list,
    "keras_scgm.toml": lambda path: find_defaults(),
}


@pytest.mark.parametrize("encoding", ["utf-16", "cp1252"])
@pytest.mark.parametrize("name", READERS)
def test_a_text_in_another_encoding_is_to_be_saved_as_utf_8(tmp_path, monkeypatch, name, encoding):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "image.nii").touch()
    (tmp_path / name).write_text('"caf\u00e9"', encoding=encoding)
    with pytest.raises(InputError) as refused:
        READERS[name](tmp_path / name)
    assert str(refused.value) == f"{tmp_path / name}: not a text in UTF-8; save it as UTF-8"


def test_files_of_an_earlier_result_go_with_it(tmp_path):
    with staged(tmp_path) as staging:
        write(staging, "1", "mask", "map", "record.json")
    (tmp_path / "other").write_text("0")
    with staged(tmp_path, former=["mask", "map", "never"]) as staging:
        write(staging, "2", "mask", "table", "record.json")
    assert content(tmp_path) == {"mask": "2", "table": "2", "record.json": "2", "other": "0"}


def test_a_link_is_replaced_and_not_what_it_points_to(tmp_path):
    (tmp_path / "object").write_text("kept")
    (tmp_path / "mask").symlink_to("object")
    (tmp_path / "map").symlink_to("nowhere")
    with staged(tmp_path, former=["map"]) as staging:
        write(staging, "2", "mask")
    assert content(tmp_path) == {"object": "kept", "mask": "2"}
    assert not os.path.lexists(tmp_path / "map")


@pytest.mark.parametrize("refused", ["a", "mask", "record.json", "table"])
def test_a_file_that_cannot_be_replaced_leaves_everything_as_it_was(tmp_path, monkeypatch, refused):
    write(tmp_path, "1", "mask", "map", "record.json")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "mine").write_text("0")
    before = content(tmp_path)
    rename = os.replace

    def replace(source, target):
        if refused in (source.name, target.name) and tmp_path in (source.parent, target.parent):
            raise PermissionError(1, "Operation not permitted")
        rename(source, target)

    def attempt():
        with staged(tmp_path, former=["mask", "map"]) as staging:
            write(staging, "2", "mask", "table", "record.json", *(["a"] if refused == "a" else []))

    with monkeypatch.context() as patch:
        if refused != "a":
            patch.setattr("keras_scgm.files.os.replace", replace)
        reason = "Is a directory" if refused == "a" else "Operation not permitted"
        with pytest.raises(
            InputError, match=rf"{tmp_path}/{refused}: cannot be replaced \({reason}\); move it"
        ):
            attempt()
    assert content(tmp_path) == before


def test_a_name_that_is_not_utf_8_is_refused_where_it_would_be_written(tmp_path):
    with pytest.raises(InputError, match=r"writing failed \(b\udcff\.nii is not UTF-8\); rename the file"):
        write_rows(tmp_path / "table.csv", [{"name": "a.nii", "image": "b\udcff.nii"}])
    assert content(tmp_path) == {}


def test_a_name_that_is_too_long_is_to_be_shortened(tmp_path):
    with pytest.raises(InputError, match=r"writing failed \(File name too long\); use shorter names"):
        write_rows(tmp_path / f"{'a' * 260}.csv", [])
    assert content(tmp_path) == {}


@pytest.mark.parametrize(("module", "name"), [(os, "mkdir"), (shutil, "rmtree")])
def test_an_interruption_leaves_no_staging_folder(tmp_path, monkeypatch, module, name):
    """Right after the folder is made, and when its removal begins."""
    real, interrupted = getattr(module, name), []

    def interrupting(path, *arguments, **options):
        is_first = Path(path).name.startswith(".keras_scgm_") and not interrupted
        if name == "mkdir" or not is_first:
            real(path, *arguments, **options)
        if is_first:
            interrupted.append(path)
            raise KeyboardInterrupt

    monkeypatch.setattr(module, name, interrupting)
    with pytest.raises(KeyboardInterrupt), replaced(tmp_path / "a.csv") as temporary:
        temporary.touch()
    assert interrupted
    assert not [*tmp_path.glob(".*")]
