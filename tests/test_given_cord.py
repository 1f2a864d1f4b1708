"""Which cord counts: the network's own, that of the default weights, none, or a mask."""

import json

import keras
import nibabel as nib
import numpy as np
import pytest
from tissues import check_tissues, voxels

from keras_scgm import InputError, SegmentationConfig, Segmenter, messages, segment
from keras_scgm.cohort import OutputConfig, SegmentationJob, do_job
from keras_scgm.nifti import volume_from_image
from keras_scgm.outputs import OutputPaths
from keras_scgm.prediction import Ensemble
from keras_scgm.segmentation.given_cord import GivenCord
from keras_scgm.slices import SliceConfig, SliceGeometry


@pytest.fixture
def discs(nested_discs):
    return nested_discs()


@pytest.fixture
def gray_network(cord_network):
    """The gray matter of `cord_network` alone."""
    slices = keras.Input((None, None, 1), name="slices")
    found = keras.layers.Conv2D(1, 1, activation="sigmoid", name="predictions")(slices)
    model = keras.Model(slices, found, name="gray")
    model.set_weights([weights[..., :1] for weights in cord_network.get_weights()])
    return model


@pytest.fixture
def saved(tmp_path, discs):
    """Writes a mask on the grid of the discs, by default that of the cord."""

    def save(mask=None, name="mask.nii.gz", affine=None):
        mask = discs[2] if mask is None else mask
        image = nib.Nifti1Image(mask.astype(np.uint8), discs[0].affine if affine is None else affine)
        image.to_filename(tmp_path / name)
        return tmp_path / name

    return save


def shifted(mask, rows):
    return np.roll(mask, rows, axis=0)


def test_none_leaves_the_cord_of_the_network_out(discs, cord_network):
    result = segment(discs[0], cord_network, cord="none")
    assert result.cord_voxels is None
    assert result.record["tissues"] == ["gray_matter"]
    assert result.record["cord_threshold"] is None
    np.testing.assert_array_equal(voxels(result.mask) > 0, discs[1])


def test_the_default_weights_lend_their_cord(discs, cord_network, gray_network, tmp_path, monkeypatch):
    path = tmp_path / "default.keras"
    cord_network.save(path)
    monkeypatch.setattr("keras_scgm.prediction.DEFAULT_WEIGHTS", path)
    for weights in (
        gray_network,
        [gray_network, cord_network.__class__.from_config(gray_network.get_config())],
    ):
        if isinstance(weights, list):
            weights[1].set_weights(gray_network.get_weights())
        result = segment(discs[0], weights, cord="ours", mirror=True)
        np.testing.assert_array_equal(voxels(result.mask) > 0, discs[1])
        np.testing.assert_array_equal(voxels(result.cord) > 0, discs[2])
        assert result.record["cord_weights"]["name"] == "default"
        check_tissues(result)
    passes = segment(discs[0], gray_network, cord="ours", uncertainty_passes=2)
    assert passes.uncertainty_voxels.max() < 0.71


def test_gray_matter_lies_in_the_cord_of_the_default_weights(discs, cord_network, tmp_path, monkeypatch):
    """A network that takes the whole cord for gray matter gets no more than the cord."""
    image, _, cord = discs
    wide = keras.models.clone_model(cord_network)
    wide.set_weights([np.full((1, 1, 1, 2), 20.0), np.array([0.0, -40.0])])
    path = tmp_path / "default.keras"
    cord_network.save(path)
    monkeypatch.setattr("keras_scgm.prediction.DEFAULT_WEIGHTS", path)
    result = segment(image, wide, cord="ours")
    np.testing.assert_array_equal(voxels(result.mask) > 0, cord)
    assert not voxels(result.white_matter).any()
    check_tissues(result)


def test_default_weights_that_do_not_fit(gray_network, monkeypatch, tmp_path):
    path = tmp_path / "default.keras"
    gray_network.save(path)
    monkeypatch.setattr("keras_scgm.prediction.DEFAULT_WEIGHTS", path)
    with pytest.raises(InputError, match="the default weights, default, do not segment the cord"):
        Ensemble(gray_network, cord="ours")


def test_a_mask_is_the_cord(discs, gray_network, cord_network, saved):
    image, gray, cord = discs
    for weights in (gray_network, cord_network):
        result = segment(image, weights, cord=saved(shifted(cord, 10)))
        np.testing.assert_array_equal(voxels(result.cord) > 0, shifted(cord, 10))
        np.testing.assert_array_equal(voxels(result.mask) > 0, gray & shifted(cord, 10))
        np.testing.assert_array_equal(voxels(result.white_matter) > 0, shifted(cord, 10) & ~gray)
        np.testing.assert_array_equal(voxels(result.cord_probabilities), shifted(cord, 10).astype(np.float32))
        check_tissues(result)
    for settings in ({"window": "center"}, {"window": (40.0, 35.0)}, {"binarize": "paper", "threshold": 0.5}):
        other = segment(image, gray_network, cord=saved(), **settings)
        np.testing.assert_array_equal(voxels(other.cord) > 0, cord)
        check_tissues(other)
        assert voxels(other.mask).any()


def test_uncertainty_is_that_of_the_gray_matter_in_the_mask(discs, gray_network, saved):
    image, gray, _ = discs
    edge = np.zeros(gray.shape, bool)
    rows, columns, _ = np.nonzero(gray)
    edge[rows.min(), int(columns.mean())] = True
    result = segment(image, gray_network, cord=saved(edge), uncertainty_passes=4)
    std = voxels(result.uncertainty)
    assert not std[~edge].any()
    # The only voxel of a slice is its area.
    area_sd_mm2 = [row.area_sd_mm2 for row in result.areas]
    np.testing.assert_allclose(area_sd_mm2, std[edge] * result.volume.voxel_area_mm2, rtol=1e-6)
    assert min(area_sd_mm2) > 0


def test_a_mask_in_another_order_of_storage_is_the_same(discs, gray_network, saved, tmp_path):
    image, _, _ = discs
    expected = segment(image, gray_network, cord=saved())
    turned = nib.load(saved()).as_reoriented(np.array([[1, -1], [2, 1], [0, -1]]))
    turned.to_filename(tmp_path / "turned.nii")
    result = segment(image, gray_network, cord=tmp_path / "turned.nii")
    for name in ("mask", "cord"):
        np.testing.assert_array_equal(voxels(getattr(result, name)), voxels(getattr(expected, name)))


def test_a_mask_places_the_windows(nested_discs, gray_network, tmp_path):
    image, gray, cord = nested_discs(center_mm=(22.0, 35.0))
    nib.Nifti1Image(cord.astype(np.uint8), image.affine).to_filename(tmp_path / "cord.nii")
    result = segment(image, gray_network, cord=tmp_path / "cord.nii")
    assert result.record["window_moved"]
    np.testing.assert_array_equal(voxels(result.mask) > 0, gray)


def test_gray_matter_outside_the_mask_is_counted(discs, gray_network, saved):
    image, gray, _ = discs
    data = voxels(image).copy()
    x, y = np.indices(data.shape[:2]) * 0.5
    island = np.hypot(x - 58, y - 35) < 3
    data[island] = data.max()
    result = segment(nib.Nifti1Image(data, image.affine), gray_network, cord=saved())
    np.testing.assert_array_equal(voxels(result.mask) > 0, gray)
    assert result.record["removed_away_from_cord_mm3"] == pytest.approx(np.pi * 9 * 4 * 5, rel=0.2)


def test_slices_without_cord_have_no_gray_matter(discs, gray_network, saved):
    image, gray, cord = discs
    partial = cord.copy()
    partial[..., 3:] = False
    result = segment(image, gray_network, cord=saved(partial))
    np.testing.assert_array_equal(voxels(result.mask) > 0, gray & partial)
    assert [np.isnan(row.gm_cord_ratio) for row in result.areas] == [False] * 3 + [True] * 2
    assert messages.REMOVED_WITHOUT_CORD.format("slices 3, 4") in result.warnings
    constant = nib.Nifti1Image(np.ones(gray.shape, np.float32), image.affine)
    of_constant = segment(constant, gray_network, cord=saved())
    np.testing.assert_array_equal(voxels(of_constant.cord) > 0, cord)
    assert not voxels(of_constant.mask).any()


@pytest.mark.parametrize(
    ("change", "doubt"),
    [
        (lambda gray, cord: cord, ""),
        (lambda gray, cord: np.ones_like(cord), "a cord of 5600.0 mm2, "),
        (lambda gray, cord: gray, "gray matter takes 100.0 % of the cord"),
        (lambda gray, cord: shifted(cord, 8), "gray matter lies 0.6"),
    ],
)
def test_a_mask_is_held_against_anatomy(discs, gray_network, saved, change, doubt):
    image, gray, cord = discs
    result = segment(image, gray_network, cord=saved(change(gray, cord)))
    about_cord = [text for text in result.warnings if "anatomy allows" in text]
    assert any(text.startswith(doubt) for text in about_cord) if doubt else not about_cord
    assert not doubt or result.quality.verdict != "pass"


def test_doubts_about_the_header_of_the_mask_are_said(discs, gray_network, tmp_path):
    mask = nib.Nifti1Image(discs[2].astype(np.uint8), discs[0].affine)
    mask.set_qform(discs[0].affine * [-1, 1, 1, 1], code=1)
    mask.to_filename(tmp_path / "mask.nii")
    result = segment(discs[0], gray_network, cord=tmp_path / "mask.nii")
    assert any(
        text.startswith("in the given cord, qform and sform exchange left and right")
        for text in result.warnings
    )


def test_centers_are_centroids(discs, saved):
    volume = volume_from_image(discs[0])
    given = GivenCord.read(saved(), volume)
    track = given.track(SliceGeometry.centered(volume, SliceConfig()))
    np.testing.assert_allclose(track.centers * 0.25, np.tile([40.0, 35.0], (5, 1)), atol=1e-6)
    np.testing.assert_allclose(track.areas_mm2, discs[2].sum(axis=(0, 1)) * 0.25)
    np.testing.assert_array_equal(np.moveaxis(given.masks(1, 4), 0, 2), volume.axial_view(discs[2])[..., 1:4])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda cord: (cord[1:], None), r"mask.nii.gz: not on the grid of .* resample it to that grid"),
        (lambda cord: (cord, np.diag([-0.5, 0.5, 5.0, 1.0])), "mask.nii.gz: not on the grid of"),
        (lambda cord: (cord * 2, None), "mask.nii.gz: not a mask of the cord, which is 0 and 1"),
        (lambda cord: (cord * 0, None), "mask.nii.gz: holds no cord"),
    ],
)
def test_masks_that_do_not_fit_are_refused(discs, gray_network, saved, change, message):
    mask, affine = change(discs[2])
    with pytest.raises(InputError, match=message):
        segment(discs[0], gray_network, cord=saved(mask, affine=affine))


@pytest.mark.parametrize("value", [np.nan, -1.0, 1.5])
def test_one_voxel_that_is_neither_0_nor_1_is_refused(discs, tmp_path, value):
    mask = discs[2].astype(np.float32)
    mask[0, 0, 0] = value
    nib.Nifti1Image(mask, discs[0].affine).to_filename(tmp_path / "mask.nii")
    with pytest.raises(InputError, match=r"mask\.nii: not a mask of the cord, which is 0 and 1"):
        GivenCord.read(tmp_path / "mask.nii", volume_from_image(discs[0]))


@pytest.mark.parametrize("cord", ["our", "mask.png", 3, None, ""])
def test_other_choices_are_refused(cord):
    with pytest.raises(InputError, match=r"cord must be 'auto', 'ours', 'none' or the path of a \.nii"):
        SegmentationConfig(cord=cord)


def test_a_mask_that_is_missing_is_refused_before_an_image_is_read(gray_network, tmp_path):
    with pytest.raises(InputError, match=r"no\.nii: no such file; give a mask of the cord"):
        Segmenter(gray_network, SegmentationConfig(cord=tmp_path / "no.nii"))


def test_files_and_resumption(discs, gray_network, saved, tmp_path):
    image = tmp_path / "a.nii.gz"
    discs[0].to_filename(image)
    mask = saved(name="a_seg.nii.gz")
    before = mask.read_bytes()
    job, config = SegmentationJob(image, OutputPaths.for_input(image)), SegmentationConfig(cord=mask)
    done = do_job(Segmenter(gray_network, config), job, OutputConfig())
    assert done.status == "segmented"
    assert mask.read_bytes() == before
    record = json.loads(job.paths.record.read_text())
    assert "a_wmseg.nii.gz" in record["files"]
    assert "a_seg.nii.gz" not in record["files"]
    assert do_job(Segmenter(gray_network, config), job, OutputConfig(resume=True)).status == "skipped"
    saved(shifted(discs[2], 2), name="a_seg.nii.gz")
    again = do_job(Segmenter(gray_network, config), job, OutputConfig(resume=True))
    assert again.status == "failed"
    assert "was made in another way" in again.message


def test_a_cord_that_an_earlier_result_wrote_can_be_given(discs, cord_network, tmp_path):
    image = tmp_path / "a.nii.gz"
    discs[0].to_filename(image)
    job = SegmentationJob(image, OutputPaths.for_input(image))
    do_job(Segmenter(cord_network), job, OutputConfig())
    before = job.paths.cord.read_bytes()
    config = SegmentationConfig(cord=job.paths.cord)
    assert do_job(Segmenter(cord_network, config), job, OutputConfig(force=True)).status == "segmented"
    assert job.paths.cord.read_bytes() == before
    other = tmp_path / "other.nii.gz"
    other.write_bytes(before)
    do_job(Segmenter(cord_network), job, OutputConfig(force=True))
    config = SegmentationConfig(cord=other)
    assert do_job(Segmenter(cord_network, config), job, OutputConfig(force=True)).status == "segmented"
    assert not job.paths.cord.exists()


def test_a_cord_of_another_program_is_not_replaced_without_a_word(discs, cord_network, tmp_path):
    image = tmp_path / "a.nii.gz"
    discs[0].to_filename(image)
    job = SegmentationJob(image, OutputPaths.for_input(image))
    job.paths.cord.write_bytes(b"by hand")
    refused = do_job(Segmenter(cord_network), job, OutputConfig())
    assert (
        refused.message
        == f"error: {job.paths.cord}: exists; replace it with --force, or leave it with --tissues gm"
    )
    alone = do_job(Segmenter(cord_network), job, OutputConfig(tissues="gm"))
    assert alone.status == "segmented"
    assert job.paths.cord.read_bytes() == b"by hand"
    assert do_job(Segmenter(cord_network), job, OutputConfig(force=True)).status == "segmented"
    assert nib.load(job.paths.cord).shape == discs[0].shape
