"""`keras-scgm adapt`: its lines, exit codes and files."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from tiny_adaptation import LENIENT, STRICT, TINY

from keras_scgm.adaptation import find_scans

pytestmark = pytest.mark.usefixtures("drawn_once")


@pytest.fixture
def options(tmp_path: Path, scan_folder: Path, start_weights: Path) -> list[object]:
    spec = tmp_path / "spec.json"
    spec.write_text(TINY.to_json())
    return ["--images", scan_folder, "--weights", start_weights, "--spec", spec]


def test_a_refused_network_is_exit_code_3(
    run: Callable[..., tuple[int, str, str]], options: list[object], tmp_path: Path
) -> None:
    limits = tmp_path / "strict.json"
    limits.write_text(STRICT.to_json())
    output = tmp_path / "run"
    command = ("adapt", output, *options, "--guard", limits, "--statistics-only")
    code, out, err = run(*command)
    assert code == 3, err
    assert out.splitlines()[-1].endswith("refused")
    assert err.startswith("refused: the adapted weights are not better")
    assert not (output / "adapted.weights.h5").exists()
    limits.write_text(LENIENT.to_json())
    code, out, err = run(*command, "--resume")
    assert code == 0, err
    assert out.splitlines()[-1] == f"accepted; segment with --weights {output / 'adapted.weights.h5'}"
    code, _, err = run(*command)
    assert (code, len(err.splitlines())) == (2, 1)
    assert "holds an adaptation; go on with --resume" in err
    code, _, err = run("adapt", output, *options[:4], "--seed", 8, "--guard", limits, "--resume")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "another adaptation, seed was 0, now 8; leave the setting" in err


def test_limits_and_weights_in_the_folder_stay(
    run: Callable[..., tuple[int, str, str]], options: list[object], start_weights: Path, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    output.mkdir()
    limits, weights = output / "guard.json", output / "adapted.weights.h5"
    limits.write_text(STRICT.to_json())
    weights.hardlink_to(start_weights)
    for taken, *given in ((limits, "--guard", limits), (start_weights,)):
        code, _, err = run("adapt", output, *options, "--statistics-only", *given)
        assert (code, err) == (
            2,
            f"error: {taken}: the result would take the place of this input; give the output another name\n",
        )
    assert limits.read_text() == STRICT.to_json()
    assert {path.name for path in output.iterdir()} == {limits.name, weights.name}


def test_settings_replace_those_of_the_file(
    run: Callable[..., tuple[int, str, str]], options: list[object], tmp_path: Path
) -> None:
    limits = tmp_path / "lenient.json"
    limits.write_text(LENIENT.to_json())
    code, _, err = run(
        "adapt",
        tmp_path / "run",
        *options,
        "--guard",
        limits,
        "--statistics-only",
        "--epochs",
        1,
        "--steps",
        2,
        "--seed",
        5,
    )
    assert code == 0, err
    kept = json.loads((tmp_path / "run" / "adaptation.json").read_text())["adaptation"]
    assert [kept[name] for name in ("epochs", "steps_per_epoch", "seed", "window_px")] == [1, 2, 5, 32]


def test_slices_are_suggested(
    run: Callable[..., tuple[int, str, str]], options: list[object], tmp_path: Path
) -> None:
    code, out, err = run("adapt", tmp_path / "run", *options, "--suggest", 3)
    assert code == 0, err
    assert len(out.splitlines()) == 4
    with (tmp_path / "run" / "suggested.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["rank"] for row in rows] == ["1", "2", "3"]
    assert rows[0]["distance"] == "inf"
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["suggested.csv"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--images", "none"], "none: cannot be read (No such file or directory)"),
        (["--images", "{scans}", "--weights", "none"], "none"),
        (["--images", "{scans}", "--labels", "none"], "none: no such folder"),
        (["--images", "{scans}", "--label-value", "1"], "--label-value: for masks only; give their folder"),
        (["--images", "{scans}", "--epochs", "0"], "epochs must be an integer of at least 1, received 0"),
        (["--images", "{scans}", "--suggest", "0"], "count must be an integer of at least 1, received 0"),
        (["--images", "{scans}", "--spec", "none.json"], "none.json"),
    ],
)
def test_what_is_wrong_is_one_line_and_leaves_nothing(
    run: Callable[..., tuple[int, str, str]],
    scan_folder: Path,
    tmp_path: Path,
    arguments: list[str],
    message: str,
) -> None:
    given = [str(scan_folder) if one == "{scans}" else one for one in arguments]
    code, out, err = run("adapt", tmp_path / "run", *given)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert message in err
    assert not (tmp_path / "run").exists()


def test_masks_with_several_labels_need_the_value_of_gray_matter(
    run: Callable[..., tuple[int, str, str]], options: list[object], scan_folder: Path, tmp_path: Path
) -> None:
    image = nib.load(scan_folder / "b.nii.gz")
    labels = np.zeros(image.shape, np.uint8)
    labels[30:50, 30:50, 1] = 2
    labels[38:42, 36:40, 1] = 1
    (tmp_path / "few").mkdir()
    nib.save(nib.Nifti1Image(labels, image.affine), tmp_path / "few" / "b_gmseg.nii.gz")
    command = ("adapt", tmp_path / "run", *options, "--labels", tmp_path / "few")
    code, _, err = run(*command)
    assert (code, len(err.splitlines())) == (2, 1)
    assert "b_gmseg.nii.gz: holds 0, 1, 2; name the value of gray matter with --label-value" in err
    assert not (tmp_path / "run").exists()
    scans, _ = find_scans(scan_folder, tmp_path / "few", label_value=1)
    assert [volume.label_value for volume in scans.labelled] == [1]
