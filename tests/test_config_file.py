"""Defaults of options from keras_scgm.toml or pyproject.toml."""

import json

import pytest


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A current folder two levels below the folder of the test."""
    folder = tmp_path / "study" / "scripts"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


def settings(folder):
    return json.loads((folder / "a_gmseg.json").read_text())["settings"]


@pytest.fixture
def image(tmp_path, blob_image):
    blob_image().to_filename(tmp_path / "a.nii.gz")
    return tmp_path / "a.nii.gz"


def test_the_command_line_goes_before_the_file_and_the_nearest_file_counts(
    run, here, image, bright_network, tmp_path
):
    weights = tmp_path / "bright.keras"
    bright_network.save(weights)
    (tmp_path / "keras_scgm.toml").write_text("[segment]\nthreshold = 0.9\n")
    (here.parent / "pyproject.toml").write_text(
        f"[tool.keras_scgm.segment]\nweights = {json.dumps(str(weights))}\nthreshold = 0.25\nmirror = true\n"
        'window = "center"\n[tool.keras_scgm.evaluate]\nannotated-slices = true\nlabel = [3, 7]\n'
    )
    (here / "pyproject.toml").write_text("[tool.ruff]\nline-length = 110\n")
    code, _, err = run("segment", image)
    assert code == 0, err
    assert err.splitlines()[0] == (
        f"defaults from {here.parent}/pyproject.toml: weights, threshold, mirror, window"
    )
    made = settings(tmp_path)
    assert (made["threshold"], made["mirror"], made["window"]) == (0.25, True, "center")
    code, _, err = run("segment", image, "--threshold", 0.5, "--window", "auto", "--force")
    assert code == 0, err
    made = settings(tmp_path)
    assert (made["threshold"], made["mirror"], made["window"]) == (0.5, True, "auto")
    # A file of its own goes before pyproject.toml beside it.
    own = f"\ufeff[segment]\nweights = [{json.dumps(str(weights))}]\n"
    (here.parent / "keras_scgm.toml").write_text(own, encoding="utf-8")
    assert run("segment", image, "--force")[0] == 0
    assert settings(tmp_path)["threshold"] is None


def test_other_commands_say_nothing(run, here):
    (here / "keras_scgm.toml").write_text("[segment]\nmirror = true\n")
    code, _, err = run("cite")
    assert (code, err) == (0, "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[segment\n", "cannot be read as TOML (Expected ']' at the end of a table declaration"),
        ("mirror = true\n", "mirror is not a table of a command; the tables are segment, "),
        ("[segments]\nmirror = true\n", "segments is not a table of a command; the tables are segment, "),
        ("[segment]\nmirrored = true\n", "segment has no option mirrored; it has address, binarize, "),
        ("[segment]\ninputs = ['a']\n", "segment has no option inputs; it has address, "),
        ("[segment]\nmirror = 1\n", "segment.mirror must be true or false, received 1"),
        ("[segment]\nthreshold = true\n", "segment.threshold must be a text or a number, received True"),
        (
            "[segment]\nthreshold = [0.5]\n",
            "segment.threshold must be a text or a number, received [0.5]",
        ),
        (
            "[train]\ncallback = ['os:getcwd()']\n",
            "train.callback names code that would run; give it on the command line",
        ),
        (
            "[tune]\nhypermodel = 'this:s'\n",
            "tune.hypermodel names code that would run; give it on the command line",
        ),
        ("[segment]\nthreshold = '0,5'\n", "segment.threshold cannot be '0,5' ("),
        ("[train]\nepochs = 1.5\n", "train.epochs cannot be 1.5 ("),
        ("[evaluate]\nlabel = [1, 'two']\n", "evaluate.label cannot be [1, 'two'] ("),
        ("[segment]\nweights = [true]\n", "segment.weights must be a text, a number or a list of them"),
    ],
)
def test_mistakes_are_one_line(run, here, text, message):
    (here / "keras_scgm.toml").write_text(text)
    code, out, err = run("segment", "none.nii.gz")
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {here}/keras_scgm.toml: {message}")
    assert len(err.splitlines()) == 1
