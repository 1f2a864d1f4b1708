"""The report on gray matter, white matter and cord."""

import json
import re

import nibabel as nib
import numpy as np
import pytest
from browser import browse
from report_pages import decoded, save_mask, tiles

from keras_scgm import evaluate
from keras_scgm.evaluation import CHALLENGE_METRICS, evaluate_tissues

pytest.importorskip("jinja2", reason="needs the extra 'report'")
pytest.importorskip("plotly", reason="needs the extra 'report'")
pytest.importorskip("skimage", reason="needs the extra 'report'")

from keras_scgm.evaluation.report import write_report


@pytest.fixture(scope="module")
def whole_cord(tmp_path_factory):
    """A cord of 12 x 10 mm with gray matter of 6 x 4 mm in it, 2 mm above the first slice and 3 mm beside its middle;
    one model has both, another gray matter alone."""
    folder = tmp_path_factory.mktemp("cord")
    cord = np.zeros((60, 50, 12), bool)
    cord[20:44, 14:34] = True
    gray = np.zeros_like(cord)
    gray[22:34, 20:28, 4:] = True
    save_mask(folder / "manual" / "a_gmseg.nii.gz", gray, (0.5, 0.5, 1.0))
    save_mask(folder / "manual" / "a_seg.nii.gz", cord, (0.5, 0.5, 1.0))
    for model in ("both", "gray"):
        save_mask(folder / model / "a_gmseg.nii.gz", np.roll(gray, 1, axis=1), (0.5, 0.5, 1.0))
    save_mask(folder / "both" / "a_seg.nii.gz", np.roll(cord, 1, axis=0), (0.5, 0.5, 1.0))
    image = np.zeros(cord.shape, np.float32) + 100 * cord + 60 * gray
    nib.save(
        nib.Nifti1Image(image, np.diag([-0.5, 0.5, 1.0, 1.0])), folder / "manual" / "site1-sc01-image.nii.gz"
    )
    models = {name: folder / name for name in ("both", "gray")}
    return models, folder / "manual"


def test_tissues_in_the_report(whole_cord, tmp_path):
    results = evaluate_tissues(*whole_cord)
    assert list(results) == ["gm", "wm", "cord"]
    write_report(results, tmp_path / "all.html")
    text = (tmp_path / "all.html").read_text(encoding="utf-8")
    assert "<h1>Gray matter, white matter and cord segmentation</h1>" in text
    for tissue in ("gm", "wm", "cord"):
        assert f'id="{tissue}-table2"' in text
        assert f'id="{tissue}-boxes-data"' in text
    labels = [label for label, _, _ in tiles(text)]
    # Gray matter begins in slice 4; the cord is in every slice.
    assert len(labels) == 12
    assert labels[0] == "slice 0 from inferior: both gm -, cord 0.96, gray gm -, cord -"
    assert labels[4] == "slice 4 from inferior: both gm 0.88, cord 0.96, gray gm 0.88, cord -"
    cords = re.findall(r'<path class="layer-(\d) cord"', text)
    assert sorted(cords) == ["0"] * 12 + ["2"] * 12
    rows = re.findall(r"<tr><td>(both|gray)</td><td>(gm|wm|cord)</td><td><a", text)
    assert sorted(rows) == sorted([("both", "gm"), ("both", "wm"), ("both", "cord"), ("gray", "gm")])
    assert "both, cord: DSC 0.958" in text


def test_the_cord_lies_around_the_gray_matter(whole_cord, tmp_path):
    """Where gray matter alone was compared, the cord is drawn, too, and in its place."""
    write_report(evaluate(*whole_cord), tmp_path / "gm.html")
    text = (tmp_path / "gm.html").read_text(encoding="utf-8")
    assert "<h1>Gray matter segmentation</h1>" in text
    assert next(label for label, _, _ in tiles(text)) == "slice 4 from inferior: both 0.88, gray 0.88"
    meshes = json.loads(re.search(r'id="meshes-data">(.*?)</script>', text)[1])
    solids = {trace["name"]: trace for trace in meshes["a"]["data"]}
    assert list(solids) == ["both", "gray", "raters' majority", "both, cord", "raters' majority, cord"]
    shown = [name for name, trace in solids.items() if trace["visible"] is True]
    assert shown == ["both", "raters' majority", "both, cord"]
    middles = {
        name: [(np.min(v) + np.max(v)) / 2 for v in (decoded(trace[axis]) for axis in "xyz")]
        for name, trace in solids.items()
    }
    # From the centre of the first voxel, in mm: right to left, posterior to anterior, inferior to superior.
    assert middles["raters' majority"] == pytest.approx((13.75, 11.75, 7.5), abs=0.1)
    assert middles["both"] == pytest.approx((13.75, 12.25, 7.5), abs=0.1)
    assert middles["both, cord"] == pytest.approx((16.25, 11.75, 5.5), abs=0.5)
    assert middles["raters' majority, cord"] == pytest.approx((15.75, 11.75, 5.5), abs=0.5)


def test_the_cord_can_be_hidden(whole_cord, tmp_path):
    write_report(evaluate_tissues(*whole_cord), tmp_path / "all.html")
    act = """
<script>
const cord = document.querySelector(".contours .cord");
const display = () => getComputedStyle(cord).display;
const seen = [display()];
document.dispatchEvent(new KeyboardEvent("keydown", {key: "o"})); seen.push(display());
document.getElementById("no-cord").click(); seen.push(display());
document.body.dataset.cord = seen.join(" ");
</script>
"""
    page = tmp_path / "acting.html"
    text = (tmp_path / "all.html").read_text(encoding="utf-8")
    page.write_text(text.replace("</body>", f"{act}</body>"), encoding="utf-8")
    dom, errors = browse(page, "--dump-dom")
    assert not errors
    assert 'data-cord="inline none inline"' in dom
    # One model has gray matter alone.
    assert dom.count('class="trace boxes"') == (2 + 1 + 1) * len(CHALLENGE_METRICS)
