"""A served result beside that of `keras-scgm segment`."""

import csv
import gzip
import hashlib
import json
from dataclasses import fields

import keras_scgm_client.outputs as client_outputs
import keras_scgm_devserver as dev_server
import nibabel as nib
import numpy as np
import pytest
from keras_scgm_client import Client
from keras_scgm_client.answer import Answer, Findings, SliceRow
from keras_scgm_client.images import read_image
from keras_scgm_client.results import Result
from PIL import Image
from unchecked_export import as_exported, export_unchecked

from keras_scgm import segment
from keras_scgm.outputs import OutputPaths, write_outputs
from keras_scgm_cli.main import main as command_main


@pytest.fixture(scope="module", params=["bright_network", "cord_network"])
def network(request):
    """A network of gray matter alone, and one of the cord, too."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def models(tmp_path_factory, cord_network):
    folder = tmp_path_factory.mktemp("models")
    with as_exported():
        # A graph that does not look for the cord is half as large.
        export_unchecked(cord_network, folder, window="center")
        return dev_server.Catalogue.load(folder)


MADE_ALIKE = (
    "weights",
    "tissues",
    "threshold",
    "slices",
    "shape",
    "orientation",
    "axial_axis",
    "window_moved",
    "warnings",
    "output",
    "output_tissues",
    "files",
    "input_sha256",
)
CLOSE = (
    "spacing_mm",
    "intensity_mean",
    "intensity_std",
    "gray_matter_volume_mm3",
    "removed_away_from_cord_mm3",
)


OF_CORD = ("white_matter_volume_mm3", "cord_volume_mm3")


def stored(image, codes):
    start = nib.io_orientation(image.affine)
    return image.as_reoriented(
        nib.orientations.ornt_transform(start, nib.orientations.axcodes2ornt(tuple(codes)))
    )


def check_same(got, expected):
    """That two results hold the same: masks, table as far as the server measures, picture and record."""
    masks = sorted(path.name for path in expected.mask.parent.glob("*.nii.gz"))
    assert sorted(path.name for path in got.mask.parent.glob("*.nii.gz")) == masks
    for name in masks:
        mine, theirs = (gzip.decompress(paths.mask.with_name(name).read_bytes()) for paths in (got, expected))
        assert mine == theirs, name
    mine, theirs = (list(csv.reader(paths.areas.read_text().splitlines())) for paths in (got, expected))
    assert mine == [row[: len(client_outputs.AREA_COLUMNS)] for row in theirs]
    with Image.open(got.picture) as mine, Image.open(expected.picture) as theirs:
        np.testing.assert_array_equal(np.asarray(mine), np.asarray(theirs))
    mine, theirs = (json.loads(paths.record.read_text()) for paths in (got, expected))
    assert set(theirs) <= set(mine)
    assert [mask["file"] for mask in mine["masks"]] == [mask["file"] for mask in theirs["masks"]]
    assert {key: mine[key] for key in MADE_ALIKE} == {key: theirs[key] for key in MADE_ALIKE}
    for key in (*CLOSE, *(OF_CORD if "cord_volume_mm3" in theirs else ())):
        assert mine[key] == pytest.approx(theirs[key], rel=1e-6), key
    for key, value in theirs["quality"].items():
        assert mine["quality"][key] == (pytest.approx(value) if isinstance(value, float) else value), key


@pytest.mark.parametrize(("way", "soft", "codes"), [("rest", False, "LAS"), ("grpc", True, "IRP")])
def test_a_served_result_is_the_commands(models, cord_network, cord_image, tmp_path, way, soft, codes):
    path = tmp_path / "cord.nii.gz"
    stored(cord_image(shape=(60, 56, 4)), codes).to_filename(path)
    expected = OutputPaths.for_input(path, tmp_path / "command")
    result = segment(path, cord_network, keep_probabilities=soft, window="center")
    write_outputs(result, expected, soft=soft)
    with dev_server.serve(models, rest_port=0, grpc_port=0) as address:
        url = address.rest_url if way == "rest" else f"grpc://{address.grpc}"
        with Client(url, soft=soft) as client:
            (outcome,) = client.segment_all([(path, tmp_path / "served")])
    assert outcome.error is None
    check_same(OutputPaths.for_input(path, tmp_path / "served"), expected)


def test_labels_in_a_folder_are_left_out_alike(
    models, cord_network, cord_image, tmp_path, run, monkeypatch, capsys
):
    folder = tmp_path / "in"
    folder.mkdir()
    image = cord_image(shape=(60, 56, 4))
    levels = np.broadcast_to(np.array([2, 3, 3, 4], np.uint8), image.shape)
    for name in ("a_levels.nii.gz", "a_seg.nii.gz"):
        nib.Nifti1Image(levels.copy(), image.affine).to_filename(folder / name)
    image.to_filename(folder / "cord.nii.gz")
    cord_network.save(tmp_path / "weights.keras")
    command = ["segment", str(folder), "-o", str(tmp_path / "command"), "-w", str(tmp_path / "weights.keras")]
    monkeypatch.setattr("sys.argv", ["keras-scgm", *command, "--window", "center"])
    with pytest.raises(SystemExit):
        command_main()
    expected = capsys.readouterr().out
    with dev_server.serve(models, rest_port=0, grpc_port=0) as address:
        server = ("--server", address.rest_url, "--jobs", 1)
        code, out, err = run("segment", folder, "-o", tmp_path / "served", *server)
        assert code == 0, err
        assert "error" not in err
        first, left_out, _, last = out.splitlines()
        assert [first, left_out] == expected.splitlines()[:2]
        assert left_out.endswith(
            "a_levels.nii.gz: labels, not an image, it holds 3 values (2, 3, 4); skipped"
        )
        assert last == expected.splitlines()[-1] == "1 segmented, 1 skipped, 0 failed"
        code, _, err = run("segment", folder / "a_levels.nii.gz", *server)
    assert code == 2
    assert err.startswith(
        f"error: {folder}/a_levels.nii.gz: labels, not an image, it holds 3 values (2, 3, 4); "
    )


def answer_like(result, soft):
    """What a server answers that measures what the command measured."""
    record, quality = result.record, result.quality
    values = {name: value for name, value in record.items() if name in CLOSE or name == "window_moved"}
    values |= {item.name: getattr(quality, item.name) for item in fields(quality)} | {"provenance": record}
    has_cord = result.cord_voxels is not None
    images = {
        "mask": result.mask,
        "probabilities": result.probabilities if soft else None,
        "cord": result.cord if has_cord else None,
        "cord_probabilities": result.cord_probabilities if has_cord and soft else None,
    }
    files = {name: image and nib.Nifti1Image.to_bytes(image) for name, image in images.items()}
    rows = [
        SliceRow(reason=row.warning, **{name: getattr(row, name) for name in names_of(SliceRow) - {"reason"}})
        for row in result.areas
    ]
    findings = Findings(**{name: values[name] for name in names_of(Findings)})
    return Answer(rows=tuple(rows), warnings=result.warnings, findings=findings, version=1, **files)


def names_of(kind):
    return {item.name for item in fields(kind)}


@pytest.mark.parametrize("codes", ["LAS", "LPI", "SAR", "AIL"])
@pytest.mark.parametrize("soft", [False, True])
def test_the_files_of_a_result_are_the_commands(network, cord_image, tmp_path, codes, soft):
    image = cord_image(shape=(60, 56, 4))
    voxels = np.asarray(image.dataobj).copy()
    voxels[..., 2] = 100
    voxels[..., 3] = np.roll(voxels[..., 3], 6, axis=0)
    image = stored(nib.Nifti1Image(voxels, image.affine), codes)
    path = tmp_path / "cord.nii.gz"
    image.to_filename(path)
    expected = OutputPaths.for_input(path, tmp_path / "command")
    result = segment(path, network, keep_probabilities=soft)
    assert result.mask_voxels.any()
    assert result.warnings
    write_outputs(result, expected, soft=soft)
    got = client_outputs.OutputPaths.for_input(path, tmp_path / "served")
    kind = "probabilities" if soft else "mask"
    made = {
        "output": kind,
        "output_tissues": "all",
        "input_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    grid = read_image(path, 10**6)[1]
    mine = Result(path, got, grid, kind, "all", answer_like(result, soft), made, with_picture=True)
    mine.check()
    mine.write()
    check_same(OutputPaths.for_input(path, tmp_path / "served"), expected)
