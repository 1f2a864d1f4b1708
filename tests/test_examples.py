"""Every example runs from end to end on synthetic images."""

import runpy
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
SAYS = {
    "train_on_challenge": "Proposed (published)",
    "train_on_exvivo": "776,321",
    "fine_tune": "fine-tuned: DSC ",
    "few_labels": "from scratch, mean of 1:",
    "tune_augmentation": "highest validation DSC: trial_",
    "own_search": "validation Dice",
    "compare_with_published": "Proposed (published)",
    "your_own_task": "unseen images: Dice",
    "plain_fit": "held-out subjects: Dice",
    "transfer_to_colour": "mean Dice on unseen pictures after",
    "multisite": "| all 2 | gray_matter |",
}
AGAIN = {
    "own_search": ([], "search: holds a search; choose another folder with --output"),
    "fine_tune": (["--weights", "nothing.weights.h5"], "nothing.weights.h5: no such weights file"),
}
"""Arguments of a second run into the same folder, which finds the synthetic subjects there, and how it ends."""


def test_all_examples_are_tested() -> None:
    # paper_figures trains nothing; test_paper_figures.py has it.
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {*SAYS, "paper_figures"}


@pytest.mark.parametrize("name", SAYS)
@pytest.mark.usefixtures("untraced")
# KerasTuner 1.4 locks its oracle by the name of the thread.
@pytest.mark.filterwarnings("ignore:currentThread\\(\\) is deprecated:DeprecationWarning:keras_tuner")
@pytest.mark.filterwarnings("ignore:getName\\(\\) is deprecated:DeprecationWarning:keras_tuner")
def test_example_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if name in ("tune_augmentation", "own_search") and find_spec("keras_tuner") is None:
        pytest.skip("KerasTuner is not installed")
    arguments = [name, "--quick", "--output", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", arguments)
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert SAYS[name] in capsys.readouterr().out
    assert list((tmp_path / "out").rglob("*.weights.h5"))
    if name in AGAIN:
        more, message = AGAIN[name]
        assert message in refusal(name, [*arguments[1:], *more], monkeypatch, capsys)


def refusal(
    name: str,
    arguments: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> str:
    """The one line with which an example ends."""
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{name}.py: ")
    return line


TAKE = {
    "compare_with_published": ["--manual", "mask.nii.gz", "--image"],
    "few_labels": ["--mask", "mask.nii.gz", "--image"],
    "fine_tune": ["--data"],
    "multisite": [],
    "own_search": ["--data"],
    "plain_fit": ["--data"],
    "paper_figures": ["--volumes", "nothing.nii.gz"],
    "train_on_challenge": ["--data"],
    "train_on_exvivo": ["--data"],
    "transfer_to_colour": ["--weights"],
    "tune_augmentation": ["--data"],
}
"""How each example is given a file of the user, which comes last."""


@pytest.mark.parametrize("name", TAKE)
def test_a_file_that_cannot_be_used_is_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--quick", "--output", str(tmp_path / "out"), *TAKE[name], str(tmp_path / "nothing.nii.gz")]
    assert "nothing.nii.gz" in refusal(name, arguments, monkeypatch, capsys)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("compare_with_published", ["--manual", "m.nii"], "--image and --manual: give both, or neither"),
        ("compare_with_published", ["--image", "i.nii"], "--image and --manual: give both, or neither"),
        ("compare_with_published", ["--mask", "m.nii"], "--mask m.nii: give NAME=FILE"),
        ("compare_with_published", ["--mask", "tiny=m.nii"], "--mask tiny=m.nii: tiny is there already"),
        ("few_labels", ["--mask", "m.nii"], "--image and --mask: give both, or neither"),
        (
            "few_labels",
            ["--labelled", "5"],
            "--labelled 5: {}/cord.nii.gz has 5 slices; train on one at least",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_one_line(
    name: str,
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = refusal(name, ["--quick", "--output", str(tmp_path), *arguments], monkeypatch, capsys)
    assert message.format(tmp_path) in line


@pytest.mark.parametrize("network", ["DilatedGMNet", "UNet"])
def test_networks_learn_a_task_of_their_own(
    network: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["your_own_task", "--network", network, "--output", str(tmp_path)])
    runpy.run_path(str(EXAMPLES / "your_own_task.py"), run_name="__main__")
    dice = float(capsys.readouterr().out.split("unseen images: Dice ")[1].split(",")[0])
    # Mean of both fruits; measured 0.95 for DilatedGMNet. All background would be 0.
    assert dice > 0.85
