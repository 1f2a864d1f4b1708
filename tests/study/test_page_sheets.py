"""Slices on a sheet: where image, outlines and labels lie, and which slices are chosen."""

import base64
import io
import re

import nibabel as nib
import numpy as np
import PIL.Image
import pytest
from small_study import AFFINE, cord_and_gray_matter, save

pytest.importorskip("yaml", reason="needs the extra 'study'")
pytest.importorskip("jinja2", reason="needs the extra 'study'")
pytest.importorskip("skimage", reason="needs the extra 'study'")

from keras_scgm import InputError
from keras_scgm.study.page import sheets
from keras_scgm.study.page.sheets import sheet_of


def pixels(data_url):
    return np.asarray(PIL.Image.open(io.BytesIO(base64.b64decode(data_url.split(",")[1]))).convert("L"))


def vertices(path):
    """Vertices of the outlines of an SVG path of relative moves, in its unit."""
    found = []
    for x, y, moves in re.findall(r"M(-?\d+) (-?\d+)l([-\d ]*)z", path):
        steps = np.array(re.findall(r"-?\d+", moves), int).reshape(-1, 2)
        found.append(np.cumsum([[int(x), int(y)], *steps], axis=0))
    return found


@pytest.fixture
def files(tmp_path):
    cord, gray = cord_and_gray_matter()
    image = (200 - 100 * cord + 40 * gray).astype(np.float32)

    def write(order=((0, 1), (1, 1), (2, 1)), image=image, gray=gray, cord=cord):
        masks = {"gm": tmp_path / "gm.nii.gz", "cord": tmp_path / "cord.nii.gz"}
        for path, voxels in (
            (tmp_path / "image.nii.gz", image),
            *zip(masks.values(), (gray, cord), strict=True),
        ):
            stored = nib.Nifti1Image(voxels.astype(np.float32), AFFINE).as_reoriented(np.array(order))
            nib.save(stored, path)
        return tmp_path / "image.nii.gz", masks

    return write


def test_outlines_lie_on_the_image(files):
    sheet = sheet_of(*files(), verdicts={})
    assert [tile.slice for tile in sheet.tiles] == [0, 1, 2, 3]
    assert sheet.width == 20
    gray = pixels(sheet.data["sheet"])
    for tile in sheet.tiles:
        for tissue, size_mm in (("gm", (6, 4)), ("cord", (12, 8))):
            (outline,) = vertices(tile.paths[tissue])
            mm = outline * sheet.scale
            np.testing.assert_allclose(np.ptp(mm, axis=0), size_mm)
            # In the middle of the tile, as the cord is.
            middle = (mm.min(axis=0) + mm.max(axis=0)) / 2
            np.testing.assert_allclose(middle, (tile.left + 10, tile.top + 10))
        # Half a voxel inside the outline of the gray matter it is brighter than half a voxel outside.
        per_mm = gray.shape[1] / sheet.size[0]
        outline = vertices(tile.paths["gm"])[0] * sheet.scale
        left, top = outline.min(axis=0) + np.array((tile.x, tile.y))
        row = int((top + 2) * per_mm)
        assert gray[row, int((left + 0.25) * per_mm)] > gray[row, int((left - 0.25) * per_mm)] + 30


@pytest.mark.parametrize(
    "order", [((0, 1), (1, 1), (2, 1)), ((0, -1), (1, 1), (2, -1)), ((2, 1), (0, -1), (1, 1))]
)
def test_labels_lie_where_the_masks_are_in_the_world(files, order):
    image, masks = files(order)
    data = sheet_of(image, masks, verdicts={}).data
    labels, (width, height) = pixels(data["labels"]), data["shape"]
    stored = nib.load(masks["gm"])
    wanted = nib.affines.apply_affine(stored.affine, np.argwhere(np.asarray(stored.dataobj) > 0))
    found = []
    for place, k in enumerate(data["slices"]):
        row, column = divmod(place, data["columns"])
        part = labels[row * height : (row + 1) * height, column * width : (column + 1) * width]
        found += [(x, height - 1 - y, k) for y, x in np.argwhere(part == sheets.GRAY_MATTER)]
    affine = np.array([*data["affine"], [0, 0, 0, 1]])
    found = nib.affines.apply_affine(affine, found)
    np.testing.assert_allclose(found[np.lexsort(found.T)], wanted[np.lexsort(wanted.T)], atol=1e-5)
    assert np.count_nonzero(labels == sheets.CORD) == 4 * (24 * 16 - 12 * 8)


def test_intensities_come_back(files):
    cord, _ = cord_and_gray_matter()
    rng = np.random.default_rng(3)
    noisy = (100 + 10 * rng.standard_normal(cord.shape) + 60 * ~cord).astype(np.float32)
    image, masks = files(image=noisy)
    sheet = sheet_of(image, masks, verdicts={})
    gray, (width, height) = pixels(sheet.data["sheet"]).astype(float), sheet.data["shape"]
    low = np.rint(np.array(sheet.data["affine"])[:2, 3] / AFFINE.diagonal()[:2]).astype(int)
    errors = []
    for place, (dark, bright) in enumerate(sheet.data["ranges"]):
        row, column = divmod(place, sheet.data["columns"])
        part = gray[row * height : (row + 1) * height, column * width : (column + 1) * width][::-1].T
        shown = noisy[low[0] : low[0] + width, low[1] : low[1] + height, place]
        errors.append(np.abs(part - 255 * np.clip((shown - dark) / (bright - dark), 0, 1)).mean())
    assert np.mean(errors) < 0.015 * 255


def test_a_cord_at_the_edge_has_black_beyond_it(files):
    cord, gray = (np.roll(mask, -28, axis=0) for mask in cord_and_gray_matter())
    sheet = sheet_of(*files(image=np.full(cord.shape, 50, np.float32), gray=gray, cord=cord), verdicts={})
    (outline,) = vertices(sheet.tiles[0].paths["cord"])
    np.testing.assert_allclose((outline * sheet.scale).min(axis=0)[0] - sheet.tiles[0].left, 10 - 6)
    assert len(sheet.tiles) == 4


def test_slices_between_are_shown_and_those_beyond_only_if_they_do_not_pass(files):
    cord, gray = cord_and_gray_matter((80, 72, 9))
    cord[..., :2] = cord[..., 7:] = gray[..., :4] = gray[..., 5] = False
    gray &= cord
    image = np.ones(cord.shape, np.float32)
    sheet = sheet_of(*files(order=((0, 1), (1, 1), (2, -1)), image=image, gray=gray, cord=cord), verdicts={})
    # The file counts from above.
    assert [tile.slice for tile in sheet.tiles] == [6, 5, 4, 3, 2]
    assert sheet.data["slices"] == [2, 3, 4, 5, 6]
    assert sheet.data["n_slices"] == 9
    assert [bool(tile.paths["gm"]) for tile in sheet.tiles] == [False, False, True, False, True]
    sheet = sheet_of(*files(image=image, gray=gray, cord=cord), verdicts={0: "pass", 1: "fail", 8: "review"})
    assert [tile.slice for tile in sheet.tiles] == [1, 2, 3, 4, 5, 6, 8]


def test_without_masks_the_whole_field_is_shown(files):
    empty = np.zeros((80, 72, 4), bool)
    sheet = sheet_of(*files(gray=empty, cord=empty), verdicts={})
    assert sheet.width == 40
    assert len(sheet.tiles) == 4
    assert sheet.tiles[0].paths == {"cord": "", "gm": ""}


def test_the_worst_slices_of_a_long_volume(files, monkeypatch):
    monkeypatch.setattr("keras_scgm.picture.mosaic.MAX_SLICES", 3)
    sheet = sheet_of(*files(), verdicts={0: "pass", 1: "review", 2: "pass", 3: "fail"})
    assert [tile.slice for tile in sheet.tiles] == [0, 1, 3]
    assert sheet.n_left_out == 1


def test_large_slices_are_thinned_out(files, monkeypatch):
    whole = sheet_of(*files(), verdicts={})
    monkeypatch.setattr(sheets, "MAX_PIXELS", 4 * 40 * 40)
    thin = sheet_of(*files(), verdicts={})
    assert thin.data["shape"] == [-(-n // 2) for n in whole.data["shape"]]
    assert thin.width == whole.width
    np.testing.assert_allclose(
        np.array(thin.data["affine"])[:2, :2], 2 * np.array(whole.data["affine"])[:2, :2]
    )


def test_a_mask_on_another_grid_is_refused(files, tmp_path):
    image, masks = files()
    save(masks["gm"], np.zeros((80, 72, 3), np.uint8))
    with pytest.raises(InputError, match=r"not on the grid of .*80 x 72 x 3 voxels, not 80 x 72 x 4"):
        sheet_of(image, masks, verdicts={})
