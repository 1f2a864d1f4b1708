"""The figures of the paper: the script draws them all, and the page has the published values."""

import runpy
from pathlib import Path

import nibabel as nib
import pytest
from PIL import Image

from keras_scgm.datasets.phantom import PhantomConfig, draw_subject
from keras_scgm.evaluation import CHALLENGE_METRICS, FCN_METRICS, published

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "explanation" / "paper_figures.md").read_text(encoding="utf-8")
FIGURES = [f"figure{number}.png" for number in range(1, 9)]


def table(heading: str) -> list[list[str]]:
    """Rows of the table under a heading, without its head."""
    part = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line.strip("| ").split(" | ") for line in part.splitlines() if line.startswith("| ")]
    return lines[1:]


def test_every_figure_is_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("skimage")
    subject = draw_subject(PhantomConfig(matrix_size=80, n_slices=1), seed=1)
    for folder, image in (("images", subject.image), ("masks", subject.mask)):
        (tmp_path / folder).mkdir()
        nib.save(image, tmp_path / folder / ("own.nii.gz" if folder == "images" else "own_gm.nii.gz"))
    script = runpy.run_path(str(ROOT / "examples" / "paper_figures.py"))
    volumes = ["--volumes", str(tmp_path / "images"), str(tmp_path / "masks")]
    script["main"](["--quick", "--output", str(tmp_path / "figures"), *volumes])
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == FIGURES
    for name in FIGURES:
        with (
            Image.open(tmp_path / "figures" / name) as drawn,
            Image.open(ROOT / "docs/images/paper" / name) as kept,
        ):
            # A figure without content has one colour; sizes follow from the code, so a change of it needs new pictures.
            assert drawn.size == kept.size
            assert len(drawn.getcolors()) > 3
    out = capsys.readouterr().out
    assert "|  | paper: Proposed | paper: best other method | synthetic, drawn | synthetic, real |" in out
    assert "| Num. of Params. | 776,898 | 124,834 | 776,321 | 124,769 |" in out


@pytest.mark.parametrize("name", FIGURES)
def test_the_page_shows_a_small_picture(name: str) -> None:
    assert f"](../images/paper/{name})" in PAGE
    path = ROOT / "docs" / "images" / "paper" / name
    assert 1000 < path.stat().st_size < 150_000


def test_the_published_values_are_those_of_the_paper() -> None:
    assert table("Table 1")[:-1] == published()["table1"]["rows"]
    methods = dict(published()["table2"])
    own = methods.pop("Proposed")
    for metric, (name, said, best, *_) in zip(CHALLENGE_METRICS, table("Table 2"), strict=True):
        assert name.split()[0] == metric
        assert said == "{:.2f} ({:.2f})".format(*own[metric])
        value, method = best.rsplit(" ", 1)
        assert value == "{:.2f} ({:.2f})".format(*methods[method][metric])
    unet, proposed = published()["table3"].values()
    parameters, *rows = table("Table 3")
    assert parameters[3:] == [f"{unet['parameters']:,}", f"{proposed['parameters']:,}"]
    for metric, row in zip(FCN_METRICS, rows, strict=True):
        assert row[3:] == ["{:.4f} ({:.2f})".format(*network[metric]) for network in (unet, proposed)]
