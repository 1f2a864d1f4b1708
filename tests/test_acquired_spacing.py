"""Images that a scanner interpolated by filling k-space with zeros."""

from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
from zero_filled import interpolated

from keras_scgm import segment
from keras_scgm.nifti import volume_from_image
from keras_scgm.segmentation.acquired_spacing import acquired_spacing_mm
from keras_scgm.segmentation.spectrum import power_spectra
from keras_scgm.segmentation.warnings import image_doubts


def acquired_of(volume):
    """Along right-left and anterior-posterior."""
    return tuple(acquired_spacing_mm(spectrum) for spectrum in power_spectra(volume))


@pytest.fixture
def noisy(nested_discs):
    """Discs of 0.5 mm, with noise in the air, too."""
    return nested_discs()[0]


@pytest.mark.parametrize("acquired_mm", [(0.8, 0.8), (1.0, 1.25), (1.6, 0.5)])
def test_what_was_acquired_is_found(noisy, acquired_mm):
    volume = volume_from_image(interpolated(noisy, acquired_mm))
    assert acquired_of(volume) == pytest.approx(acquired_mm, rel=0.07)
    turned = volume_from_image(interpolated(noisy, acquired_mm).as_reoriented([[2, 1], [0, -1], [1, 1]]))
    assert acquired_of(turned) == acquired_of(volume)


@pytest.mark.parametrize("unit", [1.0, 2.0**-20])
def test_a_black_border_hides_nothing(noisy, unit):
    image = interpolated(noisy, (1.0, 1.25))
    padded = unit * np.pad(np.asarray(image.dataobj), ((20, 9), (0, 31), (0, 0)))
    found = acquired_of(volume_from_image(nib.Nifti1Image(padded, image.affine)))
    assert found == acquired_of(volume_from_image(image))


def test_other_images_are_as_their_header_says(noisy, reference):
    volumes = [volume_from_image(noisy)]
    for name in (
        "invivo/t2s_uncropped",
        "invivo/unf01_T2star",
        *(f"multisite/{n}_scan" for n in (9584, 9709, 10063)),
    ):
        volumes.append(volume_from_image(nib.load(reference / f"{name}.nii.gz")))
    small = nib.Nifti1Image(np.asarray(noisy.dataobj)[:63, :20], noisy.affine)
    constant = nib.Nifti1Image(np.ones((80, 80, 2), np.float32), noisy.affine)
    volumes += [volume_from_image(small), volume_from_image(constant)]
    for volume in volumes:
        assert acquired_of(volume) == volume.in_plane_spacing_mm


@pytest.mark.parametrize(("acquired_mm", "is_doubted"), [(0.6, False), (1.0, True)])
def test_an_interpolated_image_never_passes(noisy, cord_network, acquired_mm, is_doubted):
    result = segment(interpolated(noisy, (acquired_mm, acquired_mm)), cord_network)
    doubts = [
        text for text in result.warnings if text.startswith("interpolated to axial voxels of 0.5 x 0.5 mm")
    ]
    assert len(doubts) == is_doubted
    verdicts = {result.quality.verdict, *(one.verdict for one in result.quality.slices)}
    assert ("pass" not in verdicts) or not is_doubted


def test_coarse_voxels_are_not_taken_for_interpolated_ones(noisy):
    volume = volume_from_image(nib.Nifti1Image(np.asarray(noisy.dataobj), np.diag([-0.9, 0.9, 4.0, 1.0])))
    assert acquired_of(volume) == volume.in_plane_spacing_mm == (0.9, 0.9)
    doubts = image_doubts(volume, SimpleNamespace(cord=()))
    assert not [text for text in doubts if text.startswith("interpolated")]


def test_of_a_large_field_the_middle_is_transformed(noisy):
    voxels = np.random.default_rng(0).normal(size=(560, 40, 2)).astype(np.float32)
    whole, middle = (
        power_spectra(volume_from_image(nib.Nifti1Image(one, noisy.affine)))
        for one in (voxels, voxels[24:-24])
    )
    assert [spectrum.length for spectrum in whole] == [512, 40]
    for one, other in zip(whole, middle, strict=True):
        np.testing.assert_allclose(one.power, other.power)
