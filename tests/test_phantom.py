"""The phantom: anatomy, orientation, reproducibility, raters and the challenge's layout."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from keras_scgm.datasets.phantom import (
    CONTRASTS,
    SITES,
    DomainConfig,
    PhantomConfig,
    average_section,
    draw_slices,
    draw_stacks,
    draw_subject,
    training_slices,
    write_challenge_dataset,
)
from keras_scgm.datasets.phantom.acquisition import Scan, acquire
from keras_scgm.datasets.phantom.drawing import Drawing
from keras_scgm.errors import InputError

SMALL = PhantomConfig(spacing_mm=0.5, matrix_size=64, n_slices=4, off_centre_mm=1.0, rotation_deg=0.0)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * np.logical_and(a, b).sum() / (a.sum() + b.sum())


@pytest.fixture(scope="module")
def subject():
    return draw_subject(SMALL, seed=3)


@pytest.fixture(scope="module")
def slices():
    return draw_slices(24, seed=5)


# Anatomy


@pytest.mark.parametrize(
    ("level", "cord_mm2", "gray_mm2"),
    [
        (1, (60, 80), (8, 12)),
        (3, (65, 85), (10, 16)),
        (5, (65, 85), (10, 16)),
        (7, (52, 66), (8, 12)),
        (13, (36, 46), (3.5, 7)),
        (19, (50, 62), (14, 24)),
        (21, (8, 16), (2.5, 7)),
    ],
)
def test_areas_by_level(level, cord_mm2, gray_mm2):
    gray_matter, cord = average_section(level, size=160, spacing_mm=0.125)
    assert cord_mm2[0] < cord.sum() * 0.125**2 < cord_mm2[1]
    assert gray_mm2[0] < gray_matter.sum() * 0.125**2 < gray_mm2[1]
    assert np.all(gray_matter <= cord + 1e-6)


@pytest.mark.parametrize("level", range(1, 8))
def test_average_overlaps_the_population_average(reference: Path, level):
    folder = reference / "anatomy"
    gray, cord, levels = (
        nib.load(folder / f"AMU7T_{name}.nii.gz").dataobj for name in ("gm", "sc", "levels")
    )
    heights = np.flatnonzero((np.asarray(levels) == level).any(axis=(0, 1)))
    middle = heights[len(heights) // 2]
    expected = [np.asarray(volume[..., middle]) > 0.5 for volume in (gray, cord)]
    shift = np.round(127.5 - np.argwhere(expected[1]).mean(axis=0)).astype(int)
    expected = [np.roll(mask, shift, axis=(0, 1)) for mask in expected]
    drawn = average_section(level, size=256, spacing_mm=0.17578125)
    assert dice(expected[0], drawn[0] > 0.5) > 0.93
    assert dice(expected[1], drawn[1] > 0.5) > 0.97


def test_horns_point_the_right_way():
    gray_matter, cord = average_section(4, size=160, spacing_mm=0.125)
    gray, inside = gray_matter > 0.5, cord > 0.5
    np.testing.assert_array_equal(gray, gray[::-1])
    front, back = gray[:, 80:], gray[:, :80]
    assert front.sum() > 1.3 * back.sum()
    horn = np.argwhere(gray[90:])
    assert np.flatnonzero(inside.any(axis=0))[0] < horn[:, 1].min() < 80
    distance_to_back = (
        horn[:, 1].min() - np.flatnonzero(inside[90 + horn[horn[:, 1].argmin(), 0]])[0]
    ) * 0.125
    assert distance_to_back < 1.3
    assert gray[79:81, 60:100].any(), "the commissure joins both halves"


def test_people_differ_and_stay_within_published_ranges():
    config = DomainConfig(region_weights=(1, 0, 0), empty=0.0, off_centre_mm=0.0)
    _, gray_matter, _ = draw_slices(40, seed=1, size=96, config=config)
    areas = gray_matter.sum(axis=(1, 2)) * 0.25**2
    assert 12 < areas.mean() < 18
    assert 2 < areas.std() < 5
    assert areas.min() > 5
    assert areas.max() < 30


# Acquisition


@pytest.mark.parametrize("grid_mm", [0.5, 0.35, 0.25])
@pytest.mark.parametrize("apodisation", [0.0, 0.5, 1.0])
def test_noise_passes_the_k_space_filter_of_the_image(grid_mm, apodisation):
    bright = np.full((160, 160), 20.0, np.float32)
    scan = Scan(acquired_mm=(0.5, 0.5), grid_mm=grid_mm, noise=0.5, apodisation=apodisation)
    images = [
        acquire(
            bright,
            np.zeros_like(bright),
            0.25,
            scan,
            shape=(60, 60),
            rng=np.random.default_rng(k),
            phase_mm=0.0,
        )
        for k in range(12)
    ]
    noise = np.stack(images) - 20
    assert noise.std() == pytest.approx(0.5, rel=0.03)
    # Wiener and Khinchin: the correlation of neighbours is that of the filter's kernel with itself.
    n = 4096
    frequency = np.fft.fftfreq(n, grid_mm)  # in shares of the highest that 0.5 mm has
    kept = np.abs(frequency) <= 1.0
    window = kept * (1 - apodisation + apodisation * 0.5 * (1 + np.cos(np.pi * frequency)))
    correlation = np.fft.ifft(window**2).real
    expected = correlation[1] / correlation[0]
    for axis in (1, 2):
        pairs = np.take(noise, range(59), axis) * np.take(noise, range(1, 60), axis)
        assert pairs.mean() / noise.var() == pytest.approx(expected, abs=0.06)


# Training slices


def test_slices_shapes_and_ranges(slices):
    images, gray_matter, cord = slices
    assert images.shape == gray_matter.shape == cord.shape == (24, 200, 200)
    assert images.dtype == gray_matter.dtype == cord.dtype == np.float32
    assert np.isfinite(images).all()
    assert 0 <= gray_matter.min() <= gray_matter.max() <= 1
    assert np.all(gray_matter <= cord)
    assert cord.max() <= 1
    assert (images.std(axis=(1, 2)) > 0).all()


def test_a_slice_depends_on_seed_and_index_alone(slices):
    again = draw_slices(2, seed=5, start=3)
    for drawn, expected in zip(again, slices, strict=True):
        np.testing.assert_array_equal(drawn, expected[3:5])
    assert not np.array_equal(draw_slices(1, seed=6)[0], slices[0][:1])


def test_empty_slices():
    _, gray_matter, _ = draw_slices(6, seed=0, size=64, config=DomainConfig(empty=1.0))
    assert gray_matter.max() == 0


def test_cord_stays_in_the_window():
    _, gray_matter, _ = draw_slices(20, seed=2, config=DomainConfig(empty=0.0))
    centres = np.array([np.argwhere(mask > 0.5).mean(axis=0) for mask in gray_matter])
    assert np.abs(centres * 0.25 - 24.875).max() < 14.5
    assert centres.std(axis=0).min() > 5


def test_training_masks_are_marked_in_voxels_of_the_scan(monkeypatch):
    def stripes(*_, shape, **__):
        gray_matter = np.zeros(shape, np.float32)
        gray_matter[20], gray_matter[40:46] = 1, 1
        image = np.ones(shape, np.float32)
        return Drawing(image, gray_matter, np.ones(shape, np.float32), np.zeros(shape, np.float32))

    monkeypatch.setattr(training_slices, "draw_slice", stripes)
    config = DomainConfig(spacing_mm=(2, 2))
    _, gray_matter, cord = draw_slices(8, seed=1, size=64, config=config)
    marked = np.zeros(64, bool)
    marked[36:42] = True
    for mask in gray_matter:
        np.testing.assert_array_equal(mask > 0.5, np.tile(marked[:, None], 64))
    assert cord.min() == 1
    fine = draw_slices(1, seed=1, size=64, config=DomainConfig(spacing_mm=(0.1, 0.1)))[1][0]
    assert fine[16].min() == 1
    assert fine.sum() == 7 * 64


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_gray_matter_can_be_told_from_white(contrast):
    weights = tuple(float(name == contrast) for name in CONTRASTS)
    config = DomainConfig(
        contrast_weights=weights,
        empty=0.0,
        contrast_to_noise=(8, 8),
        spacing_mm=(0.3, 0.3),
        off_centre_mm=0.0,
    )
    images, gray_matter, _ = draw_slices(6, seed=4, size=96, config=config)
    for image, mask in zip(images, gray_matter, strict=True):
        inside = mask > 0.95
        ring = (mask < 0.01) & (np.hypot(*(np.indices(mask.shape) - 47.5)) < 10)
        gap = (image[inside].mean() - np.median(image[ring])) / image[inside].std()
        if contrast == "psir":
            assert gap < -0.3
        elif contrast != "random":
            assert gap > 0.3


# Subjects


def test_subject_images_share_one_grid(subject):
    volumes = (subject.image, subject.gray_matter, subject.cord, subject.mask)
    for volume in volumes:
        assert volume.shape == (64, 64, 4)
        np.testing.assert_array_equal(volume.affine, subject.image.affine)
    assert nib.aff2axcodes(subject.image.affine) == ("L", "A", "S")
    np.testing.assert_allclose(subject.image.header.get_zooms(), (0.5, 0.5, 5.0), rtol=1e-5)
    gray, cord, mask = (np.asarray(volume.dataobj) for volume in volumes[1:])
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, gray > 0.5)
    assert np.all(gray <= cord + 1e-5)
    assert subject.levels == (7, 5, 4, 2)


def test_same_seed_same_bytes(subject):
    again = draw_subject(SMALL, seed=3)
    assert again.image.to_bytes() == subject.image.to_bytes()
    assert draw_subject(SMALL, seed=4).image.to_bytes() != subject.image.to_bytes()


def test_psir_is_inverted():
    for contrast, sign in (("psir", -1), ("t2star", 1)):
        drawn = draw_subject(
            PhantomConfig(
                0.4, 3.0, 64, 2, contrast, contrast_to_noise=(8, 8), off_centre_mm=0.0, artefacts=0.0
            ),
            1,
        )
        image, gray, cord = (np.asarray(v.dataobj) for v in (drawn.image, drawn.gray_matter, drawn.cord))
        white = (cord > 0.99) & (gray < 0.01)
        assert sign * (image[gray > 0.95].mean() - image[white].mean()) > 0


def test_raters_differ_at_the_contour_only(subject):
    masks = [np.asarray(rater.dataobj) for rater in subject.raters(4, white_matter=True)]
    fraction = np.asarray(subject.gray_matter.dataobj)
    scores = [dice(masks[i] == 1, masks[j] == 1) for i in range(4) for j in range(i)]
    assert min(scores) > 0.78
    assert max(scores) < 0.97
    for mask in masks:
        assert mask.dtype == np.uint8
        assert set(np.unique(mask)) == {0, 1, 2}
        assert (mask[fraction > 0.98] == 1).mean() > 0.97
        assert dice(mask == 1, fraction > 0.5) > 0.75
    assert set(np.unique(np.asarray(subject.raters(1)[0].dataobj))) == {0, 1}


def test_sites_are_the_challenges():
    assert {site: (s.spacing_mm, s.slice_thickness_mm) for site, s in SITES.items()} == {
        1: (0.5, 5.0),
        2: (0.5, 5.0),
        3: (0.25, 2.5),
        4: (0.3, 5.0),
    }


def test_subjects_are_replaced_only_by_force_and_all_of_them(tmp_path, monkeypatch, no_space):
    def state():
        return {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    write_challenge_dataset(tmp_path, 2, seed=1, raters=2, sites={1: SMALL})
    (tmp_path / "site1-sc02-image_gmseg.nii.gz").write_text("mine")
    before = state()
    with pytest.raises(
        InputError, match=r"site1-sc01-image.nii.gz: exists; replace all subjects .* with --force"
    ):
        write_challenge_dataset(tmp_path, 1, seed=2, raters=1, sites={2: SMALL})
    with monkeypatch.context() as patch:
        patch.setattr("keras_scgm.datasets.phantom.challenge_layout.nib.save", no_space)
        with pytest.raises(InputError, match=r"writing failed \(No space left on device\)"):
            write_challenge_dataset(tmp_path, 1, seed=2, raters=1, sites={2: SMALL}, force=True)
    assert state() == before
    write_challenge_dataset(tmp_path, 1, seed=2, raters=1, sites={2: SMALL}, force=True)
    assert sorted(state()) == [
        "site1-sc02-image_gmseg.nii.gz",
        "site2-sc01-image.nii.gz",
        "site2-sc01-levels.txt",
        "site2-sc01-mask-r1.nii.gz",
    ]


def test_challenge_layout(tmp_path):
    sites = {1: SMALL, 4: SMALL}
    images = write_challenge_dataset(tmp_path / "a", 1, seed=2, raters=2, unlabelled_per_site=1, sites=sites)
    write_challenge_dataset(tmp_path / "b", 1, seed=2, raters=2, unlabelled_per_site=1, sites=sites)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == [
        f"site{site}-sc{end}"
        for site in (1, 4)
        for end in (
            "01-image.nii.gz",
            "01-levels.txt",
            "01-mask-r1.nii.gz",
            "01-mask-r2.nii.gz",
            "02-image.nii.gz",
            "02-levels.txt",
        )
    ]
    assert [path.name for path in images] == [name for name in names if "image" in name]
    assert (tmp_path / "a" / "site1-sc01-levels.txt").read_text() == "0, 7\n1, 5\n2, 4\n3, 2\n"
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    first = nib.load(images[0])
    mask = nib.load(tmp_path / "a" / "site1-sc01-mask-r1.nii.gz")
    np.testing.assert_array_equal(first.affine, mask.affine)
    assert set(np.unique(np.asarray(mask.dataobj))) == {0, 1, 2}


# Settings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"spacing_mm": 0.0}, r"spacing_mm must be a number from 0.05 to 2, received 0.0"),
        ({"slice_thickness_mm": 99}, r"slice_thickness_mm must be .* received 99"),
        ({"matrix_size": 4}, r"matrix_size must be an integer from 16 to 2048, received 4"),
        ({"n_slices": 0}, r"n_slices must be an integer of at least 1, received 0"),
        ({"contrast": "t1"}, r"contrast must be one of t2star, .* received 't1'"),
        ({"levels": (2, 7)}, r"levels must be the lower end and then the upper end"),
        ({"levels": 3}, r"levels must be two numbers .*, received 3"),
        ({"contrast_to_noise": (0, 1)}, r"contrast_to_noise must be a lower and a higher number above 0"),
        ({"artefacts": 2}, r"artefacts must be a number from 0 to 1, received 2"),
    ],
)
def test_bad_phantom_settings(values, message):
    with pytest.raises(InputError, match=message):
        PhantomConfig(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"spacing_mm": (0.9, 0.1)}, r"spacing_mm must be a lower and a higher number above 0"),
        ({"contrast_weights": (1, 1)}, r"contrast_weights must be 5 shares"),
        ({"region_weights": (0, 0, 0)}, r"region_weights must be shares that are not all 0"),
        ({"off_centre_mm": -1}, r"off_centre_mm must be a number of at least 0, received -1"),
        ({"empty": 1.5}, r"empty must be a number from 0 to 1, received 1.5"),
    ],
)
def test_bad_domain_settings(values, message):
    with pytest.raises(InputError, match=message):
        DomainConfig(**values)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: draw_slices(0, 1), "n must be an integer of at least 1, received 0"),
        (lambda: draw_slices(1, -1), "seed must be an integer of at least 0, received -1"),
        (lambda: draw_slices(1, 1, spacing_mm=3), "spacing_mm must be a number from 0.05 to 2, received 3"),
        (lambda: draw_subject(SMALL, -2), "seed must be an integer of at least 0, received -2"),
        (lambda: write_challenge_dataset("nowhere", 0), "subjects_per_site must be .* received 0"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_at_least_one_rater(subject):
    with pytest.raises(InputError, match="n must be an integer of at least 1, received 0"):
        subject.raters(0)


# Stacks


def test_a_stack_depends_on_seed_and_index_alone():
    stacks = draw_stacks(3, 2, seed=5, size=48)
    for drawn, expected in zip(draw_stacks(1, 2, seed=5, size=48, start=2), stacks, strict=True):
        np.testing.assert_array_equal(drawn, expected[2:])


def test_a_stack_of_one_slice_is_a_slice():
    for stack, slices in zip(draw_stacks(2, 1, 7, size=48), draw_slices(2, 7, size=48), strict=True):
        np.testing.assert_array_equal(stack[:, 0], slices)


def test_neighbours_in_a_stack_are_alike_and_stacks_are_not():
    config = DomainConfig(empty=0.0, region_weights=(1, 0, 0), slice_thickness_mm=(2.0, 4.0))
    images, gray_matter, cord = draw_stacks(6, 3, seed=1, size=96, config=config)
    areas = gray_matter.sum(axis=(2, 3))
    assert areas.min() > 0
    assert (gray_matter <= cord + 1e-6).all()
    # Of neighbours, the areas change by a few percent; people differ by more.
    within = np.abs(np.diff(np.log(areas), axis=1)).mean()
    between = np.abs(np.diff(np.log(areas[:, 0]))).mean()
    assert within < 0.15 < between
    assert not np.array_equal(images[:, 0], images[:, 1])
    # One scan: brightness is that of the stack.
    brightness = images.mean(axis=(2, 3))
    assert np.abs(np.diff(np.log(brightness), axis=1)).max() < 0.2 < np.ptp(np.log(brightness))


def test_cords_end_in_some_stacks_from_below():
    config = DomainConfig(empty=0.3, off_centre_mm=1.0)
    _, _, cord = draw_stacks(12, 3, seed=3, size=48, config=config)
    present = cord.any(axis=(2, 3))
    ends = present.any(axis=1) & ~present.all(axis=1)
    assert ends.any()
    assert (np.diff(present.astype(int), axis=1) >= 0).all()
