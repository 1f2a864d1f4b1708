"""Shell completion of commands, options and names of weights."""

import pytest


@pytest.fixture
def complete(run, monkeypatch):
    """What bash offers for the last word of a command line."""

    def offered(line):
        monkeypatch.setenv("_KERAS_SCGM_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
        code, out, err = run()
        assert (code, err) == (0, "")
        return out.split()

    return offered


def test_commands_options_and_weights_are_completed(complete):
    assert complete("keras-scgm seg") == ["segment"]
    assert complete("keras-scgm segment --wei") == ["--weights"]
    assert complete("keras-scgm segment --weights synth") == ["synthetic", "synthetic_unet"]
    assert complete("keras-scgm segment --weights my_file") == []
    assert complete("keras-scgm study --weights synth") == ["synthetic", "synthetic_unet"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_there_is_a_script_for_every_shell(run, monkeypatch, shell):
    monkeypatch.setenv("_KERAS_SCGM_COMPLETE", f"source_{shell}")
    code, out, err = run()
    assert (code, err) == (0, "")
    assert "_KERAS_SCGM_COMPLETE" in out
    assert f"complete_{shell}" in out
    assert "keras-scgm" in out
