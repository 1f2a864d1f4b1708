import itertools
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from header_forms import FORMS

from keras_scgm.datasets import (
    AnnotatedVolume,
    Split,
    check_volumes,
    evenly_spaced_split,
    find_bids,
    find_challenge,
    load_slices,
    paper_split,
    raters,
    smooth_contour,
)
from keras_scgm.datasets.phantom import PhantomConfig, write_challenge_dataset
from keras_scgm.errors import InputError
from keras_scgm.nifti import read_volume
from keras_scgm.slices import SliceConfig, SliceGeometry, measure_intensities, read_windows
from keras_scgm.volume import Volume

SPEC = SliceConfig(window_px=112)
AFFINE = np.diag([-0.5, 0.5, 5, 1.0])
SITES = {
    site: PhantomConfig(0.5, 5.0, 64, n_slices, off_centre_mm=1.0)
    for site, n_slices in ((1, 3), (2, 2), (3, 2))
}


@pytest.fixture(scope="session")
def written(tmp_path_factory) -> Path:
    """Three sites, each with three subjects of four raters and one without labels."""
    folder = tmp_path_factory.mktemp("challenge")
    write_challenge_dataset(folder, subjects_per_site=3, seed=1, unlabelled_per_site=1, sites=SITES)
    return folder


@pytest.fixture
def challenge(written, tmp_path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(written, tmp_path / "challenge"))


def labelled(folder, **settings):
    return [volume for volume in find_challenge(folder, **settings) if volume.masks]


def save(path, data, affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, affine), path)
    return path


def blob(shape=(60, 60, 4), corner=(26, 27), width=6):
    data = np.zeros(shape, np.uint8)
    data[corner[0] : corner[0] + width, corner[1] : corner[1] + width] = 1
    return data


def annotated(folder, *masks, image=None, affine=AFFINE, suffix=".nii.gz", **fields):
    """A volume of noise with the given masks."""
    if image is None:
        image = np.random.default_rng(0).normal(100, 10, masks[0].shape).astype(np.float32)
    paths = [save(folder / f"mask-r{i}{suffix}", mask, affine) for i, mask in enumerate(masks, start=1)]
    return AnnotatedVolume(save(folder / f"image{suffix}", image, affine), tuple(paths), "sub-01", **fields)


# The challenge's layout


def test_challenge_files_are_found_by_site_and_number(written):
    volumes = find_challenge(written)
    assert [volume.subject_id for volume in volumes[:5]] == [
        *(f"site1-sc{number:02d}" for number in range(1, 5)),
        "site2-sc01",
    ]
    assert [len(volume.masks) for volume in volumes] == [4, 4, 4, 0] * 3
    assert volumes[4].site_id == "2"
    assert volumes[4].image == written / "site2-sc01-image.nii.gz"
    assert volumes[4].masks == tuple(written / f"site2-sc01-mask-r{rater}.nii.gz" for rater in range(1, 5))
    assert {volume.label_value for volume in volumes} == {1}
    assert check_volumes(labelled(written)) == ()


def test_training_and_test_folders_side_by_side_are_one_data_set(challenge):
    (challenge / "test").mkdir()
    (challenge / "site1-sc04-image.nii.gz").rename(challenge / "test" / "site1-sc04-image.nii.gz")
    assert len(find_challenge(challenge)) == 12


def test_folder_without_challenge_files_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"nowhere: no such folder; check the path"):
        find_challenge(tmp_path / "nowhere")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "site1-sc01-image.nii.gz").touch()
    with pytest.raises(InputError, match=r": no siteS-scNN-image.nii.gz in it; give the folder"):
        find_challenge(tmp_path)


def test_mask_without_image_is_refused(challenge):
    (challenge / "site2-sc01-image.nii.gz").unlink()
    with pytest.raises(InputError, match=r"site2-sc01-mask-r1.nii.gz: its image is missing; copy the image"):
        find_challenge(challenge)


def test_subject_that_should_be_labelled_is_refused_without_masks(challenge):
    for path in challenge.glob("site3-sc02-mask-*"):
        path.unlink()
    with pytest.raises(
        InputError, match=r"site3-sc02-image.nii.gz: has no mask, though subjects up to 03 are"
    ):
        find_challenge(challenge)


def test_the_same_subject_twice_is_refused(challenge):
    (challenge / "copy").mkdir()
    shutil.copy(challenge / "site1-sc01-image.nii.gz", challenge / "copy")
    with pytest.raises(InputError, match=r"site1-sc01-image.nii.gz: the same as .*; keep one of them"):
        find_challenge(challenge)


def test_missing_rater_is_a_counted_warning(challenge):
    (challenge / "site1-sc02-mask-r3.nii.gz").unlink()
    assert check_volumes(labelled(challenge)) == (
        "fewer raters than 4: 1 in 9 volumes, site1-sc02-image.nii.gz (3)",
    )


# Splits


def test_paper_split_takes_two_subjects_per_site(written):
    volumes = find_challenge(written)
    split = paper_split(volumes)
    assert [volume.site_id for volume in split.validation] == ["1", "1", "2", "2", "3", "3"]
    assert len(split.train) == 3
    assert {v.subject_id for v in split.train}.isdisjoint(v.subject_id for v in split.validation)
    assert paper_split(volumes[::-1]) == split
    assert any(paper_split(volumes, seed).validation != split.validation for seed in range(1, 5))
    assert len(paper_split(volumes, validation_per_site=1).train) == 6


def test_paper_split_keeps_all_volumes_of_a_subject_together():
    volumes = [
        AnnotatedVolume(Path(f"sub-{n}_run-{run}.nii"), (Path("m.nii"),), f"sub-{n}")
        for n in range(5)
        for run in (1, 2)
    ]
    split = paper_split(volumes)
    assert (len(split.train), len(split.validation)) == (6, 4)


def test_paper_split_refuses_what_leaves_nothing_to_train_on(written):
    with pytest.raises(
        InputError, match="3 labelled subjects of site 1, 3 of them for validation leave none"
    ):
        paper_split(find_challenge(written), validation_per_site=3)
    with pytest.raises(InputError, match="none of 1 volumes has a mask"):
        paper_split(find_challenge(written)[3:4])
    with pytest.raises(ValueError, match="validation_per_site must be an integer of at least 1, received 0"):
        paper_split(find_challenge(written), validation_per_site=0)


@pytest.mark.parametrize("place", ["split.json", "../split.json", "runs/split.json"])
def test_split_round_trip(challenge, place):
    (challenge / "runs").mkdir()
    split = paper_split(find_challenge(challenge))
    few = replace(split.train[0], labelled_slices=(0, 2))
    split = replace(split, train=(few, *split.train[1:]))
    split.write(challenge / place)
    assert Split.read(challenge / place) == split
    assert str(challenge) not in (challenge / place).read_text()


def test_split_moves_with_its_folder(challenge):
    paper_split(find_challenge(challenge)).write(challenge / "split.json")
    moved = challenge.rename(challenge.with_name("elsewhere"))
    assert Split.read(moved / "split.json") == paper_split(find_challenge(moved))


@pytest.mark.parametrize("text", ["", "[]", '{"train": [{}]}', '{"folds": []}', '{"train": [1]}'])
def test_what_is_not_a_split_is_refused(tmp_path, text):
    (tmp_path / "split.json").write_text(text)
    with pytest.raises(InputError, match=r"split.json: not a split \(.*\); write it with Split.write"):
        Split.read(tmp_path / "split.json")


def test_missing_split_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"split.json: no such file; write it with Split.write"):
        Split.read(tmp_path / "split.json")


def test_a_subject_is_in_one_part_only(tmp_path):
    volume = AnnotatedVolume(Path("image.nii"), (Path("mask.nii"),), "sub-01")
    part = {name: (replace(volume, labelled_slices=slices),) for name, slices in (("a", (1, 2)), ("b", (3,)))}
    Split(train=part["a"], validation=part["b"])
    with pytest.raises(InputError, match=r"image.nii: subject sub-01 is in train and in test; keep every"):
        Split(train=part["a"], validation=(), test=(volume,))
    with pytest.raises(InputError, match="in train and in validation"):
        Split(train=part["a"], validation=(replace(volume, labelled_slices=(2, 3)),))
    other_run = replace(volume, image=Path("run-2.nii"))
    with pytest.raises(InputError, match="in train and in validation"):
        Split(train=(volume,), validation=(other_run,))
    (tmp_path / "split.json").write_text(
        json.dumps({"train": [_json(volume)], "validation": [_json(other_run)], "test": []})
    )
    with pytest.raises(InputError, match=r"image.nii: subject sub-01 is in train and in validation"):
        Split.read(tmp_path / "split.json")


def _json(volume):
    return {
        "image": str(volume.image),
        "masks": ["mask.nii"],
        "subject_id": volume.subject_id,
        "labelled_slices": None,
    }


def test_few_slices_of_the_ex_vivo_volume():
    split = evenly_spaced_split(4676)
    assert [len(part) for part in split] == [15, 7, 8]
    together = sorted(sum(split, ()))
    assert len(set(together)) == 30
    assert set(np.diff(together)) <= {155, 156}
    assert (together[0], together[-1]) == (77, 4598)
    for part in split:
        steps = np.diff(part)
        assert steps.max() - steps.min() <= 2 * 156 + 1
        assert abs(np.mean(part) - 4676 / 2) < 156


@pytest.mark.parametrize(
    ("n_slices", "counts"), [(30, (15, 7, 8)), (6, (4, 0, 2)), (1, (1, 0, 0)), (7, (1, 1, 1))]
)
def test_few_slices_are_disjoint_and_exist(n_slices, counts):
    split = evenly_spaced_split(n_slices, *counts)
    assert tuple(map(len, split)) == counts
    together = sum(split, ())
    assert len(set(together)) == sum(counts)
    assert set(together) <= set(range(n_slices))


def test_few_slices_of_too_few_are_refused():
    with pytest.raises(ValueError, match="n_slices must be at least the 30 asked for, received 29"):
        evenly_spaced_split(29)
    with pytest.raises(ValueError, match="n_train must be an integer of at least 1, received 0"):
        evenly_spaced_split(100, n_train=0)


# BIDS-like folders


def bids_folder(folder):
    labels = folder / "derivatives" / "labels"
    for subject in ("sub-01", "sub-02", "sub-03"):
        save(folder / subject / "anat" / f"{subject}_T2star.nii.gz", blob().astype(np.float32))
    save(labels / "sub-01" / "anat" / "sub-01_T2star_gmseg.nii.gz", blob())
    for rater in (1, 2):
        save(labels / "sub-02" / "anat" / f"sub-02_T2star_gmseg-rater{rater}.nii.gz", blob())
    save(folder / "derivatives" / "denoised" / "sub-01" / "sub-01_T2star.nii.gz", blob())
    return folder


def test_bids_masks_are_matched_by_the_name_of_the_image(tmp_path):
    volumes = find_bids(bids_folder(tmp_path))
    assert [volume.subject_id for volume in volumes] == ["sub-01", "sub-02", "sub-03"]
    assert [[mask.name for mask in volume.masks] for volume in volumes] == [
        ["sub-01_T2star_gmseg.nii.gz"],
        ["sub-02_T2star_gmseg-rater1.nii.gz", "sub-02_T2star_gmseg-rater2.nii.gz"],
        [],
    ]
    assert volumes[0].image == tmp_path / "sub-01" / "anat" / "sub-01_T2star.nii.gz"
    assert check_volumes(volumes[:2]) == ("fewer raters than 2: 1 in 2 volumes, sub-01_T2star.nii.gz (1)",)


def test_bids_sessions_of_a_subject_are_separate_volumes(tmp_path):
    for session in ("ses-1", "ses-2"):
        stem = f"sub-01_{session}_T2star"
        save(tmp_path / "sub-01" / session / "anat" / f"{stem}.nii.gz", blob())
        save(tmp_path / "derivatives" / "labels" / "sub-01" / session / f"{stem}_gmseg.nii.gz", blob())
    volumes = find_bids(tmp_path)
    assert [volume.subject_id for volume in volumes] == ["sub-01", "sub-01"]
    for volume in volumes:
        assert volume.masks[0].name.startswith(volume.image.name.removesuffix(".nii.gz"))


def test_bids_endings_may_be_in_upper_case_and_hidden_folders_are_not_searched(tmp_path):
    (tmp_path / ".git" / "annex").mkdir(parents=True)
    save(tmp_path / ".git" / "annex" / "sub-09_T2star.nii.gz", blob())
    save(tmp_path / "sub-01_T2star.nii.gz", blob()).rename(tmp_path / "sub-01_T2star.NII.GZ")
    labels = tmp_path / "derivatives" / "labels"
    save(labels / ".git" / "sub-01_T2star_gmseg.nii.gz", blob())
    save(labels / "a.nii.gz", blob()).rename(labels / "sub-01_T2star_gmseg.NII.GZ")
    (volume,) = find_bids(tmp_path)
    assert (volume.image.name, [mask.name for mask in volume.masks]) == (
        "sub-01_T2star.NII.GZ",
        ["sub-01_T2star_gmseg.NII.GZ"],
    )


def test_bids_mismatches_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"no image sub-\*_T2star.nii.gz in it; check the folder"):
        find_bids(tmp_path)
    bids_folder(tmp_path)
    with pytest.raises(InputError, match=r"no mask \*_seg.nii.gz in it; check mask_pattern"):
        find_bids(tmp_path, mask_pattern="*_seg.nii.gz")
    stray = save(tmp_path / "derivatives" / "labels" / "sub-02_T2w_gmseg.nii.gz", blob())
    with pytest.raises(InputError, match=r"sub-02_T2w_gmseg.nii.gz: no image .* or narrow mask_pattern"):
        find_bids(tmp_path)
    stray.unlink()
    save(tmp_path / "sourcedata" / "sub-02_T2star.nii.gz", blob())
    with pytest.raises(InputError, match=r"sub-02_T2star.nii.gz: has the same name as .*; keep one"):
        find_bids(tmp_path)


# Checks before training


def test_nothing_to_train_on_is_refused():
    with pytest.raises(InputError, match="no annotated volume; check the folder and the split"):
        check_volumes([])
    with pytest.raises(InputError, match="no annotated volume"):
        load_slices([], SPEC)


def test_volume_without_mask_is_refused(written):
    with pytest.raises(InputError, match=r"site1-sc04-image.nii.gz: has no mask; add one, or leave out"):
        check_volumes(find_challenge(written))


@pytest.mark.parametrize("kind", ["image", "mask"])
def test_missing_file_is_refused(tmp_path, kind):
    volume = annotated(tmp_path, blob())
    path = volume.image if kind == "image" else volume.masks[0]
    path.unlink()
    with pytest.raises(InputError, match=rf"{path.name}: no such file; check the path"):
        check_volumes([volume])


def test_unreadable_file_is_refused(tmp_path):
    volume = annotated(tmp_path, blob())
    volume.masks[0].write_bytes(b"no image")
    with pytest.raises(InputError, match=r"mask-r1.nii.gz: not a NIfTI file"):
        check_volumes([volume])
    nib.save(nib.MGHImage(blob(), AFFINE), tmp_path / "mask.mgz")
    with pytest.raises(InputError, match=r"mask.mgz: not a NIfTI file"):
        check_volumes([replace(volume, masks=(tmp_path / "mask.mgz",))])


def test_other_shape_is_refused(tmp_path):
    volume = annotated(tmp_path, blob())
    save(volume.masks[0], blob((60, 61, 4)))
    with pytest.raises(
        InputError, match=r"mask-r1.nii.gz: not .* image.nii.gz, 60 x 61 x 4 voxels, not 60 x 60 x 4"
    ):
        check_volumes([volume])


def test_several_frames_are_refused_and_one_frame_is_not(tmp_path):
    volume = annotated(tmp_path, blob())
    save(volume.masks[0], blob()[..., np.newaxis])
    assert check_volumes([volume]) == ()
    save(volume.masks[0], np.stack([blob(), blob()], axis=-1))
    with pytest.raises(InputError, match=r"mask-r1.nii.gz: 60 x 60 x 4 x 2 voxels; keep one frame"):
        check_volumes([volume])


@pytest.mark.parametrize(("shift_mm", "accepted"), [(0.04, True), (0.06, False), (5.0, False)])
def test_affine_may_differ_by_the_tolerance(tmp_path, shift_mm, accepted):
    volume = annotated(tmp_path, blob())
    shifted = AFFINE.copy()
    shifted[0, 3] = shift_mm
    save(volume.masks[0], blob(), shifted)
    if accepted:
        assert check_volumes([volume]) == ()
    else:
        with pytest.raises(
            InputError,
            match=rf"mask-r1.nii.gz: not on the .* image.nii.gz, lies up to {shift_mm:.3g} mm else",
        ):
            check_volumes([volume])


def test_mirrored_mask_is_refused(tmp_path):
    volume = annotated(tmp_path, blob())
    save(volume.masks[0], blob(), np.diag([0.5, 0.5, 5, 1.0]))
    with pytest.raises(
        InputError, match=r"not on the grid of its image image.nii.gz, lies up to 29.5 mm else"
    ):
        check_volumes([volume])


def test_mask_stored_in_another_order_gives_the_same_samples(tmp_path):
    volume = annotated(tmp_path, blob())
    plain = load_slices([volume], SliceConfig())
    mask = nib.load(volume.masks[0])
    turned = mask.as_reoriented(nib.orientations.axcodes2ornt(("S", "P", "R")))
    nib.Nifti1Image(np.asarray(turned.dataobj), turned.affine).to_filename(volume.masks[0])
    np.testing.assert_array_equal(load_slices([volume], SliceConfig()).masks, plain.masks)


def without_orientation(path):
    image = nib.load(path)
    image = nib.Nifti1Image(np.asarray(image.dataobj), None, image.header)
    image.set_sform(None, code=0)
    image.set_qform(None, code=0)
    nib.save(image, path)


def test_file_without_orientation(tmp_path):
    volume = annotated(tmp_path, blob())
    expected = load_slices([volume], SPEC)
    without_orientation(volume.masks[0])
    loaded = load_slices([volume], SPEC)
    assert loaded.warnings == (
        "mask without orientation, taken as stored like its image: 1 in 1 volumes, mask-r1.nii.gz",
    )
    np.testing.assert_array_equal(loaded.masks, expected.masks)
    without_orientation(volume.image)
    with pytest.raises(InputError, match=r"image.nii.gz: qform and sform codes are both 0.*mend the header"):
        check_volumes([volume])


def test_labelled_slices_must_exist(tmp_path):
    volume = annotated(tmp_path, blob(), labelled_slices=(1, 4))
    with pytest.raises(
        InputError, match=r"image.nii.gz: labelled slice 4 does not exist; it has slices 0 to 3"
    ):
        check_volumes([volume])
    for wrong in ((), (-1, 2), (1, 1)):
        with pytest.raises(ValueError, match="labelled_slices must be different indices from 0, received"):
            replace(volume, labelled_slices=wrong)


def test_mask_without_the_label_is_refused(tmp_path):
    volume = annotated(tmp_path, 2 * blob(), label_value=1)
    assert check_volumes([volume]) == ()
    with pytest.raises(InputError, match=r"mask-r1.nii.gz: no voxel is 1, it holds 0, 2; set label_value"):
        load_slices([volume], SPEC)
    empty = blob()
    empty[..., 1] = 0
    volume = annotated(tmp_path, empty, labelled_slices=(1,))
    with pytest.raises(InputError, match="no voxel is not zero in the labelled slices, it holds 0;"):
        load_slices([volume], SPEC)


def test_soft_mask_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"mask-r1.nii.gz: holds fractions, not labels; cut it at 0.5"):
        load_slices([annotated(tmp_path, blob() * np.float32(0.4))], SPEC)


# Loading


def test_slices_are_those_of_inference(written):
    volume = labelled(written)[0]
    loaded = load_slices([volume], SPEC)
    assert (loaded.images.dtype, loaded.masks.dtype) == (np.float32, np.float32)
    assert loaded.images.shape == loaded.masks.shape == (12, 112, 112, 1)
    assert loaded.warnings == ()
    image = read_volume(volume.image)
    geometry = SliceGeometry.centered(image, SPEC)
    expected = read_windows(image, geometry, measure_intensities(image, geometry), 0, 3)
    for rater, path in enumerate(volume.masks):
        of_rater = loaded.rater_indices == rater
        assert loaded.slice_indices[of_rater].tolist() == [0, 1, 2]
        np.testing.assert_array_equal(loaded.images[of_rater], expected)
        label = np.moveaxis(np.asarray(nib.load(path).dataobj) == 1, 2, 0)
        np.testing.assert_allclose(loaded.masks[of_rater, ..., 0], geometry.to_windows(label, 0), atol=1e-6)
    assert loaded.masks.min() == 0
    assert loaded.masks.max() == 1
    assert 0 < loaded.masks.mean() < 0.1


def test_indices_name_volume_rater_and_slice(written):
    volumes = [*labelled(written)[:1], *labelled(written)[-1:]]
    loaded = load_slices(volumes, SPEC)
    assert len(loaded) == 4 * 3 + 4 * 2
    keys = set(zip(loaded.volume_indices, loaded.rater_indices, loaded.slice_indices, strict=True))
    assert keys == {(v, r, s) for v, n in ((0, 3), (1, 2)) for r in range(4) for s in range(n)}
    alone = load_slices(volumes[1:], SPEC)
    np.testing.assert_array_equal(loaded.images[loaded.volume_indices == 1], alone.images)
    np.testing.assert_array_equal(loaded.masks[loaded.volume_indices == 1], alone.masks)


def test_label_value_chooses_what_is_gray_matter(written):
    gray = load_slices(labelled(written)[:1], SPEC)
    white = load_slices(labelled(written, label_value=2)[:1], SPEC)
    both = load_slices(labelled(written, label_value=None)[:1], SPEC)
    np.testing.assert_allclose(gray.masks + white.masks, both.masks, atol=1e-6)
    (warning,) = both.warnings
    assert warning.startswith(
        "mask with several labels, all taken as gray matter; set label_value to choose: 4"
    )


@pytest.mark.parametrize("codes", ["LAS", "RPI", "SAL", "PSR"])
def test_labelled_slices_are_counted_as_stored(tmp_path, codes):
    rng = np.random.default_rng(5)
    image, mask = rng.normal(100, 10, (60, 62, 5)).astype(np.float32), blob((60, 62, 5))
    mask[..., 4] = 0
    transform = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("LAS"), nib.orientations.axcodes2ornt(codes)
    )
    canonical = annotated(tmp_path / "canonical", mask, image=image)
    paths = []
    for path in (canonical.image, *canonical.masks):
        paths.append(tmp_path / path.name)
        nib.save(nib.load(path).as_reoriented(transform), paths[-1])
    stored = AnnotatedVolume(paths[0], (paths[1],), "sub-01")
    expected, loaded = load_slices([canonical], SPEC), load_slices([stored], SPEC)
    assert loaded.warnings[0].endswith("image.nii.gz (1)")
    order = np.argsort(loaded.slice_indices) if "S" in codes else np.argsort(-loaded.slice_indices)
    np.testing.assert_allclose(loaded.images[order], expected.images, atol=1e-4)
    np.testing.assert_allclose(loaded.masks[order], expected.masks, atol=1e-4)
    few = load_slices([replace(stored, labelled_slices=(3, 1))], SPEC)
    for index in (1, 3):
        one, of_all = few.slice_indices == index, loaded.slice_indices == index
        np.testing.assert_array_equal(few.images[one], loaded.images[of_all])
        np.testing.assert_array_equal(few.masks[one], loaded.masks[of_all])


def test_only_the_needed_slices_of_a_long_volume_are_read(tmp_path, monkeypatch):
    shape = (30, 30, 1000)
    ramp = np.broadcast_to(np.arange(1000, dtype=np.int16), shape).copy()
    ramp[1::2, 1::2] += 1
    volume = annotated(
        tmp_path, blob(shape, (12, 12)), image=ramp, suffix=".nii", labelled_slices=(10, 500, 901)
    )
    read = []
    view_slices = Volume.view_slices

    def recorded(self, start, stop):
        read.extend((Path(self.source).name, k) for k in range(start, stop))
        return view_slices(self, start, stop)

    monkeypatch.setattr(Volume, "view_slices", recorded)
    loaded = load_slices([volume], SliceConfig(window_px=40))
    assert loaded.slice_indices.tolist() == [10, 500, 901]
    assert sorted(k for name, k in read if name == "mask-r1.nii") == [10, 500, 901]
    assert len(read) == 3 + 3 + 64
    # The z-score is that of the whole volume, from a sample of it.
    np.testing.assert_allclose(
        loaded.images[:, 0, 0, 0], (np.array([10, 500, 901]) - 499.75) / 288.7, atol=0.05
    )


def test_window_moves_only_if_it_would_cut_the_gray_matter(tmp_path):
    config = SliceConfig(spacing_mm=0.5, window_px=32)
    middle = annotated(tmp_path / "middle", blob((100, 100, 4), (47, 47)))
    assert load_slices([middle], config).warnings == ()
    mask = blob((100, 100, 4), (70, 20))
    mask[..., 1] = 0
    mask[..., 2] = np.roll(mask[..., 2], 4, axis=0)
    aside = annotated(tmp_path / "aside", mask, mask)
    loaded = load_slices([aside], config, "majority")
    assert loaded.warnings == (
        "slices without any label, taken as free of gray matter; if not, set labelled_slices: "
        "1 in 1 volumes, image.nii.gz (1)",
        "window moved onto the gray matter, which the middle of the image would cut: "
        "1 in 1 volumes, image.nii.gz",
    )
    image = np.asarray(nib.load(aside.image).dataobj)
    assert loaded.masks.sum(axis=(1, 2, 3)).tolist() == [36, 0, 36, 36]
    for index, start in enumerate((57, 59, 61, 57)):
        part = image[start : start + 32, 7:39, index]
        likeness = np.corrcoef(loaded.images[index].ravel(), part.ravel())[0, 1]
        assert likeness == pytest.approx(1, abs=1e-5), index


def test_gray_matter_wider_than_the_window_is_a_warning(tmp_path):
    volume = annotated(tmp_path, blob(width=20))
    loaded = load_slices([volume], SliceConfig(spacing_mm=0.5, window_px=16))
    assert loaded.warnings[-1].startswith(
        "slices with gray matter wider than the window of 16 pixels: 1 in 1"
    )


def test_volumes_whose_header_contradicts_itself_are_named(tmp_path):
    volume = annotated(tmp_path, blob())
    build, (warning,) = FORMS["5 degrees"]
    noise = np.random.default_rng(0).normal(100, 10, (60, 60, 4))
    volume = replace(volume, image=tmp_path / "image.nii")
    volume.image.write_bytes(build(noise))
    assert load_slices([volume], SPEC).warnings == (f"{warning}: 1 in 1 volumes, image.nii",)


def test_bad_intensities_are_counted_warnings(tmp_path):
    image = np.full((60, 60, 4), 7, np.float32)
    constant = annotated(tmp_path / "constant", blob(), image=image)
    holed = np.random.default_rng(0).normal(size=image.shape).astype(np.float32)
    holed[30, 30, 2] = np.nan
    loaded = load_slices([constant, annotated(tmp_path / "holed", blob(), image=holed)], SPEC)
    assert loaded.warnings == (
        "image constant inside the window: 1 in 2 volumes, image.nii.gz",
        "NaN or infinite voxels, each was given the mean of its slice: 1 in 2 volumes, image.nii.gz",
    )
    assert np.isfinite(loaded.images).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"raters": "best"}, "raters must be one of all, random, majority, staple, mean, received 'best'"),
        (
            {"contour_smoothing_mm": -1.0},
            "contour_smoothing_mm must be a number of at least 0, received -1.0",
        ),
        (
            {"contour_smoothing_mm": float("nan")},
            "contour_smoothing_mm must be a number of at least 0, received nan",
        ),
        ({"seed": -1}, "seed must be an integer from 0 to 4294967295, received -1"),
    ],
)
def test_settings_out_of_range_are_refused_before_any_file(settings, message):
    volume = AnnotatedVolume(Path("nowhere.nii"), (Path("nowhere.nii"),), "sub-01")
    with pytest.raises(ValueError, match=message):
        load_slices([volume], SPEC, **settings)


# Raters


def three_masks():
    """Disagreement on the columns 26, 27 and 28."""
    masks = [blob() for _ in range(3)]
    masks[0][26] = 0
    masks[1][26:28] = 0
    masks[2][26:29] = 0
    return masks


def test_rater_modes_on_masks_of_known_size(tmp_path):
    config = SliceConfig(spacing_mm=0.5, window_px=40)
    volume = annotated(tmp_path, *three_masks())
    area = {
        mode: load_slices([volume], config, mode).masks.sum(axis=(1, 2, 3))
        for mode in ("all", "random", "majority", "mean")
    }
    assert area["all"].tolist() == area["random"].tolist() == [30] * 4 + [24] * 4 + [18] * 4
    assert area["majority"].tolist() == [24] * 4
    np.testing.assert_allclose(area["mean"], [24] * 4)
    mean = load_slices([volume], config, "mean")
    assert mean.rater_indices.tolist() == [-1] * 4
    assert mean.slice_indices.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(np.unique(mean.masks), [0, 1 / 3, 2 / 3, 1], atol=1e-6)


def test_random_shows_one_rater_of_each_slice_per_epoch(tmp_path):
    loaded = load_slices([annotated(tmp_path, *three_masks())], SPEC, "random", seed=4)
    epochs = [loaded.samples_of_epoch(epoch) for epoch in range(60)]
    for samples in epochs:
        assert sorted(loaded.slice_indices[samples]) == [0, 1, 2, 3]
    np.testing.assert_array_equal(epochs[7], loaded.samples_of_epoch(7))
    shown = np.bincount(np.concatenate(epochs), minlength=12)
    assert shown.min() >= 8
    assert any((a != b).any() for a, b in itertools.pairwise(epochs))
    other = replace(loaded, seed=5)
    assert any((samples != other.samples_of_epoch(epoch)).any() for epoch, samples in enumerate(epochs))
    assert replace(loaded, raters="all").samples_of_epoch(3).tolist() == list(range(12))


def test_majority_of_four_needs_three():
    votes = np.arange(5)[:, None] > np.arange(4)
    assert raters.majority(votes.T).tolist() == [False, False, False, True, True]


def test_staple_outvotes_the_rater_who_is_off():
    pytest.importorskip("SimpleITK")
    x, y = np.meshgrid(np.arange(40), np.arange(40))
    distance = np.hypot(x - 20, y - 20)
    masks = np.stack([np.stack([distance < radius] * 3) for radius in (8, 8.5, 9, 5)])
    consensus = raters.staple(masks)
    assert consensus.dtype == bool
    np.testing.assert_array_equal(consensus, masks[1])
    nothing = np.zeros((2, 1, 8, 8), bool)
    assert not raters.staple(nothing).any()
    np.testing.assert_array_equal(raters.fuse(masks[:1], "staple"), masks[:1])


def test_staple_without_simpleitk_is_refused_before_any_file(monkeypatch):
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    volume = AnnotatedVolume(Path("nowhere.nii"), (Path("nowhere.nii"),), "sub-01")
    with pytest.raises(
        InputError, match="raters='staple' needs SimpleITK; install it with pip install Simple"
    ):
        load_slices([volume], SPEC, "staple")


# Contour smoothing


@pytest.mark.parametrize("width_mm", [1.0, 2.0, 3.5])
def test_smoothed_disc_follows_the_signed_distance(width_mm):
    spacing_mm, radius_mm = (0.1, 0.1), 6.0
    axis = (np.arange(201) - 100) * 0.1
    inside_mm = radius_mm - np.hypot(axis[:, None], axis)
    smooth = smooth_contour(inside_mm > 0, spacing_mm, width_mm)
    assert smooth.dtype == np.float32
    expected = np.clip(0.5 + inside_mm / width_mm, 0, 1)
    # The contour of the voxels is a staircase within a voxel of the circle.
    np.testing.assert_allclose(smooth, expected, atol=0.1 / width_mm)
    assert abs(smooth - expected).mean() < 0.01
    np.testing.assert_array_equal(smooth[inside_mm > width_mm / 2 + 0.1], 1)
    np.testing.assert_array_equal(smooth[inside_mm < -width_mm / 2 - 0.1], 0)


@pytest.mark.parametrize("axis", [0, 1])
def test_smoothed_edge_is_exact_on_uneven_voxels(axis):
    spacing_mm = (0.5, 0.8)
    mask = np.zeros((12, 12), bool)
    mask[(slice(None),) * axis + (slice(6, None),)] = True
    smooth = smooth_contour(mask, spacing_mm, width_mm=3.0)
    along_mm = (np.arange(12) - 5.5) * spacing_mm[axis]
    profile = np.clip(0.5 + along_mm / 3.0, 0, 1)
    expected = np.broadcast_to(profile if axis else profile[:, None], mask.shape)
    np.testing.assert_allclose(smooth, expected, atol=1e-6)


def test_smoothing_does_not_depend_on_the_field_of_view():
    mask = np.zeros((50, 50), bool)
    mask[20:25, 18:30] = True
    smooth = smooth_contour(mask, (0.5, 0.5), 2.0)
    np.testing.assert_array_equal(smooth_contour(mask[10:40, 10:40], (0.5, 0.5), 2.0), smooth[10:40, 10:40])


def test_smoothing_leaves_alone_what_has_no_contour():
    for mask in (np.zeros((5, 5), bool), np.ones((5, 5), bool), np.eye(5, dtype=bool)):
        np.testing.assert_array_equal(smooth_contour(mask, (0.5, 0.5), 0.0), mask)
    np.testing.assert_array_equal(smooth_contour(np.ones((5, 5), bool), (0.5, 0.5), 3.0), 1)
    np.testing.assert_array_equal(smooth_contour(np.zeros((5, 5), bool), (0.5, 0.5), 3.0), 0)
    with pytest.raises(ValueError, match="width_mm must be a number of at least 0, received -1"):
        smooth_contour(np.ones((5, 5), bool), (0.5, 0.5), -1)


@pytest.mark.parametrize("mode", ["all", "majority", "mean"])
def test_smoothed_targets_keep_their_area(written, mode):
    volume = labelled(written)[0]
    sharp = load_slices([volume], SPEC, mode).masks
    smooth = load_slices([volume], SPEC, mode, contour_smoothing_mm=1.5).masks
    assert smooth.min() >= 0
    assert smooth.max() <= 1
    assert 0.8 < smooth.sum() / sharp.sum() < 1.25
    between = [np.count_nonzero((masks > 0.01) & (masks < 0.99)) for masks in (sharp, smooth)]
    assert between[1] > 1.3 * between[0]
