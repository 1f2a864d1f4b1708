"""Commands in the style of the Spinal Cord Toolbox, and the table that translates them."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from keras_scgm_cli.from_sct import PROGRAMS, counterpart
from keras_scgm_cli.main import app

PAGE = Path(__file__).parents[1] / "docs/how-to/from_sct.md"


def commands():
    return typer.main.get_command(app).commands


def options_of(command):
    return {spelling for parameter in commands()[command].params for spelling in parameter.opts}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            "segment -i t2s.nii.gz -o gm.nii.gz -m challenge -thr 0.5 -qc qc -v 1",
            "-i is an option of sct_deepseg_gm; here: keras-scgm segment t2s.nii.gz --output gm.nii.gz "
            "--weights challenge --binarize paper --threshold 0.5",
        ),
        (
            "sct_deepseg_gm -i 'my t2s.nii.gz' -thr 0 -t 4",
            "sct_deepseg_gm is a program of the Spinal Cord Toolbox; here: keras-scgm segment 'my t2s.nii.gz' --soft "
            "--mirror",
        ),
        (
            "sct_deepseg graymatter -i t2s.nii.gz -o gm.nii.gz -thr 0 -qc qc",
            "sct_deepseg graymatter is a program of the Spinal Cord Toolbox; here: keras-scgm segment t2s.nii.gz "
            "--output gm.nii.gz --soft",
        ),
        (
            "sct_deepseg lesion_ms -i t2.nii.gz",
            "sct_deepseg lesion_ms is a program of the Spinal Cord Toolbox that no single command replaces; see "
            "keras-scgm --help, and From the Spinal Cord Toolbox in the documentation",
        ),
        (
            "sct_propseg -i t2s.nii.gz -c t2s",
            "sct_propseg is a program of the Spinal Cord Toolbox; here: keras-scgm segment t2s.nii.gz",
        ),
        (
            "sct_process_segmentation -i gm.nii.gz -vert 2:5 -vertfile l.nii.gz -perlevel 1 -o csa.csv",
            "sct_process_segmentation is a program of the Spinal Cord Toolbox; here: keras-scgm areas gm.nii.gz "
            "--level-range 2:5 --levels l.nii.gz --output csa.csv",
        ),
        (
            "sct_process_segmentation -i gm.nii.gz -z 2:8 -perslice 1 -normalize-PAM50 1",
            "sct_process_segmentation is a program of the Spinal Cord Toolbox; here: keras-scgm areas gm.nii.gz "
            "--slices 2:8 (left out: -normalize-PAM50 1)",
        ),
        (
            "segment -i t2s.nii.gz -w large",
            "-i is an option of sct_deepseg_gm; here: keras-scgm segment t2s.nii.gz -w large",
        ),
        (
            "sct_process_segmentation -i t2s_seg.nii.gz -angle-corr-centerline c.nii.gz -o csa.csv",
            "sct_process_segmentation is a program of the Spinal Cord Toolbox; here: keras-scgm areas t2s_seg.nii.gz "
            "--centreline c.nii.gz --output csa.csv",
        ),
        (
            "evaluate -i a.nii.gz -d b.nii.gz",
            "-i is an option of sct_dice_coefficient; here: keras-scgm evaluate a.nii.gz b.nii.gz",
        ),
        (
            "sct_label_vertebrae -i t2.nii.gz",
            "sct_label_vertebrae is a program of the Spinal Cord Toolbox that no single command replaces; see "
            "keras-scgm --help, and From the Spinal Cord Toolbox in the documentation",
        ),
    ],
)
def test_the_counterpart_is_said_in_one_line(run, given, said):
    code, out, err = run(*shlex.split(given))
    assert (code, out, err) == (2, "", f"error: {said}\n")


@pytest.mark.parametrize(
    "given", ["", "--version", "segment t2s.nii.gz -o gm.nii.gz -w large", "evaluate a b -m c=d", "train -i"]
)
def test_other_commands_are_not_touched(given):
    assert counterpart(shlex.split(given)) is None


def test_what_the_translations_say_exists():
    for program in PROGRAMS.values():
        ours = options_of(program.command)
        translated = " ".join(filter(None, program.options.values())).split()
        assert {word for word in translated if word.startswith("-")} <= ours
        assert not (set(program.options) - {"-o"}) & ours


def test_the_table_names_commands_and_options_that_exist():
    rows = [
        line.strip("| ").split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| `sct_")
    ]
    assert all(any(row[0].startswith(f"`{name} -") for row in rows) for name in PROGRAMS)
    for _, ours, *_ in rows:
        for command in re.findall(r"`keras-scgm ([^`]+)`", ours):
            verb, *words = shlex.split(command)
            assert verb in commands(), command
            used = {word for word in words if word.startswith("-")}
            assert used <= options_of(verb), command
