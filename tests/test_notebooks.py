"""The notebooks in examples/ run from end to end, and are kept with their outputs."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

EXAMPLES = Path(__file__).parents[1] / "examples"
# Notebook, the text before a number that it prints, and the least that this may be: 0.92 and 0.87 as kept.
SAYS = [
    ("first_mask", "Dice of the gray matter with the truth: ", 0.85),
    ("transfer_learning", "Dice of unseen slices after 10 epochs: ", 0.75),
]


def read(name: str) -> Any:
    return nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4)


def printed(notebook: Any) -> str:
    return "".join(output.get("text", "") for cell in code_of(notebook) for output in cell.outputs)


def code_of(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kinds(notebook: Any) -> list[list[str]]:
    return [
        [output.output_type for output in cell.outputs if output.get("name") != "stderr"]
        for cell in code_of(notebook)
    ]


def test_all_notebooks_are_tested() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.ipynb")} == {name for name, *_ in SAYS}


@pytest.mark.parametrize(("name", "text", "least"), SAYS)
def test_a_notebook_runs_and_its_outputs_are_kept(name: str, text: str, least: float, tmp_path: Path) -> None:
    kept, again = read(name), read(name)
    NotebookClient(
        again, timeout=300, coalesce_streams=True, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    assert float(printed(again).split(text)[1].split()[0]) > least
    assert float(printed(kept).split(text)[1].split()[0]) > least
    assert kinds(kept) == kinds(again)
    assert ["display_data"] in kinds(kept)


@pytest.mark.parametrize("name", [name for name, *_ in SAYS])
def test_a_notebook_says_nothing_of_the_machine_it_ran_on(name: str) -> None:
    notebook = read(name)
    nbformat.validate(notebook)
    assert notebook.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    assert all(not cell.metadata for cell in notebook.cells)
    assert [cell.execution_count for cell in code_of(notebook)] == list(range(1, len(code_of(notebook)) + 1))
    assert "%pip install --quiet keras-scgm" in code_of(notebook)[0].source
