"""The picture to check a result by: which slices it holds, what stands above them, and what is drawn on them."""

import math
import re
from dataclasses import replace
from itertools import combinations
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
from pictured_bar import TILE, VOXEL_MM, bar, pixels_of
from PIL import Image, ImageColor, ImageDraw
from scipy.ndimage import label

from keras_scgm import segment
from keras_scgm.morphometry import SliceArea
from keras_scgm.outputs import OutputPaths, write_outputs
from keras_scgm.picture import CONTOUR, CORD_CONTOUR, draw_section, save_mosaic
from keras_scgm.picture.head import MAX_SLICES, VERDICT_COLOURS
from keras_scgm.segmentation import Segmentation
from keras_scgm.training import samples
from keras_scgm.views import fitting_half_width_mm
from keras_scgm.volume import Volume


@pytest.fixture
def texts(monkeypatch):
    """Every text of a picture with its colour, in the order of drawing."""
    written = []
    draw = ImageDraw.ImageDraw.text

    def text(pen, xy, text, fill=None, *arguments, **options):
        written.append((text, fill))
        return draw(pen, xy, text, fill, *arguments, **options)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    return written


def titles(texts):
    """Numbers of the slices above the tiles."""
    return [int(match[1]) for text, _ in texts if (match := re.match(r"slice (\d+)  ", text))]


def said(texts):
    return " ".join(text for text, _ in texts)


REASONS = {"pass": "", "review": "the outline is uncertain", "fail": "unlike its neighbours"}


def judged(mask, verdicts=None, flipped=False, verdict="pass", predicted_dsc=0.9, **changes):
    """A result with this mask, (right-left, posterior-anterior, slice) in the order of the file."""
    n_slices = mask.shape[2]
    affine = np.diag([-VOXEL_MM, VOXEL_MM, -4.0 if flipped else 4.0, 1.0])
    image = (100 + 50 * mask + np.linspace(0, 10, mask.shape[0])[:, None, None]).astype(np.float32)
    header = nib.Nifti1Image(image, affine).header
    volume = Volume(image, affine, header, image.shape, 1.0, 0.0, "folder/cord.nii.gz")
    slices = [
        SimpleNamespace(
            predicted_dsc=0.9 if mask[..., volume.stored_slice_index(k)].any() else math.nan,
            verdict=one,
            reason=REASONS[one],
        )
        for k, one in enumerate(verdicts or ["pass"] * n_slices)
    ]
    areas = []
    for number in range(n_slices):
        n = int(mask[..., number].sum())
        areas.append(SliceArea(number, 4.0 * number, n * VOXEL_MM**2, n * VOXEL_MM**2, n, 0.9, ""))
    result = Segmentation(
        volume=volume,
        mask_voxels=mask.astype(np.uint8),
        cord_voxels=None,
        probability_voxels=None,
        cord_probability_voxels=None,
        uncertainty_voxels=None,
        areas=tuple(areas),
        quality=SimpleNamespace(predicted_dsc=predicted_dsc, verdict=verdict, slices=tuple(slices)),
        warnings=(),
        record={"weights": [{"name": "some"}], "gray_matter_volume_mm3": 1.0},
    )
    return replace(result, **changes)


def test_every_slice_with_gray_matter_is_there(tmp_path, texts):
    save_mosaic(judged(bar(45)), tmp_path / "a.png")
    assert titles(texts) == list(range(45))
    assert "45 of 45 slices have gray matter" in said(texts)
    save_mosaic(judged(bar(45)), tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_slices_between_are_there_and_those_at_the_ends_are_named(tmp_path, texts):
    save_mosaic(judged(bar(12, empty=(0, 1, 5, 9, 10, 11))), tmp_path / "a.png")
    assert titles(texts) == [2, 3, 4, 5, 6, 7, 8]
    assert "6 of 12 slices have gray matter; 1 between them have none (slice 5)" in said(texts)
    assert "5 at the ends have none and are not shown (slices 0-1, 9-11)" in said(texts)


def test_numbers_are_those_of_the_file(tmp_path, texts):
    verdicts = ["fail", "pass", "pass", "pass"]
    save_mosaic(judged(bar(4), verdicts, flipped=True), tmp_path / "a.png")
    assert titles(texts) == [3, 2, 1, 0]
    assert "fail, unlike its neighbours: slice 3" in said(texts)


def test_an_empty_mask_shows_the_whole_field(tmp_path, texts):
    mask = bar(6, empty=range(6))
    save_mosaic(judged(mask, ["fail"] * 6), tmp_path / "a.png")
    assert titles(texts) == list(range(6))
    assert "none of 6 slices has gray matter" in said(texts)
    # The left half of the field is darker than the right one.
    picture = np.asarray(Image.open(tmp_path / "a.png").convert("L"), int)[-TILE:, 20 : TILE - 20]
    assert picture[TILE // 2, 0] < picture[TILE // 2, -1]


def test_captions_and_frames_say_the_verdict(tmp_path, texts):
    result = judged(bar(3), ["pass", "review", "fail"])
    save_mosaic(result, tmp_path / "a.png")
    for verdict in ("pass", "review", "fail"):
        assert (f"{verdict}, predicted DSC 0.90", VERDICT_COLOURS[verdict]) in texts
    assert texts.count(("the outline is uncertain", VERDICT_COLOURS["review"])) == 1
    picture = np.asarray(Image.open(tmp_path / "a.png"))
    columns = {
        verdict: np.flatnonzero(pixels_of(picture[-TILE - 12 :], colour).sum(axis=0) > TILE / 2)
        for verdict, colour in VERDICT_COLOURS.items()
    }
    assert not columns["pass"].size
    assert 316 <= columns["review"].min() < columns["review"].max() < 632 <= columns["fail"].min()


def test_the_head_says_what_is_known_of_the_volume(tmp_path, texts):
    verdicts = ["review"] * 2 + ["pass"] * 27 + ["fail"]
    warnings = ("first thing", "second thing")
    result = judged(bar(30), verdicts, verdict="review", predicted_dsc=0.54, warnings=warnings)
    save_mosaic(result, tmp_path / "a.png")
    assert texts[0][0] == "cord.nii.gz"
    assert texts[1] == ("review, predicted DSC 0.54", VERDICT_COLOURS["review"])
    assert [text for text, _ in texts if text.startswith("warning: ")] == [
        "warning: first thing",
        "warning: second thing",
    ]
    assert ("fail, unlike its neighbours: slice 29", VERDICT_COLOURS["fail"]) in texts
    assert ("review, the outline is uncertain: slices 0-1", VERDICT_COLOURS["review"]) in texts


def test_long_volumes_keep_the_worst_and_say_what_is_left_out(tmp_path, texts):
    n_slices = 4676
    verdicts = ["pass"] * n_slices
    for k in range(100, 150):
        verdicts[k] = "fail"
    for k in range(7, n_slices, 20):
        verdicts[k] = "review"
    save_mosaic(judged(bar(n_slices, shape=(64, 60)), verdicts), tmp_path / "a.png")
    shown = titles(texts)
    assert len(shown) == len(set(shown)) == MAX_SLICES
    failed = {k for k, verdict in enumerate(verdicts) if verdict == "fail"}
    assert failed < set(shown)
    others = sorted(set(shown) - failed)
    assert all(verdicts[k] == "review" for k in others)
    assert others[-1] - others[0] > 0.95 * n_slices
    left_out = re.search(r"4476 of these slices are left out .*?\((.*?)\): slices ([\d, -]+)", said(texts))
    n_review = verdicts.count("review") - len(others)
    assert left_out[1] == f"{n_review} review, {verdicts.count('pass')} pass"
    missing = set()
    for first, last in re.findall(r"(\d+)(?:-(\d+))?", left_out[2]):
        missing |= set(range(int(first), int(last or first) + 1))
    assert missing == set(range(n_slices)) - set(shown)
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width * picture.height < 15e6


def test_the_crop_holds_all_of_the_mask_in_one_scale(tmp_path):
    mask = bar(2, shape=(220, 200))
    # Its centre is 30 mm from that of the rest, and 28 mm from that of both together.
    mask[108:112, 60:64, 1] = True
    save_mosaic(judged(mask), tmp_path / "a.png")
    outlined = pixels_of(Image.open(tmp_path / "a.png"), CONTOUR)[-TILE - 12 :]
    extents = []
    for left, n_pieces in ((0, 1), (316, 2)):
        pieces, n = label(outlined[:, left : left + 316], np.ones((3, 3)))
        assert n == n_pieces
        largest = pieces == 1 + np.argmax(np.bincount(pieces.ravel())[1:])
        extents.append(np.ptp(np.argwhere(largest), axis=0))
    np.testing.assert_allclose(extents[0], extents[1], atol=1)
    width_mm = 10 * TILE / extents[0][1]
    assert 2 * 28 < width_mm < 2 * 32


def test_half_width_reaches_the_farthest_voxel():
    points = np.array([[0, 0], [10, 0]])
    assert fitting_half_width_mm([points], (1.0, 1.0), 16.0) == 16.0
    assert fitting_half_width_mm([points, 10 * points], (1.0, 1.0), 16.0) == pytest.approx(50 + 0.5 + 1)


def test_what_was_asked_for_is_a_tint_beside(tmp_path, texts, blob_image, bright_network):
    result = segment(blob_image(), bright_network, uncertainty_passes=2)
    write_outputs(result, OutputPaths(tmp_path / "m.nii.gz"), soft=True)
    assert "second panel of each slice: probability, from 0 (clear) to 1" in said(texts)
    assert "third panel of each slice: uncertainty (standard deviation" in said(texts)
    assert "of the probability), from 0 (clear) to 0.25 or more" in said(texts)
    soft = np.asarray(Image.open(tmp_path / "m_qc.png"))
    # The contour would hide the uncertainty, which lies on it.
    contours = [
        pixels_of(soft[-TILE - 12 : -12, left : left + TILE], CONTOUR).any()
        for left in (6, 9 + TILE, 12 + 2 * TILE)
    ]
    assert contours == [True, True, False]
    texts.clear()
    hard = replace(result, uncertainty_voxels=None)
    save_mosaic(hard, tmp_path / "hard.png")
    assert "panel" not in said(texts)
    assert soft.shape[1] > np.asarray(Image.open(tmp_path / "hard.png")).shape[1]


def test_training_samples_hold_the_masks_of_network_and_rater(monkeypatch):
    found = bar(3, shape=(200, 90))
    drawn = np.roll(found, 60, axis=0)
    result = judged(found)
    annotated = SimpleNamespace(
        image=None,
        masks=(None,),
        subject_id="s",
        slices_of=lambda _: [0, 1, 2],
        read_mask=lambda *_: np.moveaxis(drawn, 2, 0),
    )
    seen = []

    def draw(image, contours, view):
        seen.append(view)
        return draw_section(image, contours, view)

    monkeypatch.setattr(samples, "draw_section", draw)
    figure = samples.draw_samples(SimpleNamespace(segment=lambda _: result), [annotated])
    # Three slices, each once, in five places.
    assert len(seen) == 3
    assert [axes.get_title() for axes in figure.axes] == ["s, slice 0", "slice 1", "slice 2", "", ""]
    assert not any(axes.axison for axes in figure.axes)
    # 80 voxels from one end to the other.
    assert {view.half_width_mm for view in seen} == {80 * VOXEL_MM / 2 + 1}
    assert all(view.center == pytest.approx((79.5, 44.5)) for view in seen)


def cielab(rgb):
    """Of linear sRGB, D65."""
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ rgb
    f = np.cbrt(xyz / (0.9505, 1.0, 1.089))
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


# Machado, Oliveira and Fernandes 2009, severity 1.
SEEN_AS = {
    "normal": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


@pytest.mark.parametrize("vision", SEEN_AS)
@pytest.mark.parametrize("colours", [VERDICT_COLOURS.values(), (CONTOUR, CORD_CONTOUR)])
def test_colours_look_different_to_everyone(vision, colours):
    linear = [np.array(ImageColor.getrgb(colour)) / 255 for colour in colours]
    linear = [np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) for c in linear]
    seen = [cielab(np.clip(np.array(SEEN_AS[vision]) @ colour, 0, 1)) for colour in linear]
    distances = [np.linalg.norm(one - other) for one, other in combinations(seen, 2)]
    assert min(distances) > 30


def in_cord(mask, cord, **changes):
    """A result with a cord around the gray matter."""
    result = judged(mask, cord_voxels=cord.astype(np.uint8), **changes)
    areas = []
    for area in result.areas:
        cord_mm2 = float(cord[..., area.slice].sum()) * VOXEL_MM**2
        ratio = area.area_mm2 / cord_mm2 if cord_mm2 else math.nan
        areas.append(
            replace(area, cord_area_mm2=cord_mm2, wm_area_mm2=cord_mm2 - area.area_mm2, gm_cord_ratio=ratio)
        )
    return replace(result, areas=tuple(areas))


def thick(n_slices, empty=(), shape=(100, 90)):
    """A cord with 30 x 24 voxels, whose middle is 2 voxels behind that of `bar`."""
    cord = np.zeros((*shape, n_slices), bool)
    cord[35:65, 31:55] = True
    cord[..., list(empty)] = False
    return cord


def test_the_cord_is_outlined_around_the_gray_matter(tmp_path, texts):
    save_mosaic(in_cord(bar(2), thick(2)), tmp_path / "a.png")
    tile = np.asarray(Image.open(tmp_path / "a.png"))[-TILE - 12 : -12, 6 : TILE + 6]
    scale = TILE / 32
    for colour, size_mm, middle_mm in ((CONTOUR, (10, 5), -1.0), (CORD_CONTOUR, (15, 12), 0.0)):
        rows, columns = np.nonzero(pixels_of(tile, colour))
        extent = np.array((np.ptp(columns), np.ptp(rows)))
        np.testing.assert_allclose(extent, np.array(size_mm) * scale, atol=4)
        # The tile is centred on the cord; anterior is up.
        assert (rows.min() + rows.max()) / 2 == pytest.approx(TILE / 2 + middle_mm * scale, abs=2)
    assert ("outline of the gray matter, mean area 50.0 mm²", CONTOUR) in texts
    assert (
        "outline of the cord, mean area 180.0 mm², gray matter / cord 0.28 (slices with both)",
        CORD_CONTOUR,
    ) in texts
    assert ("slice 0  50.0 of 180.0 mm²", "white") in texts


def test_slices_with_the_cord_alone_are_there(tmp_path, texts):
    mask, cord = bar(9, empty=(0, 1, 2, 5, 7, 8)), thick(9, empty=(0, 8))
    save_mosaic(in_cord(mask, cord), tmp_path / "a.png")
    assert titles(texts) == list(range(1, 8))
    assert (
        "3 of 9 slices have gray matter, 7 the cord; 1 between them have none (slice 5); "
        "3 at the ends have the cord alone (slices 1-2, 7); 2 at the ends have none and are not shown (slices 0, 8)"
    ) in said(texts)
    texts.clear()
    save_mosaic(in_cord(0 * mask, cord), tmp_path / "b.png")
    assert titles(texts) == list(range(1, 8))
    assert "none of 9 slices has gray matter, 7 the cord" in said(texts)
    assert ("outline of the cord", CORD_CONTOUR) in texts


def test_without_a_cord_nothing_is_said_of_it(tmp_path, texts):
    save_mosaic(judged(bar(3)), tmp_path / "a.png")
    assert "cord" not in said(texts).replace("cord.nii.gz", "")
    assert not pixels_of(Image.open(tmp_path / "a.png"), CORD_CONTOUR)[-TILE - 12 :].any()
