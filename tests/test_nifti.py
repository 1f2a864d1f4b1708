"""Geometry in headers: qform, sform and pixdim that contradict each other."""

import gzip

import nibabel as nib
import numpy as np
import pytest
from header_forms import FORMS, las, nifti_bytes, turned

from keras_scgm import messages, segment
from keras_scgm.datasets.phantom import PhantomConfig, write_challenge_dataset
from keras_scgm.evaluation import evaluate
from keras_scgm.nifti import read_volume, volume_from_image

DATA = np.arange(60, dtype=np.float32).reshape(5, 4, 3)


@pytest.mark.parametrize("name", FORMS)
def test_forms_that_disagree_are_named(tmp_path, name):
    build, warnings = FORMS[name]
    (tmp_path / "v.nii").write_bytes(build(DATA))
    assert list(read_volume(tmp_path / "v.nii").warnings) == warnings


@pytest.mark.parametrize("name", [name for name in FORMS if "quaternion" not in name])
def test_images_in_memory_give_the_warnings_of_their_file(name):
    build, warnings = FORMS[name]
    assert list(volume_from_image(nib.Nifti1Image.from_bytes(build(DATA))).warnings) == warnings


@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz"])
@pytest.mark.parametrize(("n_bytes", "warned"), [(16, False), (5 * 4, True), (5 * 4 * 4 * 2, True)])
def test_voxels_that_the_header_does_not_claim_are_told(tmp_path, name, n_bytes, warned):
    data = FORMS["equal"][0](DATA) + bytes(n_bytes)
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    volume = read_volume(tmp_path / name)
    assert list(volume.warnings) == [messages.SURPLUS] * warned
    np.testing.assert_array_equal(volume.read_slices(0, 3)[0].transpose(1, 2, 0), DATA)


def test_nifti_2(tmp_path):
    (tmp_path / "v.nii").write_bytes(
        nifti_bytes(DATA, las(), turned(30, las(0.7, 0.7, 5)), image_class=nib.Nifti2Image)
    )
    assert [text[:24] for text in read_volume(tmp_path / "v.nii").warnings] == [
        "the sform says voxels of",
        "the axes of qform and sf",
    ]


def test_an_affine_set_in_memory_counts_as_it_does_when_saved(tmp_path):
    image = nib.Nifti1Image.from_bytes(FORMS["equal"][0](DATA))
    image.affine[:3, :3] *= 1.5
    volume = volume_from_image(image)
    assert volume.warnings == ()
    assert volume.in_plane_spacing_mm == (0.75, 0.75)
    image.to_filename(tmp_path / "v.nii")
    assert read_volume(tmp_path / "v.nii").warnings == ()
    result = volume.result_image(np.ones(DATA.shape, np.uint8))
    np.testing.assert_allclose(result.header["pixdim"][1:4], [0.75, 0.75, 7.5])


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("degrees", [10, 44, 45, 46, 90, 170, 180])
@pytest.mark.parametrize("scale", [1.0, 0.17578125, 0.41666666])
def test_headers_of_nibabel_are_sound(tmp_path, axis, degrees, scale):
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    rotation = np.eye(4)
    plane = np.ix_(*[[i for i in range(3) if i != axis]] * 2)
    rotation[plane] = [[cosine, -sine], [sine, cosine]]
    affine = rotation @ turned(-20, las(scale, scale, scale * 3.1))
    image = nib.Nifti1Image(DATA, affine)
    image.set_qform(affine, code=1)
    image.to_filename(tmp_path / "v.nii")
    copied = nib.Nifti1Image(DATA, nib.load(tmp_path / "v.nii").affine, nib.load(tmp_path / "v.nii").header)
    copied.to_filename(tmp_path / "copy.nii")
    for path in (tmp_path / "v.nii", tmp_path / "copy.nii"):
        assert read_volume(path).warnings == ()
    assert volume_from_image(nib.as_closest_canonical(copied)).warnings == ()


def test_phantoms_are_sound(tmp_path):
    site = PhantomConfig(spacing_mm=0.35, matrix_size=64, n_slices=2)
    write_challenge_dataset(tmp_path, subjects_per_site=1, seed=1, sites={1: site})
    paths = list(tmp_path.rglob("*.nii.gz"))
    assert paths
    assert not any(read_volume(path).warnings for path in paths)


def test_real_headers(reference):
    doubtful = {"sform_scaled.nii.gz", "qsform_lrflip.nii.gz"}
    paths = [path for path in reference.rglob("*") if path.name.lower().endswith(".nii.gz")]
    assert {path.name for path in paths if read_volume(path).warnings} == doubtful
    assert read_volume(reference / "failing/sform_scaled.nii.gz").warnings == (
        "the sform says voxels of 0.5 x 0.5 x 2.5 mm, qform and pixdim say 0.703 x 0.703 x 2.5 mm; "
        "the sform counts and areas follow it; correct the header if that is wrong",
    )
    assert read_volume(reference / "failing/qsform_lrflip.nii.gz").warnings == (
        "qform and sform exchange left and right (qform: RAS, sform: LAS); the sform counts; "
        "correct the header if that is wrong",
    )


def test_a_result_keeps_the_warning(run, blob_image, bright_network, tmp_path):
    path, mask_path = tmp_path / "v.nii", tmp_path / "v_gmseg.nii"
    image = blob_image(shape=(44, 39, 3), radius_mm=1.5)
    path.write_bytes(nifti_bytes(np.asarray(image.dataobj), image.affine, las(0.7, 0.7, 4)))
    (warning,) = read_volume(path).warnings
    result = segment(path, bright_network)
    assert result.warnings[0] == result.record["warnings"][0] == warning
    assert result.areas[1].area_mm2 == pytest.approx(result.areas[1].n_voxels * 0.25)

    result.volume.write_result(mask_path, result.mask_voxels)
    code, _, err = run("areas", mask_path)
    assert (code, err) == (0, f"warning: {mask_path}: {warning}\n")
    assert evaluate({"a": mask_path, "b": mask_path}, mask_path).warnings == (f"{mask_path}: {warning}",)
