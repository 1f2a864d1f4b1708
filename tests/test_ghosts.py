"""Images with a weaker copy of themselves beside them, as motion leaves it."""

import nibabel as nib
import numpy as np
import pytest
from ghosted import ghosted

from keras_scgm import segment
from keras_scgm.datasets.phantom import PhantomConfig, draw_subject
from keras_scgm.nifti import volume_from_image
from keras_scgm.segmentation.acquired_spacing import acquired_spacing_mm
from keras_scgm.segmentation.ghosts import strongest_ghost
from keras_scgm.segmentation.spectrum import power_spectra
from keras_scgm.segmentation.warnings import MIN_GHOST

REAL = (
    "invivo/t2s_uncropped",
    "invivo/unf01_T2star",
    *(f"multisite/{n}_{scan}" for n in (9584, 9709, 10063) for scan in ("scan", "rescan")),
)


def ghosts_of(image):
    """Along right-left and anterior-posterior."""
    spectra = power_spectra(volume_from_image(image))
    return [strongest_ghost(spectrum, acquired_spacing_mm(spectrum)) for spectrum in spectra]


@pytest.fixture(scope="module")
def drawn():
    return draw_subject(PhantomConfig(n_slices=3, artefacts=0.0, contrast_to_noise=(8, 14)), seed=1).image


def test_a_ghost_is_found_along_its_axis(drawn):
    for axis, distance_mm in ((0, 8.0), (1, 12.5)):
        ghosts = ghosts_of(ghosted(drawn, 0.25, distance_mm, axis))
        assert ghosts[axis].distance_mm == pytest.approx(distance_mm, abs=0.5)
        assert MIN_GHOST < ghosts[axis].strength < 0.28
        assert ghosts[1 - axis].strength < MIN_GHOST / 1.5
        turned = ghosted(drawn, 0.25, distance_mm, axis).as_reoriented([[2, 1], [0, -1], [1, 1]])
        assert np.allclose(ghosts_of(turned), ghosts)


def test_copies_to_both_sides_and_of_opposite_phase_are_found(drawn):
    voxels = np.asarray(drawn.dataobj)
    copies = [np.roll(voxels, steps, 1) for steps in (16, -16)]
    for changed in (voxels + 0.12 * (copies[0] + copies[1]), np.abs(voxels - 0.25 * copies[0])):
        ghost = ghosts_of(nib.Nifti1Image(changed, drawn.affine))[1]
        assert ghost.strength > MIN_GHOST
        assert ghost.distance_mm == pytest.approx(8, abs=0.5)


@pytest.mark.parametrize("contrast", ["t2star", "mt", "psir", "exvivo", "random"])
@pytest.mark.parametrize("spacing_mm", [0.3, 0.7])
def test_drawn_images_have_none(contrast, spacing_mm):
    config = PhantomConfig(spacing_mm, matrix_size=120, n_slices=3, contrast=contrast, artefacts=0.0)
    for seed in range(3):
        image = draw_subject(config, seed).image
        assert max(ghost.strength for ghost in ghosts_of(image)) < MIN_GHOST / 1.5


@pytest.mark.parametrize("name", REAL)
def test_real_images_have_none_and_show_a_ghost_of_20_percent(reference, name):
    image = nib.as_closest_canonical(nib.load(reference / f"{name}.nii.gz"))
    voxels = image.get_fdata()
    edges = [
        (length - round(45 / mm)) // 2
        for length, mm in zip(voxels.shape, image.header.get_zooms(), strict=False)
    ]
    crop = voxels[edges[0] : -edges[0], edges[1] : -edges[1]]
    padded = np.pad(crop, ((20, 25), (30, 10), (0, 0)))
    for clean in (voxels, crop, padded):
        ghosts = ghosts_of(nib.Nifti1Image(clean, image.affine))
        assert max(ghost.strength for ghost in ghosts) < MIN_GHOST / 1.5
    assert np.allclose(ghosts, ghosts_of(nib.Nifti1Image(crop, image.affine)))
    for axis in (0, 1):
        assert ghosts_of(ghosted(image, 0.2, 7.6, axis))[axis].strength > MIN_GHOST


@pytest.mark.parametrize(
    "voxels",
    [
        np.zeros((80, 80, 2)),
        np.full((80, 80, 2), 1e17),
        np.ones((1, 2, 1)),
        np.arange(4.0) * np.ones((90, 70, 1)),
        np.random.default_rng(0).uniform(1, 2, (80, 80, 1)) * 1e-150,
    ],
)
def test_images_without_structure_have_none(voxels):
    image = nib.Nifti1Image(voxels, np.diag([-0.5, 0.5, 4, 1]))
    assert all(0 <= ghost.strength < MIN_GHOST / 1.5 for ghost in ghosts_of(image))


def test_a_field_of_few_voxels_has_no_statement(drawn):
    ghosts = ghosts_of(drawn.slicer[:40, :36])
    assert [ghost.strength for ghost in ghosts] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("strength", "axis", "place"), [(0.0, 1, ""), (0.3, 0, "right-left"), (0.3, 1, "anterior-posterior")]
)
def test_an_image_with_a_ghost_never_passes(drawn, strength, axis, place):
    result = segment(ghosted(drawn, strength, 14.0, axis), "synthetic")
    doubts = [text for text in result.warnings if text.startswith("ghosting: ")]
    verdicts = {result.quality.verdict, *(one.verdict for one in result.quality.slices)}
    if strength:
        assert [f"shifted by 14 mm along {place};" in text for text in doubts] == [True]
        assert "pass" not in verdicts
    else:
        assert (doubts, verdicts) == ([], {"pass"})
