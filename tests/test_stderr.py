"""What libraries print to standard error is held back."""

import errno
import os
import tempfile

import pytest

from keras_scgm_cli.stderr import held_back_stderr


def test_what_is_held_back_is_not_shown_after_an_interruption(capfd):
    def log_and_stop():
        os.write(2, b"log line")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), held_back_stderr():
        log_and_stop()
    assert capfd.readouterr().err == ""


def test_without_a_folder_for_temporary_files_nothing_is_held_back(monkeypatch, capfd):
    def no_folder():
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "TemporaryFile", no_folder)
    with held_back_stderr():
        os.write(2, b"log line")
    assert capfd.readouterr().err == "log line"
