"""The files of a result: names, content, replacement and resumption."""

import csv
import json

import nibabel as nib
import numpy as np
import pytest

import keras_scgm.outputs
from keras_scgm import InputError, segment
from keras_scgm.files import check_writable, sha256_of
from keras_scgm.outputs import OutputPaths, finished_record, write_outputs


@pytest.fixture
def result(blob_image, bright_network):
    return segment(blob_image(), bright_network, uncertainty_passes=2)


def test_names_share_the_stem_of_the_mask(tmp_path):
    paths = OutputPaths.for_input(tmp_path / "sub-01_T2star.nii.gz")
    assert [path.name for path in paths.own] == [
        "sub-01_T2star_gmseg.nii.gz",
        "sub-01_T2star_gmseg_area.csv",
        "sub-01_T2star_gmseg_qc.png",
        "sub-01_T2star_gmseg_uncertainty.nii.gz",
        "sub-01_T2star_gmseg.dcm",
        "sub-01_T2star_gmseg.json",
    ]
    assert OutputPaths.for_input(tmp_path / "a.nii", tmp_path / "out").mask == tmp_path / "out/a_gmseg.nii.gz"
    others = [tmp_path / f"sub-01_T2star{ending}.nii.gz" for ending in ("_wmseg", "_seg")]
    assert paths.of_cord(is_given=False) == tuple(others)
    assert paths.of_cord(is_given=True) == (others[0],)
    named = OutputPaths(tmp_path / "m.nii")
    assert [path.name for path in named.of_cord(is_given=False)] == ["m_wmseg.nii", "m_seg.nii"]


@pytest.mark.parametrize("soft", [False, True])
def test_three_tissues_are_written(tmp_path, nested_discs, cord_network, soft):
    result = segment(nested_discs()[0], cord_network)
    paths = OutputPaths(tmp_path / "a_gmseg.nii.gz")
    write_outputs(result, paths, soft)
    gray, white, cord = (
        np.asarray(nib.load(tmp_path / f"a_{name}.nii.gz").dataobj) for name in ("gmseg", "wmseg", "seg")
    )
    assert {array.dtype for array in (gray, white, cord)} == {np.dtype(np.float32 if soft else np.uint8)}
    np.testing.assert_allclose(gray + white, cord, atol=1e-6)
    expected = result.cord_probabilities if soft else result.cord
    np.testing.assert_array_equal(cord, np.asarray(expected.dataobj))
    record = json.loads(paths.record.read_text())
    assert {"a_wmseg.nii.gz", "a_seg.nii.gz"} <= set(record["files"])
    assert record["output_tissues"] == "all"
    with open(paths.areas, newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        gm, wm, whole, ratio = (
            float(row[name]) for name in ("area_mm2", "wm_area_mm2", "cord_area_mm2", "gm_cord_ratio")
        )
        assert gm + wm == pytest.approx(whole, abs=0.0015)
        assert ratio == pytest.approx(gm / whole, abs=1e-3)


def test_gray_matter_alone_leaves_the_files_of_others(tmp_path, nested_discs, cord_network):
    """A cord that another program or a person made is not touched; an earlier result's own goes."""
    result = segment(nested_discs()[0], cord_network)
    paths = OutputPaths(tmp_path / "a_gmseg.nii.gz")
    paths.cord.write_bytes(b"by hand")
    write_outputs(result, paths, gray_matter_alone=True)
    assert not paths.white_matter.exists()
    assert paths.cord.read_bytes() == b"by hand"
    assert json.loads(paths.record.read_text())["output_tissues"] == "gm"
    write_outputs(result, paths)
    assert paths.white_matter.exists()
    write_outputs(result, paths, gray_matter_alone=True)
    assert not paths.white_matter.exists()
    assert not paths.cord.exists()


def test_everything_is_written(tmp_path, result):
    paths = OutputPaths(tmp_path / "new" / "m.nii.gz")
    write_outputs(result, paths)
    assert sorted(path.name for path in paths.mask.parent.iterdir()) == sorted(
        path.name for path in paths.own if path != paths.dicom
    )
    mask = nib.load(paths.mask)
    assert mask.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(mask.dataobj), np.asarray(result.mask.dataobj))
    record = json.loads(paths.record.read_text())
    assert record["output"] == "mask"
    assert set(record["files"]) == {
        path.name for path in paths.own if path not in (paths.record, paths.dicom)
    }
    assert record["weights"][0]["name"] == "bright"
    with open(paths.areas, newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5
    assert [float(row["area_mm2"]) for row in rows] == pytest.approx(
        [area.area_mm2 for area in result.areas], abs=1e-3
    )
    assert paths.picture.read_bytes().startswith(b"\x89PNG")


def test_soft_output_is_float32(tmp_path, result):
    paths = OutputPaths(tmp_path / "m.nii")
    write_outputs(result, paths, soft=True)
    image = nib.load(paths.mask)
    assert image.get_data_dtype() == np.float32
    np.testing.assert_array_equal(np.asarray(image.dataobj), np.asarray(result.probabilities.dataobj))
    assert json.loads(paths.record.read_text())["output"] == "probabilities"


def test_finished_means_the_same_way_and_all_files(tmp_path, result):
    paths = OutputPaths(tmp_path / "m.nii.gz")
    like = {"output": "mask", "settings": result.record["settings"], "weights": result.record["weights"]}
    assert not finished_record(paths, like)
    write_outputs(result, paths)
    assert finished_record(paths, like)
    assert not finished_record(paths, {**like, "output": "probabilities"})
    paths.areas.unlink()
    assert not finished_record(paths, like)
    for damaged in ("{", "[" * 100_000):
        paths.record.write_text(damaged)
        assert not finished_record(paths, like)


def test_a_full_disk_leaves_nothing_behind(tmp_path, result, full_disk):
    paths = OutputPaths(tmp_path / "m.nii.gz")
    paths.areas.write_text("old")
    with full_disk(), pytest.raises(InputError, match=r"writing failed \(File too large\); free space"):
        write_outputs(result, paths)
    assert [path.name for path in tmp_path.iterdir()] == ["m_area.csv"]
    assert paths.areas.read_text() == "old"


def test_an_uncertainty_map_of_an_earlier_result_goes_with_it(tmp_path, result, blob_image, bright_network):
    paths = OutputPaths(tmp_path / "m.nii.gz")
    write_outputs(result, paths)
    assert paths.uncertainty.is_file()
    write_outputs(segment(blob_image(), bright_network), paths)
    assert sorted(tmp_path.iterdir()) == sorted(set(paths.own) - {paths.uncertainty, paths.dicom})


def test_a_picture_that_cannot_be_replaced_keeps_the_earlier_result(tmp_path, result):
    paths = OutputPaths(tmp_path / "m.nii.gz")
    write_outputs(result, paths)
    paths.picture.unlink()
    paths.picture.mkdir()
    before = {path: path.read_bytes() for path in paths.own if path.is_file()}
    with pytest.raises(
        InputError, match=r"m_qc.png: cannot be replaced \(Is a directory\); move it away, or choose"
    ):
        write_outputs(result, paths, soft=True)
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_no_space_left_is_said_so(tmp_path, result, monkeypatch, no_space):
    monkeypatch.setattr(keras_scgm.outputs, "write_areas", no_space)
    for folder in (tmp_path, tmp_path / "new" / "deep"):
        with pytest.raises(InputError, match=r"writing failed \(No space left on device\)"):
            write_outputs(result, OutputPaths(folder / "m.nii.gz"))
    assert not list(tmp_path.iterdir())


def test_folders_that_take_no_files_are_found_before_the_work(tmp_path, result):
    file = tmp_path / "file"
    file.write_text("")
    for folder in (file, file / "below"):
        with pytest.raises(InputError, match="cannot write there"):
            check_writable(folder)
    with pytest.raises(InputError, match="writing failed"):
        write_outputs(result, OutputPaths(file / "m.nii.gz"))
    check_writable(tmp_path / "not" / "yet" / "there")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_hash_is_of_the_bytes(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256_of(tmp_path / "x").startswith("ba7816bf8f01cfea")
