"""Objects that the command line names."""

import sys
from pathlib import Path

import pytest

from keras_scgm.errors import InputError
from keras_scgm_cli.named_objects import named_object


def test_an_object_is_found_in_an_installed_module_and_in_the_current_folder(tmp_path, monkeypatch):
    assert named_object("--what", "pathlib:Path") is Path
    assert named_object("--what", "pathlib:Path.cwd")() == Path.cwd()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    Path("module_of_the_user.py").write_text("answer = 42")
    assert named_object("--what", "module_of_the_user:answer") == 42


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pathlib", "ValueError: no colon between a module and a name"),
        (":Path", "ValueError: no colon between a module and a name"),
        ("pathlib:", "ValueError: no colon between a module and a name"),
        ("pathlib:Way", "AttributeError: module 'pathlib' has no attribute 'Way'"),
        ("no_such_module:name", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("broken_module:name", "ZeroDivisionError: division by zero"),
    ],
)
def test_what_cannot_be_found_is_one_line(name, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    Path("broken_module.py").write_text("1 / 0")
    with pytest.raises(InputError) as refused:
        named_object("--what", name)
    assert str(refused.value) == f"--what {name}: {message}; give MODULE:NAME"
