"""The notebooks in examples/ run from end to end, and are kept with their outputs."""

import re
from pathlib import Path
from typing import Any
from unittest import mock

import matplotlib.pyplot as plt
import nbformat
import nibabel as nib
import pytest
from nbclient import NotebookClient

from keras_scgm.datasets.phantom import PhantomConfig, draw_subject

EXAMPLES = Path(__file__).parents[1] / "examples"
# Notebook, the text before a number that it prints, and the least that this may be: 0.92 and 0.86 as kept.
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


def test_the_first_mask_may_be_that_of_an_image_of_yours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    subject = draw_subject(PhantomConfig(spacing_mm=0.5, matrix_size=64, n_slices=6), seed=1)
    nib.save(subject.image.slicer[:, :, ::-1], tmp_path / "t2s.nii.gz")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plt, "subplots", figures := mock.Mock(side_effect=plt.subplots))
    _, drawing, *others = code_of(read("first_mask"))
    (line,) = re.findall(r'`(image = nib.load\("t2s.nii.gz"\))`', read("first_mask").cells[2].source)
    assert drawing.source.count("image = subject.image") == 1
    source = drawing.source.replace("image = subject.image", line)
    exec("\n".join([source, *(cell.source for cell in others)]), {})
    plt.close("all")
    assert "Dice" not in capsys.readouterr().out
    assert figures.call_args.args == (1, 3)
    assert nib.load("first_mask/image_gmseg.nii.gz").shape == subject.image.shape


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
