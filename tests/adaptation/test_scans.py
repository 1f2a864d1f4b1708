"""Which scans are learned from and which the guard keeps, rescans, labels, and the slices of scans."""

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from keras_scgm.adaptation import Scans, find_scans
from keras_scgm.adaptation.scans import read_real_slices
from keras_scgm.errors import InputError
from keras_scgm.prediction import Ensemble


def names(paths) -> list[str]:
    return [path.name for path in paths]


def test_rescans_are_found_by_name(scan_folder: Path) -> None:
    scans, notes = find_scans(scan_folder)
    assert names(scans.images) == ["a_rescan.nii.gz", "a_scan.nii.gz", "b.nii.gz", "c.nii.gz"]
    assert [names(pair) for pair in scans.rescans] == [["a_rescan.nii.gz", "a_scan.nii.gz"]]
    assert notes == ()


def test_runs_of_bids_are_rescans(tmp_path: Path) -> None:
    for name in (
        "sub-1_run-1_T2starw",
        "sub-1_run-02_T2starw",
        "sub-2_run-1_T2starw",
        "sub-12_T2starw",
        "scanner",
    ):
        (tmp_path / f"{name}.nii.gz").touch()
    scans, _ = find_scans(tmp_path)
    assert [names(pair) for pair in scans.rescans] == [
        ["sub-1_run-02_T2starw.nii.gz", "sub-1_run-1_T2starw.nii.gz"]
    ]


def test_rescans_of_a_table(scan_folder: Path) -> None:
    table = scan_folder / "pairs.csv"
    # With the byte order mark of spreadsheets.
    table.write_text("\ufeffscan,rescan\nb.nii.gz,c.nii.gz\n", encoding="utf-8")
    scans, _ = find_scans(scan_folder, rescans=table)
    assert scans.rescans == ((scan_folder / "b.nii.gz", scan_folder / "c.nii.gz"),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("scan\nb.nii.gz\n", "needs the columns scan and rescan"),
        ("scan,rescan\nb.nii.gz\n", "needs the columns scan and rescan"),
        ("scan,rescan\n", "names no rescan"),
        ("scan,rescan\nb.nii.gz,d.nii.gz\n", "no such file as its .*d.nii.gz"),
        ("\udcff", "not a text in UTF-8; save it as UTF-8"),
        ("scan,rescan\n" + 200_000 * "a", "cannot be read as a CSV table"),
    ],
)
def test_a_wrong_table_is_refused(scan_folder: Path, text: str, message: str) -> None:
    table = scan_folder / "pairs.csv"
    table.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=rf"pairs.csv: {message}"):
        find_scans(scan_folder, rescans=table)


def test_scan_and_rescan_stay_together(scan_folder: Path) -> None:
    scans, _ = find_scans(scan_folder)
    splits = [scans.split(0.3, seed) for seed in range(8)]
    for learned, held_back in splits:
        assert sorted((*learned, *held_back)) == list(scans.images)
        pair = {"a_scan.nii.gz", "a_rescan.nii.gz"}
        assert len(pair & set(names(held_back))) in (0, 2)
        assert len({name[0] for name in names(held_back)}) == 1
    assert len(set(splits)) == 3
    assert scans.split(0.3, 5) == splits[5]


def test_most_are_never_held_back_and_one_always_is(scan_folder: Path) -> None:
    scans, _ = find_scans(scan_folder)
    assert {path.name[0] for path in scans.split(0.99, 0)[0]} < set("abc")
    assert len(scans.split(0.0, 0)[1]) >= 1
    alone = Scans(scans.images[2:3])
    assert alone.split(0.25, 0) == (alone.images, alone.images)


def test_labels_belong_to_the_image_whose_name_they_begin_with(scan_folder: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    image = nib.load(scan_folder / "b.nii.gz")
    mask = np.zeros(image.shape, np.uint8)
    mask[38:42, 36:40, [0, 2]] = 1
    nib.save(nib.Nifti1Image(mask, image.affine), few / "b_gmseg.nii.gz")
    scans, _ = find_scans(scan_folder, few)
    assert [(names([volume.image]), volume.labelled_slices) for volume in scans.labelled] == [
        (["b.nii.gz"], (0, 2))
    ]
    assert all("b.nii.gz" in names(scans.split(0.5, seed)[0]) for seed in range(6))
    nib.save(nib.Nifti1Image(0 * mask, image.affine), few / "c_gmseg.nii.gz")
    with pytest.raises(InputError, match=r"c_gmseg.nii.gz: no voxel is marked"):
        find_scans(scan_folder, few)
    (few / "c_gmseg.nii.gz").rename(few / "d_gmseg.nii.gz")
    with pytest.raises(InputError, match=r"d_gmseg.nii.gz: the beginning of its name is that of no image"):
        find_scans(scan_folder, few)


def test_folders_without_images_or_masks_are_refused(scan_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no mask of an image in it"):
        find_scans(scan_folder, tmp_path / "empty")
    with pytest.raises(InputError, match="no such folder"):
        find_scans(scan_folder, tmp_path / "none")
    with pytest.raises(InputError, match=r"empty: no .nii or .nii.gz file in it"):
        find_scans(tmp_path / "empty")


def test_slices_are_those_of_segmentation(scan_folder: Path, start_weights: Path) -> None:
    paths = [scan_folder / "b.nii.gz", scan_folder / "c.nii.gz"]
    real = read_real_slices(paths, Ensemble(str(start_weights)))
    assert real.images.shape == (6, 72, 72, 1)
    assert real.images.dtype == np.float32
    assert real.scans.tolist() == [0, 0, 0, 1, 1, 1]
    assert abs(float(real.images[:3].mean())) < 1e-5
    # The disc is in the middle of the image, and the window in the middle, too.
    assert np.abs(real.centers - 35.5).max() < 1.5
    brightest = real.images[0, ..., 0] > real.images[0].max() - 0.5
    assert np.abs(np.argwhere(brightest).mean(axis=0) - real.centers[0]).max() < 1


def test_a_scan_without_a_cord_is_left_out(
    scan_folder: Path, start_weights: Path, blob_image: Callable[..., nib.Nifti1Image]
) -> None:
    noise = blob_image(shape=(80, 76, 3), radius_mm=0.0)
    noise.dataobj[0, 0, 0] = 200
    nib.save(noise, scan_folder / "noise.nii.gz")
    networks = Ensemble(str(start_weights))
    real = read_real_slices([scan_folder / "noise.nii.gz", scan_folder / "b.nii.gz"], networks)
    assert real.names == ("b.nii.gz",)
    assert real.warnings == (
        f"{scan_folder / 'noise.nii.gz'}: the weights find no cord in it; it is left out",
    )
    with pytest.raises(InputError, match="no cord was found in any of the 1 scans"):
        read_real_slices([scan_folder / "noise.nii.gz"], networks)
