"""Measurements of gray matter and cord of drawn sections, straight and tilted."""

import math
from dataclasses import asdict
from functools import partial

import nibabel as nib
import numpy as np
import pytest
from skimage.measure import regionprops

from keras_scgm.morphometry import TissueAreas, tissue_areas
from keras_scgm.nifti import volume_from_image

SPACING_MM = (0.25, 0.25, 2.0)


def measured(gray, cord=None, affine=None, **more):
    affine = np.diag([-SPACING_MM[0], *SPACING_MM[1:], 1.0]) if affine is None else affine
    volume = volume_from_image(nib.Nifti1Image(np.asarray(gray), affine))
    slices = [
        None if voxels is None else partial(volume.axial_slices, np.asarray(voxels))
        for voxels in (gray, cord, more.get("centreline"))
    ]
    return tissue_areas(volume, *slices)


def cylinder(left_mm, front_mm, tilt_deg=0.0, spacing_mm=SPACING_MM, shape=(120, 120, 9)):
    """A straight cord whose section perpendicular to it is an ellipse, tilted to the front."""
    x, y, z = np.meshgrid(
        *(np.arange(n) * mm for n, mm in zip(shape, spacing_mm, strict=True)), indexing="ij"
    )
    x, y, z = (a - a.mean() for a in (x, y, z))
    tilt = np.deg2rad(tilt_deg)
    across = y * np.cos(tilt) - z * np.sin(tilt)
    return (np.hypot(x / left_mm, across / front_mm) < 1).astype(np.uint8)


@pytest.mark.parametrize("tilt_deg", [0, 15, 30])
def test_areas_and_diameters_are_those_of_the_perpendicular_section(tilt_deg):
    gray, cord = cylinder(3.5, 2.5, tilt_deg), cylinder(6.0, 4.0, tilt_deg)
    for row in measured(gray, cord):
        assert row.cord_angle_deg == pytest.approx(tilt_deg, abs=0.5)
        assert row.gm_perpendicular_mm2 == pytest.approx(math.pi * 3.5 * 2.5, rel=0.02)
        assert row.cord_perpendicular_mm2 == pytest.approx(math.pi * 24, rel=0.01)
        assert row.cord_area_mm2 == pytest.approx(math.pi * 24 / math.cos(math.radians(tilt_deg)), rel=0.01)
        assert (row.cord_rl_mm, row.cord_ap_mm) == pytest.approx((12, 8), rel=0.01)
        assert row.cord_eccentricity == pytest.approx(math.sqrt(1 - (8 / 12) ** 2), abs=0.01)
        assert row.cord_orientation_deg == pytest.approx(0, abs=1)
    by_line = measured(gray, cord, centreline=cylinder(1.0, 1.0, tilt_deg))
    assert [row.cord_angle_deg for row in by_line] == pytest.approx([tilt_deg] * 9, abs=0.6)


def test_voxels_need_not_be_square():
    spacing_mm = (0.25, 0.5, 2.0)
    cord = cylinder(6.0, 4.0, 20, spacing_mm, shape=(120, 60, 9))
    gray = cylinder(3.0, 2.0, 20, spacing_mm, shape=(120, 60, 9))
    for row in measured(gray, cord, np.diag([-0.25, 0.5, 2.0, 1.0])):
        assert (row.cord_rl_mm, row.cord_ap_mm) == pytest.approx((12, 8), rel=0.02)
        assert row.cord_perpendicular_mm2 == pytest.approx(math.pi * 24, rel=0.02)


@pytest.mark.parametrize("angle_deg", [0, 25, 60, 120])
def test_an_upright_cord_as_in_scikit_image(angle_deg):
    at = np.arange(80) - 39.5
    left, front = np.meshgrid(at, at, indexing="ij")
    turn = math.radians(angle_deg)
    section = ((left * math.cos(turn) + front * math.sin(turn)) / 28) ** 2 + (
        (front * math.cos(turn) - left * math.sin(turn)) / 17
    ) ** 2 < 1
    section &= ~((np.abs(left) < 2) & (front > 5))
    cord = np.repeat(section[..., np.newaxis], 6, axis=2).astype(np.uint8)
    region = regionprops(section.astype(np.uint8), spacing=(0.25, 0.25))[0]
    row = measured(cord, cord)[3]
    assert row.cord_angle_deg == pytest.approx(0, abs=1e-4)
    assert row.cord_area_mm2 == pytest.approx(region.area)
    assert sorted((row.cord_ap_mm, row.cord_rl_mm)) == pytest.approx(
        [region.axis_minor_length, region.axis_major_length]
    )
    assert row.cord_eccentricity == pytest.approx(region.eccentricity)
    assert row.cord_orientation_deg == pytest.approx(abs(math.degrees(region.orientation)))
    assert row.cord_solidity == pytest.approx(region.solidity, rel=1e-9)


def halves(row):
    return row.gm_left_mm2, row.gm_right_mm2, row.gm_ventral_mm2, row.gm_dorsal_mm2


def quarters():
    """Gray matter of 12 x 2 voxels to the left of the middle, of which 5 x 2 in front; and 4 to the right, behind."""
    gray, cord = np.zeros((2, 41, 31, 4), np.uint8)
    cord[5:36, 5:26] = 1
    gray[22:24, 9:15] = gray[22:24, 16:21] = gray[22:24, 15:16] = 1
    gray[10:12, 8:10] = 1
    return gray, cord


@pytest.mark.parametrize(
    "codes", ["LAS", "RAS", "RPI", "LPS", "ASL", "SRP", "PIR"], ids=lambda codes: f"stored as {codes}"
)
def test_left_and_front_are_the_patients(codes):
    image = nib.Nifti1Image(np.stack(quarters(), axis=-1), np.diag([-0.5, 0.5, 2.0, 1.0]))
    turned = image.as_reoriented(
        nib.orientations.ornt_transform(
            nib.orientations.axcodes2ornt("LAS"), nib.orientations.axcodes2ornt(codes)
        )
    )
    gray, cord = np.moveaxis(np.asarray(turned.dataobj), -1, 0)
    for row in measured(gray, cord, turned.affine):
        # The voxels in the middle count half in front and half behind.
        assert halves(row) == pytest.approx((6.0, 1.0, 2.75, 4.25))


def test_a_mirrored_section_has_the_other_halves():
    gray, cord = quarters()
    left, right, ventral, dorsal = halves(measured(gray, cord)[0])
    assert halves(measured(gray[::-1], cord[::-1])[0]) == pytest.approx((right, left, ventral, dorsal))
    assert halves(measured(gray[:, ::-1], cord[:, ::-1])[0]) == pytest.approx((left, right, dorsal, ventral))


@pytest.mark.parametrize("turn_deg", [10, 30, 44])
def test_halves_of_a_round_cord_follow_the_patient_not_the_voxels(turn_deg):
    """A section with gray matter in the patient's left front, on a grid turned about the long axis."""
    cos, sin = math.cos(math.radians(turn_deg)), math.sin(math.radians(turn_deg))
    affine = np.eye(4)
    affine[:3, :3] = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]) @ np.diag([-0.25, 0.25, 2.0])
    middle = np.array([59.5, 59.5, 1.5])
    affine[:3, 3] = -affine[:3, :3] @ middle
    index = np.stack(np.meshgrid(*map(np.arange, (120, 120, 4)), indexing="ij"), axis=-1)
    x, y, _ = np.moveaxis(index @ affine[:3, :3].T + affine[:3, 3], -1, 0)
    cord = np.hypot(x, y) < 6
    gray = (np.abs(x + 1) < 2) & (np.abs(y - 0.5) < 2)
    row = measured(gray.astype(np.uint8), cord.astype(np.uint8), affine)[1]
    assert halves(row) == pytest.approx((12, 4, 10, 6), abs=0.25)
    assert sum(halves(row)) == pytest.approx(2 * gray[..., 1].sum() * 0.0625)


def section_of(width_mm, depth_mm, roll_deg):
    """Gray matter of 4.5 mm to the left, 3.5 to the right, 3 in front and 2 behind in a cord, both rolled."""
    at = (np.arange(140) - 69.5) * 0.1
    left, front = np.meshgrid(at, at, indexing="ij")
    turn = math.radians(roll_deg)
    to_left = left * math.cos(turn) + front * math.sin(turn)
    to_front = front * math.cos(turn) - left * math.sin(turn)
    cord = np.hypot(to_left / width_mm * 2, to_front / depth_mm * 2) < 1
    return (np.abs(to_left - 0.5) < 4) & (np.abs(to_front - 0.5) < 2.5) & cord, cord


def halves_of(width_mm, depth_mm, rolls_deg):
    stack = [section_of(width_mm, depth_mm, roll_deg) for roll_deg in rolls_deg]
    gray, cord = (np.stack(each, axis=-1).astype(np.uint8) for each in zip(*stack, strict=True))
    return [halves(row) for row in measured(gray, cord, np.diag([-0.1, 0.1, 3.0, 1.0]))]


@pytest.mark.parametrize("depth_mm", [7.0, 10.4])
@pytest.mark.parametrize("roll_deg", [-20, 7, 35])
def test_a_rolled_head_has_the_halves_of_a_straight_one(roll_deg, depth_mm):
    (straight,) = halves_of(12.0, depth_mm, [0])
    _, rolled, _ = halves_of(12.0, depth_mm, [roll_deg - 3, roll_deg, roll_deg + 3])
    assert rolled == pytest.approx(straight, rel=0.01)


@pytest.mark.parametrize(("width_mm", "depth_mm"), [(12.0, 11.5), (9.0, 12.0)], ids=["round", "deep"])
def test_a_section_that_does_not_tell_its_roll_is_halved_along_the_patients_axes(width_mm, depth_mm):
    ((left, *_),) = halves_of(width_mm, depth_mm, [15])
    gray, _ = section_of(width_mm, depth_mm, 15)
    assert left == pytest.approx(gray[70:].sum() * 0.01)


def test_slices_without_cord_and_without_gray_matter():
    gray, cord = quarters()
    gray[..., 1] = 0
    gray[..., 3] = cord[..., 3] = 0
    rows = measured(gray, cord)
    assert rows[0].cord_perpendicular_mm2 == pytest.approx(rows[0].cord_area_mm2)
    assert halves(rows[0]) == halves(measured(*quarters())[0])
    assert halves(rows[1]) == (0, 0, 0, 0)
    assert (rows[1].gm_cord_ratio, rows[1].wm_area_mm2) == (0, rows[1].cord_area_mm2)
    known = {name for name, value in asdict(rows[3]).items() if not math.isnan(value)}
    assert known == {"cord_area_mm2", "wm_area_mm2"}
    assert rows[3].cord_area_mm2 == rows[3].wm_area_mm2 == 0
    assert [row.cord_area_mm2 for row in measured(gray, np.zeros_like(cord))] == [0] * 4


def test_without_a_cord_nothing_is_known():
    gray, cord = quarters()
    assert all(math.isnan(value) for row in measured(gray) for value in asdict(row).values())
    row = measured(gray, centreline=cord)[0]
    assert {name for name, value in asdict(row).items() if not math.isnan(value)} == {
        "cord_angle_deg",
        "gm_perpendicular_mm2",
    }
    assert isinstance(row, TissueAreas)


def test_the_rows_do_not_depend_on_how_the_slices_are_stored():
    gray, cord = cylinder(3.0, 2.0, 20), cylinder(5.0, 4.0, 20)
    image = nib.Nifti1Image(np.stack([gray, cord], axis=-1), np.diag([-0.25, 0.25, 2.0, 1.0]))
    turned = image.as_reoriented(np.array([[1, -1], [2, 1], [0, -1], [3, 1]])[:3])
    again = np.moveaxis(np.asarray(turned.dataobj), -1, 0)
    for one, other in zip(measured(gray, cord), measured(*again, turned.affine), strict=True):
        assert asdict(other) == pytest.approx(asdict(one))


def test_a_centreline_alone_gives_the_perpendicular_gray_matter():
    gray = cylinder(3.5, 2.5, 30)
    for row in measured(gray, centreline=cylinder(1.0, 1.0, 30)):
        assert row.cord_angle_deg == pytest.approx(30, abs=0.6)
        assert row.gm_perpendicular_mm2 == pytest.approx(math.pi * 3.5 * 2.5, rel=0.02)
