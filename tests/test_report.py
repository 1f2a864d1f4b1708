"""The HTML report: what is in it, how large it is, and how a browser shows it without a network."""

import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import nibabel as nib
import numpy as np
import pytest
from matplotlib.image import imread

from keras_scgm import InputError, evaluate
from keras_scgm.datasets.phantom import PhantomSpec, draw_subject
from keras_scgm.evaluation import CHALLENGE_METRICS

pytest.importorskip("jinja2", reason="needs the extra 'report'")
pytest.importorskip("plotly", reason="needs the extra 'report'")
pytest.importorskip("skimage", reason="needs the extra 'report'")

from keras_scgm.evaluation.report import MODEL_COLOURS, RATER_COLOURS, write_report
from keras_scgm_cli.main import main

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
N_SUBJECTS = 10
WORST = 7


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Ten drawn subjects with two raters; the predictions are shifted masks, one of them far."""
    folder = tmp_path_factory.mktemp("study")
    for place in ("manual", "found"):
        (folder / place).mkdir()
    spec = PhantomSpec(spacing_mm=0.5, matrix_size=80, n_slices=4)
    for number in range(1, N_SUBJECTS + 1):
        subject = draw_subject(spec, seed=number)
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


def browse(page, *options):
    """What Chromium prints, and the errors of the page; no host name resolves."""
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=10000"]
    command += ["--enable-logging=stderr", "--v=0", *options, page.as_uri()]
    process = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert process.returncode == 0, process.stderr
    console = re.findall(r":CONSOLE:?\(?\d*\)?\] (.*)", process.stderr)
    return process.stdout, [
        line for line in console if re.search(r"Uncaught|Error|Failed|WebGL is not", line)
    ]


# Sorts by DSC twice, so that the best case comes first, and turns the flicker on and off again.
ACT = """
<script>
for (let i = 0; i < 2; i++) document.querySelectorAll("#case-table th")[3].click();
const seen = [];
for (let i = 0; i < 2; i++) {
  document.dispatchEvent(new KeyboardEvent("keydown", {key: "f"}));
  seen.push(getComputedStyle(document.querySelector(".contours")).animationName);
}
document.body.dataset.flicker = seen.join(" ");
</script>
"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_errors_of_a_page_are_seen(tmp_path):
    broken = tmp_path / "broken.html"
    broken.write_text("<script>nothing.at.all();</script>")
    _, errors = browse(broken, "--dump-dom")
    assert len(errors) == 1


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_in_a_browser(report, tmp_path):
    page = tmp_path / "acting.html"
    page.write_text(report.read_text(encoding="utf-8").replace("</body>", f"{ACT}</body>"), encoding="utf-8")
    screenshot = tmp_path / "shot.png"
    size = ("--window-size=1300,2400", "--hide-scrollbars")
    dom, errors = browse(page, "--dump-dom", f"--screenshot={screenshot}", *size)
    assert not errors
    assert dom.count('class="trace boxes"') == len(CHALLENGE_METRICS) * 2
    assert 'data-flicker="flicker none"' in dom
    table = dom[dom.index('id="case-table"') :]
    assert 'aria-sort="descending"' in table[: table.index("<tbody>")]
    dsc = [float(row) for row in re.findall(r"<tr><td>.*?</a></td><td>\d</td><td>([\d.]+)", table)]
    assert dsc == sorted(dsc, reverse=True)
    assert len(dsc) == N_SUBJECTS

    picture = imread(screenshot)[..., :3]
    assert picture.shape[:2] == (2400, 1300)

    def n_pixels(colour):
        wanted = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        return np.count_nonzero(np.abs(picture - wanted).max(axis=2) < 0.12)

    # Contours of the model and the raters, and orange gray matter in 3-D.
    for colour in (MODEL_COLOURS[0], *RATER_COLOURS[:2]):
        assert n_pixels(colour) > 300
    red, green, blue = np.moveaxis(picture, 2, 0)
    assert np.count_nonzero((red > 0.6) & (green > 0.3) & (green < 0.7 * red) & (blue < 0.5 * green)) > 3000


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
