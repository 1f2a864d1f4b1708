"""Quality pages: their rows, how many pages there are, and that they need no network."""

import re
from html.parser import HTMLParser

import pytest
from small_study import write_study

pytest.importorskip("yaml", reason="needs the extra 'study'")
pytest.importorskip("jinja2", reason="needs the extra 'study'")
pytest.importorskip("skimage", reason="needs the extra 'study'")

from keras_scgm import InputError
from keras_scgm.study.page import write_pages, writing

BROKEN = {"image": "sub-x/anat/<x> & y.nii.gz", "region": "all", "status": "failed", "error": "no slices"}


class Elements(HTMLParser):
    """Attributes of the rows, links, captions and problems of a page."""

    def __init__(self, path):
        super().__init__()
        self.rows, self.links, self.texts, self.tag, self.n_paths = [], [], [], "", 0
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tag = tag
        if tag == "section":
            self.rows.append(attributes)
        self.n_paths += tag == "path"
        self.links += [attributes[name] for name in ("src", "href") if name in attributes]

    def handle_data(self, data):
        if self.tag not in ("script", "style") and data.strip():
            self.texts.append(data.strip())


def test_one_page(tmp_path):
    images = [("a", "pass", 0.91), ("b", "fail", 0.41), ("c", "review", 0.7)]
    bids, out = write_study(tmp_path, images, failed=[BROKEN])
    assert write_pages(bids, out) == [out / "quality.html"]
    page = Elements(out / "quality.html")
    names = [row["data-image"] for row in page.rows]
    assert names == [BROKEN["image"], *(f"sub-{n}/anat/sub-{n}_T2starw.nii.gz" for n in "bca")]
    assert [row["data-verdict"] for row in page.rows] == ["failed", "fail", "review", "pass"]
    assert page.rows[0]["data-mask"] == ""
    assert all(re.fullmatch("[0-9a-f]{12}", row["data-mask"]) for row in page.rows[1:])
    # Gray matter and cord in 4 slices of 3 images.
    assert page.n_paths == 2 * 4 * 3
    assert page.texts.count("R") == 4 * 3
    assert "slice 2, level 4, 24.0 of 96.0 mm², DSC 0.41" in page.texts
    assert page.texts.count("fail: the outline is uncertain") == 4
    assert page.texts.count("fail, the outline is uncertain: slices 0-3") == 1
    assert "no slices" in page.texts
    assert {"gray matter 24.0 mm²", "cord 96.0 mm²", "predicted DSC 0.70"} <= set(page.texts)
    assert all(link.startswith(("data:", "#")) for link in page.links)
    assert "NiiVue: Copyright (c) 2021, Niivue" in (out / "quality.html").read_text(encoding="utf-8")
    assert (out / "quality.html").stat().st_size < 1.5e6


def test_what_cannot_be_shown_is_said(tmp_path):
    images = [("a", "pass", 0.9, {}), ("b", "pass", 0.8, {})]
    bids, out = write_study(tmp_path, [image[:3] for image in images])
    (bids / "sub-a" / "anat" / "sub-a_T2starw.nii.gz").unlink()
    (out / "sub-b" / "anat" / "sub-b_T2starw_label-SC_mask.nii.gz").unlink()
    write_pages(bids, out)
    page = Elements(out / "quality.html")
    assert any(re.match(r"cannot be shown: .*sub-a_T2starw\.nii\.gz", text) for text in page.texts)
    assert len(page.rows) == 2
    # Without a file of the cord, gray matter alone.
    assert page.n_paths == 4


def test_masks_named_as_in_the_spinal_cord_toolbox(tmp_path):
    gray_matter, cord = tmp_path / "seg" / "a_gmseg.nii.gz", tmp_path / "seg" / "a_seg.nii.gz"
    cord.parent.mkdir()
    cord.touch()
    assert writing._masks(gray_matter) == {"gm": gray_matter, "cord": cord}


def test_several_pages_replace_one_and_back(tmp_path, monkeypatch):
    bids, out = write_study(tmp_path, [(name, "pass", 0.9) for name in "abcde"])
    (single,) = write_pages(bids, out)
    monkeypatch.setattr(writing, "MAX_IMAGES", 2)
    pages = write_pages(bids, out)
    assert pages == [out / "quality" / f"quality-0{n}.html" for n in (1, 2, 3)]
    assert not single.exists()
    shown = [Elements(page) for page in pages]
    assert [len(page.rows) for page in shown] == [2, 2, 1]
    names = [path.name for path in pages]
    assert [link for link in shown[1].links if not link.startswith(("data:", "#"))] == names
    studies = {re.search('data-study="(.*?)"', page.read_text(encoding="utf-8"))[1] for page in pages}
    assert len(studies) == 1
    monkeypatch.setattr(writing, "MAX_IMAGES", 3)
    assert [page.name for page in write_pages(bids, out)] == ["quality-01.html", "quality-02.html"]
    assert [page.name for page in sorted((out / "quality").iterdir())] == [
        "quality-01.html",
        "quality-02.html",
    ]
    monkeypatch.setattr(writing, "MAX_IMAGES", 200)
    assert write_pages(bids, out) == [single]
    assert not list((out / "quality").glob("*"))


def test_a_study_keeps_its_marks_where_its_folder_moves_and_another_has_its_own(tmp_path):
    def identifier(bids, out):
        return re.search('data-study="(.*?)"', write_pages(bids, out)[0].read_text(encoding="utf-8"))[1]

    bids, out = write_study(tmp_path / "one", [("a", "pass", 0.9)])
    first = identifier(bids, out)
    moved = out.rename(tmp_path / "one" / "moved")
    assert identifier(bids, moved) == first
    (moved / "dataset_description.json").unlink()
    assert identifier(bids, moved.rename(out)) != first


def test_pages_are_cut_by_their_size(tmp_path, monkeypatch):
    bids, out = write_study(tmp_path, [(name, "pass", 0.9) for name in "abcd"])
    (single,) = write_pages(bids, out)
    whole = single.stat().st_size
    monkeypatch.setattr(writing, "MAX_BYTES", whole - 100)
    pages = write_pages(bids, out)
    assert [len(Elements(page).rows) for page in pages] == [3, 1]
    assert all(page.stat().st_size < whole for page in pages)


def test_groups():
    assert list(writing._groups(10, [5] * 201)) == [range(200), range(200, 201)]
    half = (writing.MAX_BYTES - 10) // 2
    assert list(writing._groups(10, [half, half, half, 3 * half, 1])) == [
        range(2),
        range(2, 3),
        range(3, 4),
        range(4, 5),
    ]


def test_no_images_and_no_table(tmp_path):
    with pytest.raises(InputError, match="no such table"):
        write_pages(tmp_path, tmp_path)
    (tmp_path / "summary.tsv").write_text("image\tregion\n")
    with pytest.raises(InputError, match="the tables hold no image"):
        write_pages(tmp_path, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["summary.tsv"]
