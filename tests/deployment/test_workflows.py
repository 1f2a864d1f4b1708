"""Workflows, dependency updates and pre-commit hooks: of the right form, safe, and about what the repository has."""

import configparser
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted(ROOT.glob(".github/workflows/*.yml"))
SCHEMAS = {
    **dict.fromkeys(WORKFLOWS, "vendor.github-workflows"),
    ROOT / ".github" / "dependabot.yml": "vendor.dependabot",
}


def passes(program, *arguments):
    command = [Path(sys.executable).with_name(program), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: path.name)
def test_files_have_the_form_that_github_reads(path):
    passes("check-jsonschema", "--builtin-schema", SCHEMAS[path], path)


def test_workflows_are_safe():
    passes("zizmor", "--offline", "--no-progress", ROOT / ".github")


def test_workflows_run_environments_and_programs_that_exist():
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini")
    text = "\n".join(path.read_text() for path in WORKFLOWS)
    environments = set(re.findall(r"tox -e (\w+)", text))
    assert environments
    assert {f"testenv:{name}" for name in environments} <= set(tox.sections())
    programs = re.findall(r"run: python ([\w./]+)", text)
    assert programs
    assert all((ROOT / program).is_file() for program in programs)


def test_workflows_try_every_python_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    prefix = "Programming Language :: Python :: "
    pythons = [name.removeprefix(prefix) for name in project["classifiers"] if name.startswith(prefix)]
    (tests,) = (yaml.safe_load(path.read_text()) for path in WORKFLOWS if path.name == "test.yml")
    assert tests["jobs"]["tests"]["strategy"]["matrix"]["python"] == pythons


def test_package_and_client_are_built_for_a_release():
    (publish,) = (path.read_text() for path in WORKFLOWS if path.name == "publish.yml")
    folders = re.findall(r"run: python -m build --outdir dist (\S+)", publish)
    assert [ROOT / folder for folder in folders] == [ROOT, ROOT / "serving" / "client"]
    assert all((ROOT / folder / "pyproject.toml").is_file() for folder in folders)


def test_hooks_are_the_checks_of_tox():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    names = {hook["id"] for repository in hooks["repos"] for hook in repository["hooks"]}
    assert {"ruff-check", "ruff-format", "mypy", "imports"} <= names


def test_ruff_is_of_one_version_everywhere():
    """Another version finds other faults and formats otherwise."""
    pattern = r"ruff-pre-commit\n +rev: v(\S+)|\bruff==([\d.]+)"
    names = (".pre-commit-config.yaml", "tox.ini", "pyproject.toml")
    found = [re.findall(pattern, (ROOT / name).read_text()) for name in names]
    assert [len(versions) for versions in found] == [1, 1, 1]
    assert len({"".join(version) for versions in found for version in versions}) == 1
