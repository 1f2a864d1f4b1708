"""The HTML report: what is in it, how large it is, and how a browser shows it without a network."""

import base64
import io
import json
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser

import nibabel as nib
import numpy as np
import PIL.Image
import pytest
from browser import browse
from matplotlib.image import imread
from report_pages import decoded, save_mask, tiles

from keras_scgm import InputError, evaluate
from keras_scgm.datasets.phantom import PhantomConfig, draw_subject
from keras_scgm.evaluation import CHALLENGE_METRICS
from keras_scgm.evaluation.mask_reader import CanonicalMask

pytest.importorskip("jinja2", reason="needs the extra 'report'")
pytest.importorskip("plotly", reason="needs the extra 'report'")
pytest.importorskip("skimage", reason="needs the extra 'report'")

from keras_scgm.evaluation.report import plots, write_report
from keras_scgm.evaluation.report.layers import MODEL_COLOURS, RATER_COLOURS, Layer, layers_of
from keras_scgm.evaluation.report.tiles import tiles_of
from keras_scgm_cli.main import main

N_SUBJECTS = 10
WORST = 7


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Ten drawn subjects with two raters; the predictions are shifted masks, one of them far."""
    folder = tmp_path_factory.mktemp("study")
    for place in ("manual", "found"):
        (folder / place).mkdir()
    config = PhantomConfig(spacing_mm=0.5, matrix_size=80, n_slices=4)
    for number in range(1, N_SUBJECTS + 1):
        subject = draw_subject(config, seed=number)
        stem = f"site{1 + number % 2}-sc{number:02d}"
        nib.save(subject.image, folder / "manual" / f"{stem}-image.nii.gz")
        for rater, mask in enumerate(subject.raters(2), start=1):
            nib.save(mask, folder / "manual" / f"{stem}-mask-r{rater}.nii.gz")
        voxels = np.roll(np.asarray(subject.mask.dataobj), 5 if number == WORST else number % 2, axis=0)
        moved = nib.Nifti1Image(voxels, subject.mask.affine, subject.mask.header)
        nib.save(moved, folder / "found" / f"{stem}-image_gmseg.nii.gz")
    return folder


@pytest.fixture(scope="module")
def report(study):
    path = study / "report.html"
    write_report(evaluate({"<net> & co": study / "found"}, study / "manual"), path, with_published=True)
    return path


class Elements(HTMLParser):
    """Names, attributes and texts of the elements that matter here."""

    def __init__(self, text):
        super().__init__()
        self.cases, self.links, self.texts, self.n_contours = [], [], [], 0
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "section":
            self.cases.append(attributes["id"])
        if tag == "path":
            self.n_contours += 1
        for name in ("src", "href", "xlink:href"):
            if name in attributes:
                self.links.append(attributes[name])

    def handle_data(self, data):
        self.texts.append(data.strip())


def test_content(report):
    elements = Elements(report.read_text(encoding="utf-8"))
    assert len(elements.cases) == N_SUBJECTS
    assert elements.cases[0] == f"case-site{1 + WORST % 2}-sc{WORST:02d}"
    # A prediction and two raters in 4 slices of each subject, as far as they have gray matter.
    assert N_SUBJECTS * 4 * 2 < elements.n_contours <= N_SUBJECTS * 4 * 3
    assert "<net> & co" in elements.texts
    assert "DEEPSEG (published)" in elements.texts
    for metric in CHALLENGE_METRICS:
        assert any(text == metric or text.startswith(f"{metric} (") for text in elements.texts)


def test_self_contained_and_small(report):
    assert report.stat().st_size < 15e6
    links = Elements(report.read_text(encoding="utf-8")).links
    assert links
    assert all(link.startswith(("data:", "#")) for link in links)


# Sorts by DSC twice, so that the best case comes first, and turns the flicker on and off again.
ACT = """
<script>
for (let i = 0; i < 2; i++) document.querySelectorAll("#case-table th button")[3].click();
const seen = [];
for (let i = 0; i < 2; i++) {
  document.dispatchEvent(new KeyboardEvent("keydown", {key: "f"}));
  seen.push(getComputedStyle(document.querySelector(".contours")).animationName);
}
document.body.dataset.flicker = seen.join(" ");
const displays = () => ["0", "1"].map(i => getComputedStyle(document.querySelector(`.layer-${i}`)).display).join(" ");
const press = key => document.dispatchEvent(new KeyboardEvent("keydown", {key}));
const layers = [displays()];
press("1"); layers.push(displays());
press("1"); press("2"); layers.push(displays());
const box = document.querySelector("[data-layer='1']");
box.focus(); box.click(); layers.push(displays());
document.body.dataset.layers = layers.join(", ") + (document.activeElement === box ? ", focused" : "");
const tile = document.querySelector(".mosaic svg");
tile.dispatchEvent(new MouseEvent("click"));
const visibility = getComputedStyle(tile.querySelector(".contours")).visibility;
document.body.dataset.tile = `${tile.tabIndex} ${tile.ariaLabel.slice(0, 5)} ${visibility}`;
tile.dispatchEvent(new MouseEvent("click"));
</script>
"""


def test_errors_of_a_page_are_seen(tmp_path):
    broken = tmp_path / "broken.html"
    broken.write_text("<script>nothing.at.all();</script>")
    _, errors = browse(broken, "--dump-dom")
    assert len(errors) == 1


def test_in_a_browser(report, tmp_path):
    page = tmp_path / "acting.html"
    page.write_text(report.read_text(encoding="utf-8").replace("</body>", f"{ACT}</body>"), encoding="utf-8")
    screenshot = tmp_path / "shot.png"
    size = ("--window-size=1300,3600", "--hide-scrollbars")
    dom, errors = browse(page, "--dump-dom", f"--screenshot={screenshot}", *size)
    assert not errors
    assert dom.count('class="trace boxes"') == len(CHALLENGE_METRICS) * 2
    assert 'data-flicker="flicker none"' in dom
    # Shown, the model hidden by its key, the first rater hidden by its key, and shown again by its checkbox.
    assert 'data-layers="inline inline, none inline, inline none, inline inline, focused"' in dom
    assert 'data-tile="-1 slice hidden"' in dom
    assert dom.count('class="trace scatter') == 1
    table = dom[dom.index('id="case-table"') :]
    assert 'aria-sort="descending"' in table[: table.index("<tbody>")]
    dsc = [float(row) for row in re.findall(r"<tr><td>.*?</a></td><td>\d</td><td>([\d.]+)", table)]
    assert dsc == sorted(dsc, reverse=True)
    assert len(dsc) == N_SUBJECTS

    picture = imread(screenshot)[..., :3]
    assert picture.shape[:2] == (3600, 1300)

    def n_pixels(colour):
        wanted = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        return np.count_nonzero(np.abs(picture - wanted).max(axis=2) < 0.12)

    # Contours of the model and the raters, and gray matter in 3-D, in the colour of its contours.
    for colour in (MODEL_COLOURS[0], *RATER_COLOURS[:2]):
        assert n_pixels(colour) > 300
    red, green, blue = np.moveaxis(picture, 2, 0)
    assert np.count_nonzero((red > 0.5) & (green < 0.5 * red) & (blue < 0.5 * red)) > 6000


@pytest.fixture(scope="module")
def islands(tmp_path_factory):
    """A case of 70 slices; one model has the name of the rater, and an island 14 mm from the rest in a slice."""
    folder = tmp_path_factory.mktemp("islands")
    truth = np.zeros((90, 80, 70), bool)
    truth[40:60, 40:50] = True
    save_mask(folder / "manual" / "cord_gm.nii.gz", truth)
    narrow = truth.copy()
    narrow[40:44] = False
    narrow[:, :, 0] = False
    save_mask(folder / "narrow" / "cord_gmseg.nii.gz", narrow)
    island = truth.copy()
    island[77:79, 44:46, 3] = True
    island[:, :, 69] = False
    save_mask(folder / "island" / "cord_gmseg.nii.gz", island)
    found = evaluate(
        {"narrow": folder / "narrow", "rater r1": folder / "island"}, [folder / "manual" / "cord_gm.nii.gz"]
    )
    write_report(found, folder / "report.html")
    return found, (folder / "report.html").read_text(encoding="utf-8")


def test_tiles_hold_every_contour_in_one_scale(islands):
    _, text = islands
    drawn = list(tiles(text))
    widths = {width for _, width, _ in drawn}
    assert len(widths) == 1
    width = widths.pop()
    assert width > 28
    for _, _, contours in drawn:
        for points in contours.values():
            assert points.min() > 0.9
            assert points.max() < width - 0.9
    contours = next(contours for label, _, contours in drawn if label.startswith("slice 3 "))
    # The island ends 9.5 mm to the left of the rater's outline, and 2 mm behind its anterior edge.
    rater, island = contours[2], contours[1]
    assert island[:, 0].max() - rater[:, 0].max() == pytest.approx(9.5, abs=0.01)
    near_island = island[island[:, 0] > rater[:, 0].max() + 1]
    assert near_island[:, 1].min() - rater[:, 1].min() == pytest.approx(2.0, abs=0.01)
    assert np.ptp(rater, axis=0) == pytest.approx((10.0, 5.0), abs=0.01)


def test_tiles_have_the_image_where_the_contours_are():
    image = np.zeros((40, 30, 1))
    image[25, 20] = 1
    mask = image[..., 0] > 0
    grid = CanonicalMask(None, mask[..., None], np.diag([-0.5, 1.0, 1.0, 1.0]))
    layer = Layer(0, "net", False, "#ffffff", "none")
    masks = {"gm": {layer: grid, Layer(1, "r", True, "#ffffff", "none"): grid}}
    (tile,), _ = tiles_of(masks, image, grid, ["gm"])
    pixels = np.asarray(PIL.Image.open(io.BytesIO(base64.b64decode(tile.png))))
    rows, columns = np.nonzero(pixels == pixels.max())
    left, top, width, height = tile.box
    at = (
        left + (columns.mean() + 0.5) * width / pixels.shape[1],
        top + (rows.mean() + 0.5) * height / pixels.shape[0],
    )
    points = np.array(re.findall(r"(-?[\d.]+),(-?[\d.]+)", tile.contours[0].path), float)
    np.testing.assert_allclose((points.min(axis=0) + points.max(axis=0)) / 2, at, atol=0.01)
    assert tile.width == 20


def test_cases_and_raters_are_counted(islands, report):
    def counts(text):
        return re.search(r": (\d+ cases?),\s+(\d+ raters?)", text).groups()

    assert counts(islands[1]) == ("1 case", "1 rater")
    assert counts(report.read_text(encoding="utf-8")) == (f"{N_SUBJECTS} cases", "2 raters")


def test_a_model_may_have_the_name_of_a_rater(islands):
    _, text = islands
    labels = re.findall(r'data-layer="\d+">.*?</svg>(.*?)(?: <kbd>|</label>)', text)
    assert labels == ["narrow", "model rater r1", "rater r1"]
    assert "slice 3 from inferior: narrow 0.89, model rater r1 0.99" in [label for label, _, _ in tiles(text)]
    meshes = json.loads(re.search(r'id="meshes-data">(.*?)</script>', text)[1])
    assert [trace["name"] for trace in meshes["cord"]["data"]] == [
        "narrow",
        "model rater r1",
        "raters' majority",
    ]


def test_the_worst_slices_are_shown_and_the_others_counted(islands):
    _, text = islands
    shown = [int(re.match(r"slice (\d+) from inferior:", label)[1]) for label, _, _ in tiles(text)]
    assert len(shown) == 60
    assert shown == sorted(shown)
    assert {0, 69} <= set(shown)
    assert "10 of 70 slices are left out, those with the best Dice coefficients" in text


def test_areas_are_plotted_as_bland_and_altman_do(islands):
    _, text = islands
    figure = json.loads(re.search(r'id="gm-agreement-data">(.*?)</script>', text)[1])
    lines = [shape["y0"] for shape in figure["layout"]["shapes"]]
    titles = [one["text"] for one in figure["layout"]["annotations"]]
    # 200 voxels of 0.25 mm2, 160 of them in 69 slices of the first model.
    difference = np.array([-50.0] + [-10.0] * 69)
    bias, reach = difference.mean(), 1.96 * difference.std(ddof=1)
    np.testing.assert_allclose(lines[:4], (0, bias, bias - reach, bias + reach))
    assert (
        titles[0]
        == f"narrow: bias {bias:.2f}, limits {bias - reach:.2f} to {bias + reach:.2f} mm², 70 slices"
    )
    assert titles[1].startswith("model rater r1: bias ")
    points = figure["data"][0]
    assert points["text"][:2] == ["cord, slice 0 from inferior", "cord, slice 1 from inferior"]
    np.testing.assert_allclose(decoded(points["x"])[:2], (25, 45))
    np.testing.assert_allclose(decoded(points["y"])[:2], (-50, -10))
    row = re.search(r"<tr><td>narrow</td><td><a.*?</tr>", text)[0]
    # Mean area over slices with something, and volume of slices 3 mm apart; model and raters.
    volume = 69 * 40 * 3
    assert re.findall(r"<td>([\d.-]+)</td>", row)[-4:] == [
        "40.00",
        "50.00",
        f"{volume:.1f}",
        f"{70 * 50 * 3:.1f}",
    ]
    assert "mean area 40.00 mm² (raters 50.00)" in text


def test_a_long_cord_is_in_the_view(islands):
    _, text = islands
    scene = json.loads(re.search(r'id="meshes-data">(.*?)</script>', text)[1])["cord"]["layout"]["scene"]
    assert scene["aspectmode"] == "manual"
    # The surface is smooth, so that it has no small island.
    ratio = {"x": 10 / 210, "y": 5 / 210, "z": 1}
    assert scene["aspectratio"] == pytest.approx(ratio, rel=0.1)


def test_the_view_in_3d_is_no_mirror_image(tmp_path):
    # A horn on the patient's left, posterior, in the upper half. Voxels count from the right, posterior and inferior.
    mask = np.zeros((20, 20, 8), bool)
    mask[9:11, 4:16] = mask[11:16, 4:7, 4:] = True
    for place in ("found", "manual"):
        save_mask(tmp_path / place / "a_gmseg.nii.gz", mask)
    write_report(evaluate(tmp_path / "found", tmp_path / "manual"), tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    figure = json.loads(re.search(r'id="meshes-data">(.*?)</script>', text)[1])["a"]
    scene = figure["layout"]["scene"]
    letters = {one["text"]: np.array([one[axis] for axis in "xyz"]) for one in scene["annotations"]}
    points = np.array([decoded(figure["data"][0][axis]) for axis in "xyz"])
    horn = points[:, points[0] > 11.5 * 0.5].mean(axis=1)
    middle = (letters["S"] + letters["I"]) / 2
    assert all((horn - middle) @ (letters[to] - letters[away]) > 0 for to, away in ("LR", "PA", "SI"))
    # Plotly's axes are right-handed, as left to right, posterior to anterior, inferior to superior are.
    shown = np.array([letters["R"] - letters["L"], letters["A"] - letters["P"], letters["S"] - letters["I"]])
    turned = [-1 if scene[f"{axis}axis"].get("autorange") == "reversed" else 1 for axis in "xyz"]
    assert np.linalg.det(shown * turned) > 0


def test_cases_without_result_and_without_image_are_said(tmp_path):
    mask = np.zeros((12, 12, 2), bool)
    mask[4:8, 4:8] = True
    for place in ("found", "manual"):
        for name in ("a", "b"):
            save_mask(tmp_path / place / f"{name}_gmseg.nii.gz", mask)
    (tmp_path / "found" / "b_gmseg.nii.gz").write_bytes(b"no image")
    write_report(evaluate(tmp_path / "found", tmp_path / "manual"), tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "1 of 2 cases compared," in text
    assert '<section class="case" id="case-b"><h3>b</h3><p class="error">no result' in text
    assert Elements(text).cases == ["case-b", "case-a"]
    assert text.count("no image given (--images)") == 1


def test_many_models_do_not_look_alike(islands):
    evaluation, _ = islands
    many = replace(evaluation, models=tuple(f"m{number}" for number in range(12)))
    looks = [(layer.colour, layer.dash) for layer in layers_of(many)]
    assert len(set(looks)) == len(looks) == 13


def test_an_unwritable_place_is_an_input_error(study, tmp_path):
    (tmp_path / "file").write_text("")
    result = evaluate(study / "found", study / "manual")
    with pytest.raises(InputError, match="writing failed"):
        write_report(result, tmp_path / "file" / "report.html")


def test_command(study, tmp_path, monkeypatch, capfd):
    one = study / "found" / "site2-sc01-image_gmseg.nii.gz"
    mask = study / "manual" / "site2-sc01-mask-r1.nii.gz"
    arguments = [one, mask, "--report", tmp_path / "out" / "report.html"]
    monkeypatch.setattr(sys, "argv", ["keras-scgm", "evaluate", *map(str, arguments)])
    main_exit = 0
    try:
        main()
    except SystemExit as stop:
        main_exit = stop.code or 0
    assert main_exit == 0
    capfd.readouterr()
    # Without the image the contours stand on black.
    elements = Elements((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    assert elements.cases == ["case-site2-sc01"]
    assert elements.n_contours > 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["report.html"]


def test_no_axis_of_a_metric_runs_beyond_what_it_can_have(result):
    figure = plots.box_plots(result)
    axes = [figure.layout[f"yaxis{k + 1 if k else ''}"] for k in range(len(CHALLENGE_METRICS))]
    allowed = {
        name: (axis.minallowed, axis.maxallowed) for name, axis in zip(CHALLENGE_METRICS, axes, strict=True)
    }
    assert allowed["DSC"] == allowed["JI"] == (0, 1)
    assert allowed["TPR"] == allowed["TNR"] == allowed["PPV"] == (0, 100)
    assert allowed["CC"] == (None, 100)
    assert {allowed[name] for name in ("MSD", "HSD", "SHD", "SMD")} == {(0, None)}


def test_every_metric_has_a_panel_whatever_their_number(result, monkeypatch):
    for number in (4, 10, 11):
        metrics = (CHALLENGE_METRICS * 2)[:number]
        monkeypatch.setattr(plots, "CHALLENGE_METRICS", metrics)
        figure = plots.box_plots(result)
        panels = {trace.xaxis for trace in figure.data}
        assert len(panels) == number
        assert [title.text.split()[0] for title in figure.layout.annotations] == list(metrics)


def test_names_are_no_markup_in_plots(report):
    text = report.read_text(encoding="utf-8")
    boxes, agreement, meshes = (
        json.loads(re.search(rf'id="{name}-data">(.*?)</script>', text)[1])
        for name in ("gm-boxes", "gm-agreement", "meshes")
    )
    name = "&lt;net&gt; &amp; co"
    assert {trace["name"] for trace in boxes["data"]} == {name, plots.RATERS}
    assert agreement["layout"]["annotations"][0]["text"].startswith(f"{name}: bias ")
    assert [trace["name"] for trace in next(iter(meshes.values()))["data"]] == [name, "raters' majority"]
    assert "<net>" not in text
