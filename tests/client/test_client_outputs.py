"""Files and pictures of a result, also on a full disk."""

import builtins
import csv
import errno
import io
import os
import shutil
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import keras_scgm_client
import keras_scgm_client.picture
import keras_scgm_client.tracing
import pytest
from client_checks import in_process, names
from keras_scgm_client import Client, ImageError, SettingsError
from keras_scgm_client.answer import SliceRow
from keras_scgm_client.errors import OutputError
from keras_scgm_client.outputs import OutputPaths, edited_masks, finished_record, write_areas, write_outputs
from PIL import Image
from tiny_serving import nifti_bytes, random_voxels


def test_gray_and_white_matter_make_up_the_cord_in_the_table(tmp_path):
    rows = [
        SliceRow(area_mm2=k / 3, cord_area_mm2=k, wm_area_mm2=k - k / 3, gm_cord_ratio=1 / 3)
        for k in (1, 1.0005, 70.0017)
    ]
    write_areas(tmp_path / "area.csv", [*rows, SliceRow(area_mm2=1.0)])
    with open(tmp_path / "area.csv", newline="") as file:
        *known, last = csv.DictReader(file)
    for row in known:
        gray, white, cord = (Decimal(row[name]) for name in ("area_mm2", "wm_area_mm2", "cord_area_mm2"))
        assert gray + white == cord
    assert [last[name] for name in ("cord_area_mm2", "wm_area_mm2", "gm_cord_ratio")] == [""] * 3


@pytest.mark.parametrize("content", ["{", "[]", "[" * 100_000])
def test_a_damaged_record_is_that_of_no_result(tmp_path, content):
    paths = OutputPaths.for_input(tmp_path / "a.nii.gz")
    paths.record.write_text(content)
    assert finished_record(paths, {}) == {}
    assert edited_masks(paths) == []


def test_pictures_are_drawn_without_tensorflow(url, image):
    done = in_process("segment", image, "--server", url, "--picture")
    assert done == ["1 segmented, 0 skipped, 0 failed", "['numpy']"]
    with Image.open(image.with_name("0_gmseg_qc.png")) as picture:
        assert picture.size[0] > 100


def test_pictures_that_cannot_be_drawn(monkeypatch, url, image, tmp_path):
    monkeypatch.setattr(keras_scgm_client.picture, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r"pip install 'keras-scgm-client\[picture\]'"):
        Client(url, picture=True)
    with Client(url) as client:
        client.segment(image, tmp_path / "out")
    of_tissues = ["0_seg.nii.gz", "0_wmseg.nii.gz"]
    assert names(tmp_path / "out") == ["0_gmseg.json", "0_gmseg.nii.gz", "0_gmseg_area.csv", *of_tissues]


def test_results_that_cannot_be_written(url, image, tmp_path):
    (tmp_path / "file").write_text("")
    with Client(url) as client:
        with pytest.raises(ImageError, match="cannot write there"):
            client.segment(image, tmp_path / "file" / "out")
        (image.parent / "0_gmseg.nii.gz").mkdir()
        with pytest.raises(ImageError, match=r"cannot be replaced \(Is a directory\); move it away"):
            client.segment(image)
    assert not list(image.parent.glob(".scgm_*"))


OF_TISSUES = ("0_gmseg.nii.gz", "0_wmseg.nii.gz", "0_seg.nii.gz")
WRITERS = (*OF_TISSUES, "0_gmseg_area.csv", "0_gmseg_qc.png", "0_gmseg.json")


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("before", [False, True])
def test_a_full_disk_leaves_nothing(monkeypatch, address, image, name, before):
    """Whichever file is the one that does not fit; an earlier result stays whole."""
    real_open = builtins.open
    with Client(address.rest_url) as client:
        if before:
            client.segment(image)
        there = {path: path.read_bytes() for path in image.parent.iterdir() if path.is_file()}

        def full(path, mode="r", *arguments, **options):
            file = real_open(path, mode, *arguments, **options)
            if "w" in mode and Path(path).name == name:
                file.close()
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return file

        monkeypatch.setattr(builtins, "open", full)
        monkeypatch.setattr(io, "open", full)
        with pytest.raises(ImageError, match=r"writing failed \(No space left on device\); free space"):
            client.segment(image)
        monkeypatch.undo()
    assert {path: path.read_bytes() for path in image.parent.iterdir() if path.is_file()} == there
    assert not list(image.parent.glob(".scgm_*"))


def test_a_name_that_is_too_long_is_to_be_shortened(tmp_path):
    paths = OutputPaths.for_input(tmp_path / f"{'a' * 245}.nii.gz")
    with pytest.raises(OutputError, match=r"writing failed \(File name too long\); use shorter names"):
        write_outputs(paths, {paths.mask: b"mask"}, [], {})
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(("module", "name"), [(os, "mkdir"), (shutil, "rmtree")])
def test_an_interruption_leaves_no_hidden_folder(tmp_path, monkeypatch, module, name):
    """Right after the folder is made, and when its removal begins."""
    real, interrupted = getattr(module, name), []

    def interrupting(path, *arguments, **options):
        is_first = Path(path).name.startswith(".scgm_") and not interrupted
        if name == "mkdir" or not is_first:
            real(path, *arguments, **options)
        if is_first:
            interrupted.append(path)
            raise KeyboardInterrupt

    monkeypatch.setattr(module, name, interrupting)
    paths = OutputPaths.for_input(tmp_path / "a.nii.gz")
    with pytest.raises(KeyboardInterrupt):
        write_outputs(paths, {paths.mask: b"mask"}, [], {})
    assert interrupted
    assert not [*tmp_path.glob(".*")]


def test_a_file_that_is_too_large_for_the_disk_leaves_nothing(address, image):
    """As the system reports it, in the middle of a file."""
    image.write_bytes(nifti_bytes(random_voxels(0, (60, 60, 40)), compress=True))
    script = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    script += "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
    script += "from keras_scgm_client.cli import main; main()"
    output = image.parent / "new" / "deep"
    command = [sys.executable, "-c", script, "segment", image, "--server", address.rest_url, "-o", output]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "0_gmseg.nii.gz: writing failed (File too large); free space" in done.stderr
    assert "Traceback" not in done.stderr
    assert names(image.parent) == ["0.nii.gz", "2.nii.gz", "deep/1.nii.gz", "deep/3.nii.gz"]
    assert not output.parent.exists()
