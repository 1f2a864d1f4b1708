"""Help of the commands: examples that are right, options in groups, no codes for colours outside of terminals."""

import re
import shlex

import pytest
import typer
from typer.testing import CliRunner

from keras_scgm_cli import help as groups
from keras_scgm_cli.main import app

GROUP = typer.main.get_command(app)
COMMANDS = GROUP.commands
GROUPS = {value for name, value in vars(groups).items() if name.isupper() and isinstance(value, str)}
MANY_OPTIONS = 8


def help_of(name, **variables):
    shown = CliRunner(env={"COLUMNS": "100", **variables}).invoke(app, [name, "--help"])
    assert shown.exit_code == 0
    return shown.output


@pytest.mark.parametrize("name", COMMANDS)
def test_every_example_is_a_command_with_known_options(name):
    examples = re.findall(r"^ +(keras-scgm .*)$", help_of(name), re.MULTILINE)
    assert examples
    for example in examples:
        _, command, *arguments = shlex.split(example)
        assert command == name
        # Click refuses options, values and numbers of arguments that the command does not take.
        with COMMANDS[command].make_context(command, arguments, resilient_parsing=False):
            pass


def test_an_unknown_option_in_an_example_would_be_found():
    with pytest.raises(Exception, match="--weight"):
        COMMANDS["segment"].make_context("segment", ["t2s.nii.gz", "--weight"])


@pytest.mark.parametrize("name", COMMANDS)
def test_options_are_in_groups(name):
    given = {
        parameter.name: getattr(parameter, "rich_help_panel", None)
        for parameter in COMMANDS[name].params
        if parameter.param_type_name == "option"
    }
    assert {group for group in given.values() if group} <= GROUPS
    if len(given) >= MANY_OPTIONS:
        assert all(given.values()), given
    text = help_of(name)
    for group in {group for group in given.values() if group}:
        assert f"\n{group}:\n" in text


def test_codes_for_bold_are_for_terminals_alone(monkeypatch):
    assert "\x1b" not in help_of("segment")
    terminal = CliRunner().invoke(app, ["segment", "--help"], color=True)
    assert "\x1b[1mNetwork" in terminal.output
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in CliRunner().invoke(app, ["segment", "--help"], color=True).output
