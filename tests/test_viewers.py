"""The hint how to open a result."""

import shlex
import sys
from pathlib import Path

import pytest

from keras_scgm_cli.viewers import hint


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Makes a machine with these programs alone."""

    def install(*names):
        for name in names:
            (tmp_path / name).write_text("#!/bin/sh\n")
            (tmp_path / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))

    return install


def test_without_a_viewer_all_are_named(programs):
    programs()
    line = hint(Path("my images/t2s.nii.gz"), Path("out/t2s_gmseg.nii.gz"))
    assert "\n" not in line
    first, second, third = line.removeprefix("to look at it: ").split("  or  ")
    assert shlex.split(first) == (
        ["fsleyes", "my images/t2s.nii.gz", "out/t2s_gmseg.nii.gz", "-cm", "red", "-a", "50"]
    )
    program, option, code = shlex.split(second)
    assert (program, option) == ("Slicer", "--python-code")
    assert code == (
        "slicer.util.loadVolume('my images/t2s.nii.gz'); slicer.util.loadSegmentation('out/t2s_gmseg.nii.gz')"
    )
    assert shlex.split(third) == ["itksnap", "-g", "my images/t2s.nii.gz", "-s", "out/t2s_gmseg.nii.gz"]


def test_viewers_on_this_machine_are_named(programs):
    programs("itksnap")
    assert hint(Path("a.nii"), Path("b.nii")) == "to look at it: itksnap -g a.nii -s b.nii"
    assert hint(Path("a.nii"), Path("b.nii"), is_mask=False).startswith("to look at it: fsleyes a.nii b.nii")


def test_only_a_terminal_gets_the_hint(run, tmp_path, blob_image, bright_network, monkeypatch, programs):
    blob_image().to_filename(tmp_path / "a.nii.gz")
    bright_network.save(tmp_path / "bright.keras")
    programs("fsleyes")
    arguments = ("segment", tmp_path / "a.nii.gz", "-w", tmp_path / "bright.keras", "--force")
    _, out, _ = run(*arguments)
    assert "fsleyes" not in out
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    _, out, _ = run(*arguments)
    assert out.splitlines()[-1] == (
        f"to look at it: fsleyes {tmp_path}/a.nii.gz {tmp_path}/a_gmseg.nii.gz -cm red -a 50"
    )
