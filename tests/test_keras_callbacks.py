"""Keras callbacks that the command line names."""

import sys
from pathlib import Path

import keras
import pytest

from keras_scgm.errors import InputError
from keras_scgm_cli.keras_callbacks import keras_callbacks

OWN = """
import keras

class Watch(keras.callbacks.Callback):
    pass

def watch(*names, every=1):
    callback = Watch()
    callback.given = names, every
    return callback

made = []

class Unrelated:
    def __init__(self):
        made.append(self)

def unrelated():
    return 3

def broken():
    raise RuntimeError("no server\\nat all")
"""


@pytest.fixture(autouse=True)
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_callbacks.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "own_callbacks", raising=False)


def test_classes_and_functions_with_arguments(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    logger, own, made = keras_callbacks(
        [
            'keras.callbacks:CSVLogger("{folder}/keras.csv", append=True)',
            "own_callbacks:Watch",
            "own_callbacks:watch('a', 2, every=-0.5)",
        ],
        folder,
    )
    assert isinstance(logger, keras.callbacks.CSVLogger)
    assert (logger.filename, logger.append) == (f"{folder}/keras.csv", True)
    assert type(own).__name__ == "Watch"
    assert made.given == (("a", 2), -0.5)
    assert keras_callbacks([], folder) == []


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ("keras.callbacks", "--callback keras.callbacks: not understood; give MODULE:CLASS"),
        ("keras.callbacks:CSVLogger(", "not understood; give MODULE:CLASS"),
        ("keras.callbacks:CSVLogger(open('x'))", "not understood; give MODULE:CLASS"),
        ("keras.callbacks:a.b", "not understood; give MODULE:CLASS"),
        ("no_such_module:A", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("keras.callbacks:Nothing", "AttributeError: module 'keras.callbacks' has no attribute 'Nothing'"),
        ("keras.callbacks:CSVLogger", "TypeError: .*filename"),
        ("own_callbacks:broken", "RuntimeError: no server at all; give"),
        ("own_callbacks:unrelated", "--callback own_callbacks:unrelated: makes a int, not a Keras callback"),
        ("own_callbacks:made", "--callback own_callbacks:made: neither a class of Keras callbacks nor a"),
        ("os:getcwd()", r"--callback os:getcwd\(\): neither a class of Keras callbacks nor a function"),
    ],
)
def test_what_is_no_callback_is_one_line(tmp_path: Path, description: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        keras_callbacks([description], tmp_path)
    assert "\n" not in str(raised.value)


def test_a_class_of_something_else_is_not_called(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match="neither a class of Keras callbacks nor a function that returns one"
    ):
        keras_callbacks(["own_callbacks:Unrelated"], tmp_path)
    assert sys.modules["own_callbacks"].made == []
