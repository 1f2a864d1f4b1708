"""Quality pages in a browser: marks by keys and clicks, what is kept and exported, and the viewer."""

import html
import json
import re

import numpy as np
import pytest
from browser import browse
from matplotlib.image import imread
from small_study import SPACING_MM, write_study

pytest.importorskip("yaml", reason="needs the extra 'study'")
pytest.importorskip("jinja2", reason="needs the extra 'study'")
pytest.importorskip("skimage", reason="needs the extra 'study'")

from keras_scgm.study.page import Mark, read_marks, write_pages
from keras_scgm.study.page.marks import mask_id

HELPERS = """
const seen = {};
const say = (name, value) => { seen[name] = value; document.body.dataset.seen = JSON.stringify(seen); };
const press = (key, at = document) => at.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
const style = (at, name) => getComputedStyle(document.querySelector(at))[name];
const marksShown = () => cases.map(place => place.querySelector("[aria-pressed=true]")?.dataset.mark ?? "");
const comments = () => cases.map(place => place.querySelector(".comment").value);
const currentRow = () => cases.indexOf(document.querySelector(".current"));
const write = text => {
  const field = document.activeElement;
  field.value = text;
  field.dispatchEvent(new InputEvent("input", {bubbles: true}));
};
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    images = [("a", "pass", 0.85), ("b", "fail", 0.4), ("c", "review", 0.7), ("d", "pass", 0.95)]
    bids, out = write_study(tmp_path_factory.mktemp("study"), images)
    (page,) = write_pages(bids, out)
    return page


def image(name):
    return f"sub-{name}/anat/sub-{name}_T2starw.nii.gz"


def act(page, folder, script, *options, profile=None):
    """What a script says on the page; pages of one profile share what the browser keeps."""
    acting = folder / "acting.html"
    text = page.read_text(encoding="utf-8")
    assert text.count("</body>") == 1
    acting.write_text(text.replace("</body>", f"<script>{HELPERS}{script}</script></body>"), encoding="utf-8")
    if profile is not None:
        options = (*options, f"--user-data-dir={profile}")
    dom, errors = browse(acting, "--dump-dom", *options)
    assert not errors
    found = re.search(r'data-seen="(.*?)"', dom)
    assert found, dom[-2000:]
    return json.loads(html.unescape(found[1]))


# Marks three images by keys, one of them with a comment, exports both files, and loads the page again.
WORK = """
const exported = [];
document.addEventListener("click", event => {
  if (event.target.download) { event.preventDefault(); exported.push(event.target.href, event.target.download); }
}, true);
(async () => {
  if (!sessionStorage.again) {
    press("2");
    press("m");
    write("motion \\u00b0 \\"ghosts\\"\\tand\\u0007 more");
    press("1", document.activeElement);
    press("Enter", document.activeElement);
    press("j"); press("3");
    press("ArrowDown"); press("1"); press("0");
    press("n"); press("1");
    sessionStorage.again = currentRow();
    location.reload();
    return;
  }
  say("row", sessionStorage.again);
  say("marks", marksShown());
  say("comments", comments());
  say("counts", document.getElementById("counts").textContent);
  document.getElementById("export-yml").click();
  document.getElementById("export-tsv").click();
  const files = {};
  while (exported.length) {
    const [url, name] = exported.splice(0, 2);
    files[name] = await (await fetch(url)).text();
  }
  say("files", files);
})();
"""


def test_marks_survive_a_reload_and_come_out(study, tmp_path):
    seen = act(study, tmp_path, WORK)
    # The fourth row is the next without a mark after the third, whose mark was taken back.
    assert seen["row"] == "3"
    assert seen["marks"] == ["fail", "artefact", "", "pass"]
    comment = 'motion ° "ghosts" and  more'
    assert seen["comments"] == [comment, "", "", ""]
    assert seen["counts"] == "3 of 4 marked: 1 pass, 1 fail, 1 artefact"
    marks = {"b": ("fail", comment), "c": ("artefact", ""), "d": ("pass", "")}
    hashes = {
        name: mask_id(study.parent / image(name).replace(".nii", "_label-GM_mask.nii")) for name in marks
    }
    expected = {image(name): Mark(*mark, hashes[name]) for name, mark in marks.items()}
    assert all(hashes.values())
    assert set(seen["files"]) == {"qc.yml", "qc.tsv"}
    for name, text in seen["files"].items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        assert read_marks(tmp_path / name) == expected


# Clicks instead of keys; what is shown, which rows a filter leaves, and marks from a file.
CLICKS = """
const toggled = [];
for (const [key, at, name] of [["f", ".contours", "animationName"], ["c", ".contours", "visibility"],
                               ["o", "path.cord", "display"]]) {
  press(key); toggled.push(style(at, name));
  press(key); toggled.push(style(at, name));
}
press("c"); say("pressed", document.getElementById("bare").getAttribute("aria-pressed")); press("c");
say("toggled", toggled);
const tile = document.querySelector(".mosaic svg");
tile.dispatchEvent(new MouseEvent("click", {bubbles: true}));
say("tile", [style(".mosaic svg .contours", "visibility"), currentRow()]);
cases[2].querySelector("[data-mark=artefact]").click();
say("clicked", [marksShown(), currentRow()]);
cases[2].querySelector("[data-mark=artefact]").click();
say("again", marksShown());
cases[1].querySelector("[data-mark=pass]").click();
const filter = document.getElementById("filter"), shown = () => cases.map(place => place.hidden ? 0 : 1).join("");
const choices = {};
choose(cases[0]);
for (const choice of ["unmarked", "pass", "fail", "verdict pass", "all"]) {
  filter.value = choice;
  filter.dispatchEvent(new Event("change"));
  choices[choice] = shown();
}
say("choices", choices);
add('marks:\\n  - image: "sub-d/anat/sub-d_T2starw.nii.gz"\\n    mark: "fail"\\n    comment: "a \\\\"b\\\\"\\\\t"\\n');
say("added", [marksShown(), comments()[3], cases[3].querySelector(".stale").hidden]);
add(asYaml().replaceAll(cases[3].dataset.mask, "an earlier"));
const stored = JSON.parse(localStorage.getItem(ITEM));
stored["sub-z/anat/another-page.nii.gz"] = {mark: "pass", comment: ""};
localStorage.setItem(ITEM, JSON.stringify(stored));
window.dispatchEvent(new StorageEvent("storage"));
const exported = ["another-page", '"an earlier"'].map(text => asYaml().includes(text));
say("stale", [cases[3].querySelector(".stale").hidden, ...exported]);
add("nothing");
say("trouble", [trouble.textContent, trouble.hidden]);
add(asYaml());
say("no trouble", trouble.hidden);
window.dispatchEvent(new Event("beforeprint"));
say("printed", document.querySelectorAll(".mosaic image:not([href])").length);
"""


def test_clicks_filters_and_marks_from_a_file(study, tmp_path):
    seen = act(study, tmp_path, CLICKS)
    assert seen["toggled"] == ["flicker", "none", "hidden", "visible", "none", "inline"]
    assert seen["tile"] == ["hidden", 0]
    assert seen["clicked"] == [["", "", "artefact", ""], 2]
    assert seen["again"] == [""] * 4
    # The row being worked on, the first, stays.
    assert seen["choices"] == {
        "unmarked": "1011", "pass": "1100", "fail": "1000", "verdict pass": "1011", "all": "1111"
    }  # fmt: skip
    assert seen["added"] == [["", "pass", "", "fail"], 'a "b"', True]
    assert seen["stale"] == [False, True, True]
    assert seen["trouble"][0].startswith("No marks in this file")
    assert [seen["trouble"][1], seen["no trouble"]] == [False, True]
    assert seen["pressed"] == "true"
    assert seen["printed"] == 0


SCROLLED = """
const said = () => document.getElementById("said").textContent;
const seen_by = place => place.getBoundingClientRect().bottom > 0 && place.getBoundingClientRect().top < innerHeight;
press("1");
scrollTo(0, document.body.scrollHeight);
say("before", [seen_by(cases[0]), said()]);
press("2");
say("chosen", [marksShown(), seen_by(cases[currentRow()])]);
const row = currentRow();
press("2");
say("marked", [row, marksShown(), said()]);
"""


def test_keys_mark_no_row_that_is_not_on_the_screen(study, tmp_path):
    seen = act(study, tmp_path, SCROLLED)
    assert seen["before"] == [False, "sub-b_T2starw: pass"]
    assert seen["chosen"] == [["pass", "", "", ""], True]
    row, marks, said = seen["marked"]
    assert row > 0
    assert marks == ["pass", *("fail" if k == row else "" for k in (1, 2, 3))]
    assert said == f"sub-{'bcad'[row]}_T2starw: fail"


VIEW = """
press("j"); press("v");
(async () => {
  while (!viewer?.volumes[1]?.colormapLabel) await new Promise(done => setTimeout(done, 50));
  document.getElementById("opacity").focus();
  press("2", document.activeElement);
  const [gray, masks] = viewer.volumes, voxel = (volume, ...at) =>
    volume.img[at[0] + gray.dims[1] * (at[1] + gray.dims[2] * at[2])];
  const counts = [0, 1, 2].map(label => masks.img.filter(value => value === label).length);
  const at = masks.img.indexOf(2), [width, height] = gray.dims.slice(1);
  const first = [at % width, Math.floor(at / width) % height, Math.floor(at / width / height)];
  say("viewer", {
    title: document.getElementById("viewer-title").textContent, open: dialog.open, counts,
    spacing: gray.pixDims.slice(1, 4),
    world: gray.hdr.affine.slice(0, 3).map(row => row[3] + first.reduce((sum, at, axis) => sum + at * row[axis], 0)),
    inside: voxel(gray, first[0] + 3, first[1] + 3, 1), outside: voxel(gray, first[0] - 3, first[1], 1),
    row: currentRow(), mark: document.getElementById("viewer-mark").textContent, marks: marksShown(),
  });
})();
"""


def test_a_volume_opens_in_the_viewer(study, tmp_path):
    screenshot = tmp_path / "shot.png"
    seen = act(study, tmp_path, VIEW, f"--screenshot={screenshot}", "--window-size=900,800")["viewer"]
    assert seen["title"] == image("c")
    assert seen["open"]
    assert seen["row"] == 1
    assert seen["mark"] == seen["marks"][1] == "fail"
    assert seen["counts"][1:] == [4 * (24 * 16 - 12 * 8), 4 * 12 * 8]
    np.testing.assert_allclose(seen["spacing"], SPACING_MM)
    # The first voxel of the gray matter is (36, 32, 0).
    np.testing.assert_allclose(seen["world"], (-18, 16, 0), atol=1e-4)
    # 140 in gray matter and 100 in white matter, with a noise of 4, compressed.
    assert abs(seen["inside"] - 140) < 20
    assert abs(seen["outside"] - 100) < 20
    picture = imread(screenshot)[..., :3]
    red, _, blue = np.moveaxis(picture, 2, 0)
    # Gray matter reddish, and the cord around it bluish.
    assert np.count_nonzero(red > blue + 0.15) > 500
    assert np.count_nonzero(blue > red + 0.15) > 500


def test_marks_are_kept_after_the_browser_was_closed(study, tmp_path):
    def browser(script):
        return act(study, tmp_path, script, profile=tmp_path / "profile")

    browser('press("2"); say("done", true);')
    assert browser('say("marks", marksShown());')["marks"] == ["fail", "", "", ""]
