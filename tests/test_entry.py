"""The program where standard output or error, or the current folder, cannot be used."""

import os
import subprocess
import sys

import pytest

PROGRAM = f'{sys.executable} -c "from keras_scgm_cli.entry import main; main()"'


def shell(command, cwd=None):
    """Exit code, standard output and standard error of a shell command."""
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False, cwd=cwd)
    return done.returncode, done.stdout, done.stderr


FULL = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
NO_SPACE = "error: writing failed (No space left on device); free space\n"


@FULL
@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("cite > /dev/full", NO_SPACE),
        ("cite > /dev/full 2>&1", ""),
        ("areas no.nii.gz 2> /dev/full", ""),
    ],
)
def test_a_full_disk_below_a_stream_is_one_line(command, error):
    assert shell(f"{PROGRAM} {command}") == (2, "", error)


def test_a_reader_that_has_enough_gets_no_error():
    assert shell(f"{PROGRAM} weights synthetic | head -c 1")[1:] == ("-", "")


def test_closed_streams_are_no_error():
    code, out, err = shell(f"{PROGRAM} cite 2>&-")
    assert (code, err) == (0, "")
    assert "Perone" in out
    assert shell(f"{PROGRAM} cite >&-") == (0, "", "")
    assert shell(f"{PROGRAM} segment no.nii.gz >&- 2>&-") == (2, "", "")


def test_a_current_folder_that_was_removed_is_one_line(tmp_path):
    (tmp_path / "gone").mkdir()
    said = "error: the current folder was removed; change to another one\n"
    assert shell(f"rmdir ../gone; {PROGRAM} cite", cwd=tmp_path / "gone") == (2, "", said)
