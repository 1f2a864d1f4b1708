"""Definitions of the images and the recipe for SLURM, as texts and as far as they run without the programs."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "serving" / "study"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.mark.parametrize("name", ["Dockerfile", "keras_scgm.def"])
def test_both_images_install_the_extra_and_run_the_command(name):
    text = (FOLDER / name).read_text()
    (extra,) = re.findall(r'pip install --no-cache-dir "/opt/keras_scgm\[(\w+)\]"', text)
    assert extra in PROJECT["optional-dependencies"]
    version = re.search(r"(?:FROM|From:) python:3\.(\d+)-slim", text)[1]
    assert 11 <= int(version) <= 13
    assert "latest" not in text
    assert re.search(r'(?:licenses="|License )(.+?)"?\n', text)[1] == PROJECT["license"]


def test_images_copy_what_the_package_is_built_from_and_nothing_else():
    """A layer of an image keeps its files for good: the keys and tokens of a checkout must not be among them."""
    rules = re.findall(r"^[^#].*", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    assert rules[0] == "**"
    assert rules[-2:] == ["**/.*", "**/__pycache__"]
    assert len(rules) == len(allowed) + 3
    named = set(re.findall(r'"([\w./]+)"', (ROOT / "setup.py").read_text()))
    sources = {name for name in named if (ROOT / name).exists() and name != "."}
    files = {PROJECT["readme"], *PROJECT["license-files"], "MANIFEST.in", "pyproject.toml", "setup.py"}
    assert allowed == sources | {name for name in files if not name.startswith("keras_scgm/")}
    copied = re.findall(
        r"^    (\S+) /opt/keras_scgm/(\S+)$", (FOLDER / "keras_scgm.def").read_text(), re.MULTILINE
    )
    assert copied == [(name, name) for name in sorted(allowed)]


def test_the_dockerfile_has_an_entry_point_and_no_root():
    lines = (FOLDER / "Dockerfile").read_text().splitlines()
    assert 'ENTRYPOINT ["keras-scgm", "study"]' in lines
    assert lines.index("USER scgm") < lines.index('ENTRYPOINT ["keras-scgm", "study"]')
    known = {"FROM", "LABEL", "COPY", "RUN", "ENV", "USER", "ENTRYPOINT", "CMD"}
    starts = {line.split()[0] for line in lines if line and line[0] not in " #"}
    assert starts <= known


def test_the_apptainer_recipe_has_its_sections():
    text = (FOLDER / "keras_scgm.def").read_text()
    sections = re.findall(r"^%(\w+)$", text, re.MULTILINE)
    assert sections == ["files", "post", "environment", "runscript", "labels", "help"]
    assert 'exec keras-scgm study "$@"' in text
    assert "/tmp" not in text, "which Apptainer shares with all users of the host"
    assert re.search(r"^Bootstrap: docker\nFrom: ", text, re.MULTILINE)


@pytest.fixture
def path_with_program(tmp_path):
    """PATH with a keras-scgm that shows how it is called, an argument a line."""
    program = tmp_path / "bin" / "keras-scgm"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$OMP_NUM_THREADS" "$@"\n')
    program.chmod(0o755)
    return f"{program.parent}:{os.environ['PATH']}"


def test_the_group_job_takes_any_path(path_with_program):
    (command,) = re.findall(r"--wrap '(.+)'\n", (FOLDER / "array.sbatch").read_text())
    environment = {"PATH": path_with_program, "BIDS_DIR": "a study; $(touch x)", "OUT": "it's out"}
    said = subprocess.run(["sh", "-c", command], env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.splitlines() == ["", "study", "a study; $(touch x)", "it's out", "group"]


def test_a_task_of_the_array_takes_its_participant(tmp_path, path_with_program):
    for name in ("sub-01", "sub-02", "sub-10"):
        (tmp_path / "raw" / name).mkdir(parents=True)
    environment = {
        "PATH": path_with_program,
        "BIDS_DIR": str(tmp_path / "raw"),
        "OUT": "out",
        "SLURM_ARRAY_TASK_ID": "3",
        "SLURM_CPUS_PER_TASK": "2",
    }
    said = subprocess.run(
        ["bash", FOLDER / "array.sbatch"], env=environment, capture_output=True, text=True, check=True
    )
    assert (
        said.stdout.split()
        == f"2 study {tmp_path}/raw out participant --participant-label sub-10 --workers 1".split()
    )
