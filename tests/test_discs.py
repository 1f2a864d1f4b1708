"""Vertebral levels from labels of discs."""

import nibabel as nib
import numpy as np
import pytest

from keras_scgm import InputError
from keras_scgm.morphometry.discs import between_discs
from keras_scgm.nifti import volume_from_image

SHAPE = (10, 10, 6)
AFFINE = np.diag([-0.5, 0.5, 5.0, 1.0])
NO_CORD = np.zeros((6, 10, 10))
CORD = np.ones((6, 10, 10))


def grid(affine=AFFINE, shape=SHAPE):
    return volume_from_image(nib.Nifti1Image(np.zeros(shape, np.uint8), affine))


def discs(at_mm: dict[int, float]) -> object:
    """Labels on a grid of 1 mm that begins elsewhere."""
    voxels = np.zeros((4, 4, 60), np.uint8)
    for label, z_mm in at_mm.items():
        voxels[2, 2, round(z_mm) + 20] = label
    affine = np.eye(4)
    affine[:3, 3] = [-4, 0, -20]
    return volume_from_image(nib.Nifti1Image(voxels, affine))


@pytest.mark.parametrize("cord", [NO_CORD, CORD], ids=["no cord", "cord"])
def test_discs_bound_the_levels(cord):
    # Slices at -5, 0, ..., 20 mm; vertebra 3 from 17 down to 5, vertebra 4 from there to -2.
    affine = AFFINE.copy()
    affine[2, 3] = -5
    assert between_discs(grid(affine), cord, discs({3: 17, 4: 5, 5: -2})) == [None, 4, 3, 3, 3, None]


def test_the_slice_of_a_disc_is_above_it_whatever_the_rounding():
    affine = np.diag([-0.5, 0.5, 0.8, 1.0])
    affine[2, 3] = 10.3
    labels = np.zeros((10, 10, 15), np.uint8)
    labels[5, 5, [2, 7, 12]] = 5, 4, 3
    volume = grid(affine, labels.shape)
    found = between_discs(volume, np.ones((15, 10, 10)), volume_from_image(nib.Nifti1Image(labels, affine)))
    assert found == [None] * 2 + [4] * 5 + [3] * 5 + [None] * 3


@pytest.mark.parametrize("tilt_deg", [-25, 0, 25])
@pytest.mark.parametrize("behind_mm", [0, 12])
def test_a_disc_is_perpendicular_to_the_cord(tilt_deg, behind_mm):
    """Labels lie behind the cord, whose slices may be tilted to it."""
    n_slices, spacing_mm = 12, 4.0
    forward = np.tan(np.radians(tilt_deg))
    cord = np.zeros((n_slices, 60, 160))
    for k in range(n_slices):
        middle = 80 + round(forward * k * spacing_mm / 0.5)
        cord[k, 25:35, middle - 8 : middle + 9] = 1
    volume = grid(np.diag([-0.5, 0.5, spacing_mm, 1.0]), (60, 160, n_slices))
    along = np.array([0, np.sin(np.radians(tilt_deg)), np.cos(np.radians(tilt_deg))])
    backward = np.array([0, -np.cos(np.radians(tilt_deg)), np.sin(np.radians(tilt_deg))])
    voxels, place = np.zeros((60, 200, 120), np.uint8), np.eye(4)
    place[:3, :3] *= 0.5
    place[:3, 3] = [-30, -10, -10]
    for label, height_mm in {2: 41.5, 3: 25.5, 4: 9.5}.items():
        on_cord = np.array([-15, 40, 0]) + along * height_mm / along[2]
        at = np.rint((on_cord + behind_mm * backward - place[:3, 3]) / 0.5).astype(int)
        voxels[tuple(at)] = label
    found = between_discs(volume, cord, volume_from_image(nib.Nifti1Image(voxels, place)))
    # 9.5, 25.5 and 41.5 mm are slices 2.4, 6.4 and 10.4.
    assert found == [None] * 3 + [3] * 4 + [2] * 4 + [None]


@pytest.mark.parametrize("ahead_mm", [-20, 0, 20])
def test_a_disc_counts_where_a_bent_cord_is_nearest(ahead_mm):
    """The cord is an arc of 80 mm, and the labels lie on radii of it, behind or in front."""
    radius_mm, n_slices, spacing_mm = 80, 16, 3.0
    heights_mm = (np.arange(n_slices) - (n_slices - 1) / 2) * spacing_mm
    affine, place = np.diag([-0.5, 0.5, spacing_mm, 1.0]), np.diag([0.5, 0.5, 0.5, 1.0])
    affine[2, 3] = heights_mm[0]
    cord = np.zeros((n_slices, 60, 160))
    for section, height_mm in zip(cord, heights_mm, strict=True):
        middle = 80 + round((np.sqrt(radius_mm**2 - height_mm**2) - radius_mm) / 0.5)
        section[25:35, middle - 8 : middle + 9] = 1
    volume = grid(affine, (60, 160, n_slices))
    voxels = np.zeros((60, 200, 160), np.uint8)
    place[:3, 3] = [-30, 0, -40]
    for label, slice_ in {2: 13.5, 3: 8.5, 4: 2.5}.items():
        angle = np.arcsin((heights_mm[0] + slice_ * spacing_mm) / radius_mm)
        at_mm = (radius_mm + ahead_mm) * np.array([0, np.cos(angle), np.sin(angle)])
        at_mm += [-15, 40 - radius_mm, 0]
        voxels[tuple(np.rint((at_mm - place[:3, 3]) / 0.5).astype(int))] = label
    found = between_discs(volume, cord, volume_from_image(nib.Nifti1Image(voxels, place)))
    assert found == [None] * 3 + [3] * 6 + [2] * 5 + [None] * 2


@pytest.mark.parametrize(
    ("at_mm", "message"),
    [
        ({3: 10, 4: 22}, "rise from top to bottom"),
        ({}, "label at least two"),
        ({3: 10}, "a level lies between two discs"),
        ({3: 22, 6: 3}, "no label 4 between 3 and 6; label every disc"),
    ],
)
def test_discs_that_cannot_be_used(at_mm, message):
    with pytest.raises(InputError, match=message):
        between_discs(grid(), CORD, discs(at_mm))


def test_the_pontomedullary_junction_is_no_disc():
    assert between_discs(grid(), CORD, discs({49: 24, 3: 12, 4: 3})) == [None, 3, 3, None, None, None]


@pytest.mark.parametrize("label", [-3, 2.6])
def test_disc_labels_that_are_no_whole_numbers_from_1_are_refused(label):
    discs = np.zeros(SHAPE, np.float32)
    discs[5, 5, 1], discs[5, 5, 4] = 4, label
    with pytest.raises(InputError, match="whole numbers from 1"):
        between_discs(grid(), CORD, volume_from_image(nib.Nifti1Image(discs, AFFINE)))
