"""Lesions, cavities and compressed cords in the drawings of a training."""

from dataclasses import replace

import numpy as np
import pytest
from skimage.morphology import convex_hull_image

from keras_scgm.datasets.phantom import DomainConfig, draw_slices
from keras_scgm.datasets.phantom.disease import Disease, Lesion, Oval


def test_diseased_cords_are_flatter_without_a_waist():
    config = DomainConfig(
        region_weights=(1, 0, 0), empty=0.0, off_centre_mm=0.0, rotation_deg=0.0, spacing_mm=(0.3, 0.3)
    )
    flatness = {}
    for diseased in (0.0, 1.0):
        cords = draw_slices(12, seed=5, size=96, config=replace(config, diseased=diseased))[2] > 0.5
        widths, depths = ([np.ptp(np.flatnonzero(each.any(axis))) for each in cords] for axis in (1, 0))
        flatness[diseased] = np.divide(depths, widths)
    assert flatness[1].min() < 0.45 < flatness[0].min()
    assert np.median(flatness[1]) < np.median(flatness[0])
    for each in cords:
        assert each.sum() > 0.85 * convex_hull_image(each).sum()


def test_a_cavity_pushes_aside_what_is_around_it_without_changing_areas():
    cavity = Oval(0.4, -0.2, 1.5, 1.0)
    axis = np.arange(-8, 8, 0.02)
    u, v = np.meshgrid(axis, axis, indexing="ij")
    old_u, old_v = Disease(cavity=cavity).before(u, v)
    for reach in (1.5, 2.5, 4.0):
        oval = Oval(cavity.u, cavity.v, 1.5 * reach, reach)
        now = (oval.distance(old_u, old_v) < 0) & (cavity.distance(u, v) >= 0)
        assert now.sum() * 0.02**2 == pytest.approx(np.pi * 1.5 * reach**2, rel=0.01)
    assert Disease().before(u, v)[0] is u


@pytest.fixture
def drawn_with(monkeypatch):
    """Draws one slice with the disease that is given: image, gray matter, cord."""
    config = DomainConfig(
        contrast_weights=(1, 0, 0, 0, 0),
        region_weights=(1, 0, 0),
        empty=0.0,
        contrast_to_noise=(25, 25),
        off_centre_mm=0.0,
        diseased=1.0,
    )

    def draw(disease):
        monkeypatch.setattr(Disease, "drawn", lambda *_: disease)
        return [array[0] for array in draw_slices(1, seed=2, size=96, config=config)]

    return draw


def test_lesions_leave_the_masks_as_they_are(drawn_with):
    healthy = drawn_with(Disease())
    lesion = Lesion(Oval(0.0, -2.5, 1.0, 1.0), gaps=3.0, opacity=1.0, soft_mm=0.2)
    image, gray_matter, cord = drawn_with(Disease((lesion,)))
    np.testing.assert_array_equal(gray_matter, healthy[1])
    np.testing.assert_array_equal(cord, healthy[2])
    higher = image - healthy[0]
    assert higher.max() > 0.2 * healthy[0][gray_matter > 0.5].mean()
    assert (cord > 0)[higher > 0.5 * higher.max()].all()


def test_fluid_of_a_cavity_is_in_the_cord_and_no_gray_matter(drawn_with):
    healthy = drawn_with(Disease())
    image, gray_matter, cord = drawn_with(Disease(cavity=Oval(0.0, 0.0, 1.5, 1.2)))
    middle = tuple(np.argwhere(cord > 0.5).mean(axis=0).round().astype(int))
    assert image[middle] > 1.2 * healthy[0][healthy[1] > 0.5].mean()
    assert (gray_matter[middle], cord[middle]) == (0, 1)
    assert 0.4 * healthy[1].sum() < gray_matter.sum() < 1.1 * healthy[1].sum()
    assert (cord.sum() - healthy[2].sum()) * 0.25**2 == pytest.approx(np.pi * 1.5 * 1.2, rel=0.15)
