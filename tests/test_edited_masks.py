"""Masks of a result that a person edited: they are measured, kept, and never replaced."""

import csv
import json

import nibabel as nib
import numpy as np
import pytest

from keras_scgm.cohort import OutputConfig, SegmentationJob, do_job, jobs
from keras_scgm.outputs import OutputPaths
from keras_scgm.segmentation import SegmentationConfig, Segmenter
from keras_scgm.segmentation.edited_masks import segmentation_of_edited

RESUME, FORCE = OutputConfig(resume=True), OutputConfig(force=True)


@pytest.fixture
def job(tmp_path, nested_discs):
    image = tmp_path / "a.nii.gz"
    nested_discs()[0].to_filename(image)
    return SegmentationJob(image, OutputPaths.for_input(image))


@pytest.fixture
def segmenter(cord_network, job):
    """That has segmented the image, with a map of the uncertainty."""
    segmenter = Segmenter(cord_network, SegmentationConfig(uncertainty_passes=2))
    assert do_job(segmenter, job, OutputConfig()).status == "segmented"
    return segmenter


def voxels(path):
    return np.asarray(nib.load(path).dataobj).copy()


def edit(path, change):
    image, array = nib.load(path), voxels(path).astype(np.float32)
    change(array)
    nib.save(nib.Nifti1Image(array, image.affine), path)
    return array


def without_slice(k):
    def change(array):
        array[..., k] = 0

    return change


def rows(paths):
    with open(paths.areas, newline="") as file:
        return list(csv.DictReader(file))


def masks_of(paths):
    return {mask["file"]: mask["edited"] for mask in json.loads(paths.record.read_text())["masks"]}


def test_an_edited_mask_is_measured_once_and_stays(segmenter, job):
    paths, before = job.paths, rows(job.paths)
    assert set(masks_of(paths).values()) == {False}
    uncertainty = paths.uncertainty.read_bytes()
    gray = edit(paths.mask, without_slice(3))
    outcome = do_job(segmenter, job, RESUME)
    assert (outcome.status, outcome.verdict) == ("segmented", "review")
    assert outcome.message.startswith(
        f"{paths.mask}: edited by hand, measured: gray matter in 4 of 5 slices, "
    )
    assert "predicted DSC unknown (review)" in outcome.message
    assert outcome.warnings == ("masks edited by hand, not judged",)
    np.testing.assert_array_equal(voxels(paths.mask), gray)
    np.testing.assert_array_equal(voxels(paths.white_matter), voxels(paths.cord) - gray)
    assert paths.uncertainty.read_bytes() == uncertainty
    assert masks_of(paths) == {"a_gmseg.nii.gz": True, "a_wmseg.nii.gz": False, "a_seg.nii.gz": False}
    after = rows(paths)
    for k, (old, new) in enumerate(zip(before, after, strict=True)):
        assert float(new["area_mm2"]) == pytest.approx(0.25 * gray[..., k].sum(), abs=1e-3)
        assert new["cord_area_mm2"] == old["cord_area_mm2"]
        assert (new["verdict"], new["warning"]) == ("review", "masks edited by hand, not judged")
        assert not any(
            new[name] for name in ("soft_area_mm2", "mean_probability", "contrast", "predicted_dsc")
        )
    assert after[3]["wm_area_mm2"] == after[3]["cord_area_mm2"]
    unchanged = ("area_mm2", "gm_perpendicular_mm2", "gm_left_mm2", "gm_dorsal_mm2", "cord_angle_deg")
    assert [before[2][name] for name in unchanged] == [after[2][name] for name in unchanged]
    record = json.loads(paths.record.read_text())
    assert record["gray_matter_volume_mm3"] == pytest.approx(gray.sum())
    assert record["quality"]["predicted_dsc"] is None

    written = {path: path.read_bytes() for path in (paths.mask, paths.areas, paths.picture)}
    again = do_job(segmenter, job, RESUME)
    assert (again.status, again.verdict, again.warnings) == ("skipped", "review", ())
    assert "edited by hand and measured before, skipped" in again.message
    assert do_job(segmenter, job, OutputConfig()).status == "failed"
    assert {path: path.read_bytes() for path in written} == written


def test_white_matter_that_is_edited_with_the_gray_matter_stays(segmenter, job):
    gray = edit(job.paths.mask, without_slice(3))
    white = edit(job.paths.white_matter, lambda array: np.copyto(array, voxels(job.paths.cord) - gray))
    outcome = do_job(segmenter, job, RESUME)
    assert (outcome.status, outcome.warnings) == ("segmented", ("masks edited by hand, not judged",))
    np.testing.assert_array_equal(voxels(job.paths.white_matter), white)
    assert masks_of(job.paths) == {"a_gmseg.nii.gz": True, "a_wmseg.nii.gz": True, "a_seg.nii.gz": False}


def test_what_was_drawn_by_hand_is_never_replaced(cord_network, segmenter, job):
    paths = job.paths
    cord = edit(paths.cord, lambda array: array.__setitem__((slice(0, 68), slice(None), 1), 0))
    gray = voxels(paths.mask)
    assert not (gray > cord).any()
    other = Segmenter(cord_network, SegmentationConfig(threshold=0.4))
    for settings in (FORCE, RESUME, FORCE):
        outcome = do_job(other, job, settings)
        kept = "a_seg.nii.gz: edited by hand and kept, from a result with other settings, threshold"
        assert kept in outcome.warnings
        np.testing.assert_array_equal(voxels(paths.cord), cord)
        np.testing.assert_array_equal(voxels(paths.mask), gray)
    assert float(rows(paths)[1]["cord_area_mm2"]) == pytest.approx(0.25 * cord[..., 1].sum(), abs=1e-3)
    paths.cord.unlink()
    assert "predicted DSC 0." in do_job(other, job, FORCE).message
    assert set(masks_of(paths).values()) == {False}


def test_an_edited_cord_that_is_given_is_an_input(cord_network, segmenter, job):
    cord = edit(job.paths.cord, without_slice(0))
    given = Segmenter(cord_network, SegmentationConfig(cord=job.paths.cord))
    outcome = do_job(given, job, FORCE)
    assert "predicted DSC 0." in outcome.message
    np.testing.assert_array_equal(voxels(job.paths.cord), cord)
    assert not voxels(job.paths.mask)[..., 0].any()
    gray = edit(job.paths.mask, without_slice(4))
    assert "4 of 5 slices" not in (message := do_job(given, job, RESUME).message)
    assert "3 of 5 slices" in message
    np.testing.assert_array_equal(voxels(job.paths.white_matter), cord - gray)
    np.testing.assert_array_equal(voxels(job.paths.cord), cord)


def test_gray_matter_alone(bright_network, blob_image, tmp_path):
    image = tmp_path / "a.nii.gz"
    blob_image().to_filename(image)
    job, segmenter = SegmentationJob(image, OutputPaths.for_input(image)), Segmenter(bright_network)
    do_job(segmenter, job, OutputConfig())
    edit(job.paths.mask, lambda array: array.fill(0))
    outcome = do_job(segmenter, job, RESUME)
    assert (outcome.status, outcome.verdict) == ("segmented", "review")
    assert "no gray matter was found; the mask is empty" in outcome.warnings
    assert {row["area_mm2"] for row in rows(job.paths)} == {"0.000"}
    assert {row["cord_area_mm2"] for row in rows(job.paths)} == {""}
    assert sorted(path.name for path in tmp_path.glob("*seg.nii.gz")) == ["a_gmseg.nii.gz"]


def scaled(array):
    array *= 2


def halved(array):
    array[..., 2] *= 0.5


def swapped_with_cord(array):
    array[..., 2] = 1


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("mask", swapped_with_cord, "gray matter outside the cord in slices 2; correct it, or the cord in"),
        ("mask", scaled, "holds values from 0 to 2; a mask is 0 and 1"),
        ("mask", halved, "holds values between 0 and 1; a mask is 0 and 1"),
        (
            "white_matter",
            without_slice(2),
            "edited by hand, but white matter is the cord without the gray matter",
        ),
    ],
)
def test_edited_masks_that_do_not_fit_are_refused(segmenter, job, name, change, message):
    path = getattr(job.paths, name)
    edit(path, change)
    before = {file: file.read_bytes() for file in job.image.parent.iterdir()}
    outcome = do_job(segmenter, job, RESUME)
    assert outcome.status == "failed"
    assert outcome.message.startswith(f"error: {path}: {message}")
    assert {file: file.read_bytes() for file in job.image.parent.iterdir()} == before


def test_a_mask_that_is_saved_again_while_it_is_measured_is_refused(segmenter, job, monkeypatch):
    edit(job.paths.mask, without_slice(0))
    before = job.paths.record.read_bytes()

    def saved_again(*arguments, **named):
        measured = segmentation_of_edited(*arguments, **named)
        edit(job.paths.mask, without_slice(1))
        return measured

    monkeypatch.setattr(jobs, "segmentation_of_edited", saved_again)
    outcome = do_job(segmenter, job, RESUME)
    assert outcome.status == "failed"
    assert outcome.message.endswith(
        f"{job.paths.mask}: changed while it was read; start again once it is complete"
    )
    assert job.paths.record.read_bytes() == before


def test_masks_on_another_grid_and_of_another_image_are_refused(segmenter, job):
    edit(job.paths.mask, without_slice(0))
    nib.save(nib.load(job.paths.mask).slicer[1:], job.paths.mask)
    assert "not on the grid of" in do_job(segmenter, job, RESUME).message
    nib.save(nib.load(job.image).slicer[1:], job.image)
    assert (
        f"{job.image} has changed since; delete it and give --force" in do_job(segmenter, job, RESUME).message
    )


def test_edited_probabilities_are_refused(segmenter, job):
    do_job(segmenter, job, OutputConfig(soft=True, force=True))
    edit(job.paths.mask, without_slice(0))
    soft = OutputConfig(soft=True, resume=True)
    assert "edited by hand, but probabilities cannot be measured" in do_job(segmenter, job, soft).message
