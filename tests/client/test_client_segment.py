"""Images to masks, areas and records through a server."""

import csv
import hashlib
import json
import re
import shutil
from concurrent import futures

import keras_scgm_client
import keras_scgm_client.picture
import keras_scgm_client.tracing
import keras_scgm_devserver as dev_server
import nibabel as nib
import numpy as np
import pytest
from client_checks import NOTHING_LISTENS, check_mask, error, good_answer, in_process, names, rest_answers
from keras_scgm_client import Client, ImageError, ServerUnavailable, SettingsError
from keras_scgm_client.client import VERSION_UNKNOWN
from keras_scgm_client.transport import VersionStatus
from tiny_serving import (
    CORD_THRESHOLD,
    THRESHOLD,
    cord_probability,
    nifti_bytes,
    random_voxels,
    save_tiny_models,
)


def test_one_image(url, image):
    with Client(url) as client:
        mask = client.segment(image)
    assert mask == image.parent / "0_gmseg.nii.gz"
    voxels = random_voxels(0)
    check_mask(mask, voxels)
    with open(image.parent / "0_gmseg_area.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    n_voxels = (voxels > THRESHOLD).sum((0, 1))
    assert [row["area_mm2"] for row in rows] == [f"{n:.3f}" for n in n_voxels]
    assert [int(row["n_voxels"]) for row in rows] == list(n_voxels)
    assert [row["soft_area_mm2"] for row in rows] == [f"{n:.3f}" for n in voxels.sum((0, 1)) / 255]
    assert [row["position_mm"] for row in rows] == ["0.000", "1.000", "2.000"]
    assert {(row["noise"], row["predicted_dsc"], row["verdict"], row["warning"]) for row in rows} == {
        ("0.125", "0.900", "pass", "")
    }
    record = json.loads((image.parent / "0_gmseg.json").read_text())
    assert record["server"] == url
    assert record["version"] == 1
    assert record["input_sha256"] == hashlib.sha256(image.read_bytes()).hexdigest()
    assert (record["program"], record["window_moved"], record["orientation"]) == ("tiny", True, "LAS")
    assert record["gray_matter_volume_mm3"] == n_voxels.sum()
    assert record["quality"]["slices"] == {"pass": [0, 1, 2], "review": [], "fail": []}
    of_tissues = ["0_seg.nii.gz", "0_wmseg.nii.gz"]
    assert record["files"] == ["0_gmseg.nii.gz", "0_gmseg_area.csv", "0_gmseg_qc.png", *of_tissues]
    assert not [name for name in names(image.parent) if "/." in name or name.startswith(".")]


def test_white_matter_and_cord(url, image):
    with Client(url) as client:
        client.segment(image)
    voxels = random_voxels(0)
    gray_matter, cord = voxels > THRESHOLD, voxels > CORD_THRESHOLD
    for suffix, expected in (("gmseg", gray_matter), ("wmseg", cord & ~gray_matter), ("seg", cord)):
        stored = nib.load(image.parent / f"0_{suffix}.nii.gz")
        np.testing.assert_array_equal(np.asarray(stored.dataobj), expected)
        assert stored.get_data_dtype() == np.uint8
    with open(image.parent / "0_gmseg_area.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    n, n_cord = gray_matter.sum((0, 1)), cord.sum((0, 1))
    assert [row["cord_area_mm2"] for row in rows] == [f"{area:.3f}" for area in n_cord]
    assert [row["wm_area_mm2"] for row in rows] == [f"{area:.3f}" for area in n_cord - n]
    assert [row["gm_cord_ratio"] for row in rows] == [f"{ratio:.4f}" for ratio in n / n_cord]
    record = json.loads((image.parent / "0_gmseg.json").read_text())
    assert record["cord_volume_mm3"] == n_cord.sum()
    assert record["white_matter_volume_mm3"] == (n_cord - n).sum()


def test_gray_matter_alone(run, url, image, tmp_path):
    """By wish, or from a model that segments nothing else; another wish is another result."""
    assert run("segment", image, "--server", url, "--tissues", "gm")[0] == 0
    check_mask(image.with_name("0_gmseg.nii.gz"), random_voxels(0))
    assert not [name for name in names(image.parent) if "wmseg" in name or "_seg" in name]
    assert run("segment", image, "--server", url, "--tissues", "gm")[1].endswith("1 skipped, 0 failed\n")
    assert run("segment", image, "--server", url)[0] == 2
    assert run("segment", image, "--server", url, "--force")[0] == 0
    assert image.with_name("0_seg.nii.gz").exists()
    assert run("segment", image, "--server", url)[1].endswith("1 skipped, 0 failed\n")
    assert run("segment", image, "--server", url, "--tissues", "gm")[0] == 2
    assert run("segment", image, "--server", url, "--tissues", "gm", "--force")[0] == 0
    assert not image.with_name("0_seg.nii.gz").exists()


def test_a_cord_of_another_program_stays(run, url, image):
    """As `keras-scgm segment`: its name is also that of the Spinal Cord Toolbox."""
    cord = image.with_name("0_seg.nii.gz")
    cord.write_bytes(b"cord")
    code, _, err = run("segment", image, "--server", url)
    assert (code, err) == (
        2,
        f"error: {cord}: exists; replace it with --force, or leave it with --tissues gm\n",
    )
    assert names(image.parent) == ["0.nii.gz", "0_seg.nii.gz", "2.nii.gz", "deep/1.nii.gz", "deep/3.nii.gz"]
    assert run("segment", image, "--server", url, "--tissues", "gm")[0] == 0
    assert run("segment", image, "--server", url, "--tissues", "gm", "--force")[0] == 0
    assert cord.read_bytes() == b"cord"
    assert run("segment", image, "--server", url, "--force")[0] == 0
    check_mask(image.with_name("0_gmseg.nii.gz"), random_voxels(0))
    assert cord.read_bytes() != b"cord"


@pytest.mark.parametrize("soft", [False, True])
def test_a_model_without_the_cord(tmp_path, image, soft):
    folder = save_tiny_models(tmp_path / "models", has_cord=False)
    with dev_server.serve(dev_server.Catalogue.load(folder), rest_port=0, grpc_port=0) as address:
        for url in (address.rest_url, f"grpc://{address.grpc}"):
            with Client(url, soft=soft, picture=False) as client:
                (outcome,) = client.segment_all([(image, tmp_path / "out")], force=True)
                assert outcome.error is None
                (outcome,) = client.segment_all([(image, tmp_path / "out")])
                assert outcome.skipped
            assert names(tmp_path / "out") == ["0_gmseg.json", "0_gmseg.nii.gz", "0_gmseg_area.csv"]
    with open(tmp_path / "out" / "0_gmseg_area.csv", newline="") as file:
        assert {row["cord_area_mm2"] for row in csv.DictReader(file)} == {""}
    assert "cord_volume_mm3" not in json.loads((tmp_path / "out" / "0_gmseg.json").read_text())


def test_names_may_be_text(url, image, tmp_path):
    with Client(url) as client:
        assert client.segment(str(image), str(tmp_path / "a")).parent == tmp_path / "a"
        entries = [str(image), (str(image), str(tmp_path / "b")), (image, None)]
        outcomes = list(client.segment_all(entries, jobs=1))
    assert [outcome.error for outcome in outcomes] == [None] * 3
    assert [outcome.mask.parent for outcome in outcomes] == [image.parent, tmp_path / "b", image.parent]
    assert outcomes[2].skipped


def test_probabilities(url, image):
    gray_matter = (random_voxels(0) / 255).astype(np.float32)
    cord = cord_probability(random_voxels(0))
    with Client(url, soft=True) as client:
        file = client.segment(image)
    for suffix, expected in (("gmseg", gray_matter), ("wmseg", cord - gray_matter), ("seg", cord)):
        probabilities = nib.load(file.with_name(f"0_{suffix}.nii.gz"))
        assert probabilities.get_data_dtype() == np.float32
        np.testing.assert_array_equal(np.asarray(probabilities.dataobj), expected)
    record = json.loads((image.parent / "0_gmseg.json").read_text())
    assert (record["output"], record["quality"]["verdict"]) == ("probabilities", "pass")


def test_exports_of_earlier_releases(old_url, image, tmp_path):
    """They have no verdicts, and an only output, whose name the server leaves out over REST."""
    with Client(old_url) as client:
        check_mask(client.segment(image, tmp_path / "hard"), random_voxels(0))
    with open(tmp_path / "hard" / "0_gmseg_area.csv", newline="") as file:
        first = next(csv.DictReader(file))
    n_voxels = (random_voxels(0) > THRESHOLD).sum((0, 1))
    assert (first["area_mm2"], first["n_voxels"], first["verdict"]) == (f"{n_voxels[0]:.3f}", "", "")
    with Client(old_url, soft=True) as client:
        file = client.segment(image, tmp_path / "soft")
    np.testing.assert_array_equal(
        np.asarray(nib.load(file).dataobj), (random_voxels(0) / 255).astype(np.float32)
    )
    assert names(tmp_path / "soft") == ["0_gmseg.json", "0_gmseg.nii.gz"]
    with (
        Client(old_url, picture=True) as client,
        pytest.raises(SettingsError, match="lack data for the picture"),
    ):
        client.segment(image, tmp_path / "picture")
    assert names(tmp_path / "picture") == []


def test_empty_slices_have_empty_cells(url, tmp_path):
    voxels = random_voxels(0)
    voxels[..., 1] = 0
    (tmp_path / "a.nii").write_bytes(nifti_bytes(voxels))
    with Client(url) as client:
        (outcome,) = client.segment_all([tmp_path / "a.nii"])
    assert outcome.verdict == "review"
    with open(tmp_path / "a_gmseg_area.csv", newline="") as file:
        row = list(csv.DictReader(file))[1]
    empty = ("mean_probability", "contrast", "noise", "predicted_dsc", "area_sd_mm2", "uncertainty")
    assert {row[name] for name in empty} == {""}
    assert (row["n_voxels"], row["area_mm2"], row["verdict"], row["warning"]) == (
        "0",
        "0.000",
        "review",
        "few voxels",
    )
    record = json.loads((tmp_path / "a_gmseg.json").read_text())
    assert record["quality"]["contrast"] is None
    assert record["quality"]["slices"] == {"pass": [0, 2], "review": [1], "fail": []}
    assert record["quality"]["reasons"] == {"few voxels": [1]}


def test_uncompressed_images_and_warnings(url, tmp_path):
    (tmp_path / "dark.nii").write_bytes(nifti_bytes(np.zeros((4, 4, 2), np.uint8)))
    with Client(url) as client:
        (outcome,) = client.segment_all([tmp_path / "dark.nii"])
    assert outcome.warnings == ("no gray matter found",)
    assert json.loads((tmp_path / "dark_gmseg.json").read_text())["warnings"] == ["no gray matter found"]


def test_answers_over_4_mib(url, tmp_path):
    (tmp_path / "large.nii.gz").write_bytes(
        nifti_bytes(np.full((580, 580, 14), 255, np.uint8), compress=True)
    )
    with Client(url, picture=False) as client:
        assert nib.load(client.segment(tmp_path / "large.nii.gz")).shape == (580, 580, 14)


def test_answers_of_many_slices(url, tmp_path):
    """Whose rows are longer than the file."""
    (tmp_path / "long.nii.gz").write_bytes(nifti_bytes(random_voxels(0, (4, 4, 24_000)), compress=True))
    with Client(url, picture=False) as client:
        client.segment(tmp_path / "long.nii.gz")
    assert (tmp_path / "long_gmseg_area.csv").read_text().count("\n") == 24_001


def test_status(url):
    with Client(url) as client:
        (version,) = client.status()
    assert (version.version, version.state) == (1, "AVAILABLE")


def test_many_clients_at_a_time(address, tmp_path):
    """Eight, half of them REST; every mask is the one expected, and no image is sent twice at once."""
    for k in range(40):
        (tmp_path / f"{k}.nii.gz").write_bytes(nifti_bytes(random_voxels(k), compress=True))

    def run(number):
        url = address.rest_url if number % 2 else f"grpc://{address.grpc}"
        mine = [(tmp_path / f"{k}.nii.gz", tmp_path / "out") for k in range(40) if k % 8 == number]
        with Client(url) as client:
            return list(client.segment_all(mine, jobs=2))

    with futures.ThreadPoolExecutor(8) as pool:
        jobs = [outcome for done in pool.map(run, range(8)) for outcome in done]
    assert len(jobs) == 40
    assert not [outcome.error for outcome in jobs if outcome.error]
    for k in range(40):
        check_mask(tmp_path / "out" / f"{k}_gmseg.nii.gz", random_voxels(k))


def test_soft_for_hard_and_a_changed_input_are_refused(run, url, image):
    """As `keras-scgm segment --resume`: what was made in another way is named, and replaced with --force."""
    assert run("segment", image, "--server", url)[0] == 0
    code, out, _ = run("segment", image, "--server", url)
    assert (code, out.splitlines()[-1]) == (0, "0 segmented, 1 skipped, 0 failed")
    hard = image.with_name("0_gmseg.nii.gz").read_bytes()

    def refused(entry):
        made = f"exists and was made in another way (other {entry})"
        return f"error: {image.parent}/0_gmseg.nii.gz: {made}; replace it with --force\n"

    code, _, err = run("segment", image, "--server", url, "--soft")
    assert (code, err) == (2, refused("output"))
    assert image.with_name("0_gmseg.nii.gz").read_bytes() == hard
    assert run("segment", image, "--server", url, "--soft", "--force")[0] == 0
    assert nib.load(image.with_name("0_gmseg.nii.gz")).get_data_dtype() == np.float32
    assert run("segment", image, "--server", url)[::2] == (2, refused("output"))
    assert run("segment", image, "--server", url, "--force")[0] == 0

    image.write_bytes(nifti_bytes(random_voxels(9), compress=True))
    assert run("segment", image, "--server", url)[::2] == (2, refused("input_sha256"))
    assert image.with_name("0_gmseg.nii.gz").read_bytes() == hard
    assert run("segment", image, "--server", url, "--force")[0] == 0
    check_mask(image.with_name("0_gmseg.nii.gz"), random_voxels(9))
    image.with_name("0_gmseg_area.csv").unlink()
    assert run("segment", image, "--server", url)[0] == 2


def serve_versions(folder, *versions, config=None):
    """A server of these versions, which share a model."""
    source = save_tiny_models(folder.parent / "source")
    for version in versions:
        shutil.copytree(source / "gm_nifti" / "1", folder / "gm_nifti" / str(version), dirs_exist_ok=True)
    return dev_server.serve(dev_server.Catalogue.load(folder, config), rest_port=0, grpc_port=0)


def url_of(address, way):
    return address.rest_url if way == "rest" else f"grpc://{address.grpc}"


@pytest.mark.parametrize("way", ["rest", "grpc"])
def test_results_of_two_versions_are_not_mixed(run, image, tmp_path, way):
    with serve_versions(tmp_path / "first", 1) as address:
        assert run("segment", image, "--server", url_of(address, way))[0] == 0
        assert run("segment", image, "--server", url_of(address, way))[1].endswith("1 skipped, 0 failed\n")
    with serve_versions(tmp_path / "second", 1, 2) as address:
        code, _, err = run("segment", image, "--server", url_of(address, way))
        assert (code, "was made in another way (other version); replace it with --force" in err) == (2, True)
        assert run("segment", image, "--server", url_of(address, way), "--force")[0] == 0
        assert json.loads(image.with_name("0_gmseg.json").read_text())["version"] == 2


@pytest.mark.parametrize("way", ["rest", "grpc"])
def test_the_version_of_a_label_is_recorded(image, tmp_path, way):
    policy = "model_version_policy { specific { versions: 1 versions: 2 } }"
    labels = 'version_labels { key: "stable" value: 1 } version_labels { key: "canary" value: 2 }'
    config = tmp_path / "models.config"
    config.write_text(
        f'model_config_list {{ config {{ name: "gm_nifti" base_path: "/models/gm_nifti" {policy} {labels} }} }}'
    )
    with serve_versions(tmp_path / "models", 1, 2, config=config) as address:
        for label, version in (("stable", 1), ("canary", 2), ("", 2)):
            with Client(url_of(address, way), label=label) as client:
                client.segment(image, tmp_path / "out")
            record = json.loads((tmp_path / "out" / "0_gmseg.json").read_text())
            assert (record["label"], record["version"]) == (label or None, version)


def test_the_status_of_a_label_that_has_all_versions_names_none():
    """As that of TensorFlow Serving."""
    versions = [VersionStatus(number, "AVAILABLE", "") for number in (2, 1)]
    for label, expected in (("", 2), ("stable", None)):
        with Client(f"grpc://{NOTHING_LISTENS}", label=label) as client:
            client._transport.status = lambda seconds: versions
            assert client._transport.version(1.0) == expected


def test_a_version_that_is_replaced_during_the_request(image):
    """The request is sent again to the version that is served then."""
    served = iter((1, 2, 2))
    with rest_answers(error(404, "Servable not found"), good_answer()) as (url, seen), Client(url) as client:
        client._transport.version = lambda seconds: next(served)
        client.segment(image)
    assert [path for path, *_ in seen] == [f"/v1/models/gm_nifti/versions/{k}:predict" for k in (1, 2)]
    assert json.loads(image.with_name("0_gmseg.json").read_text())["version"] == 2


def test_a_mask_that_was_edited_is_named_and_stays(run, url, image):
    assert run("segment", image, "--server", url)[0] == 0
    mask = image.with_name("0_seg.nii.gz")
    mask.write_bytes(image.with_name("0_wmseg.nii.gz").read_bytes())
    code, out, err = run("segment", image, "--server", url)
    assert (code, out.splitlines()[-1]) == (0, "0 segmented, 1 skipped, 0 failed")
    assert err.startswith(f"warning: {image}: 0_seg.nii.gz was edited by hand, and is not measured here")
    assert err.count("\n") == 1
    edited = mask.read_bytes()
    code, _, err = run("segment", image, "--server", url, "--force")
    assert (code, mask.read_bytes()) == (2, edited)
    reason = f"{mask}: edited by hand; delete it to have the image segmented again"
    assert err.splitlines()[0].endswith(reason)
    with Client(url) as client, pytest.raises(ImageError, match=f"^{re.escape(reason)}$"):
        client.segment(image)
    assert mask.read_bytes() == edited
    mask.unlink()
    assert run("segment", image, "--server", url, "--force")[0] == 0


def test_a_result_of_an_unknown_version_is_not_skipped_in_silence(run, address, image):
    """Neither if the server does not tell the version, nor if it did not tell it then."""
    record = image.with_name("0_gmseg.json")
    with rest_answers(good_answer()) as (url, _):
        assert run("segment", image, "--server", url)[0] == 0
        assert json.loads(record.read_text())["version"] is None
        code, out, err = run("segment", image, "--server", url)
    assert (code, out.splitlines()[-1]) == (0, "0 segmented, 1 skipped, 0 failed")
    assert err == f"warning: {image}: {VERSION_UNKNOWN}\n"
    assert run("segment", image, "--server", address.rest_url)[2] == err
    assert run("segment", image, "--server", address.rest_url, "--force")[0] == 0
    with rest_answers(good_answer()) as (url, _):
        assert run("segment", image, "--server", url)[2] == err


@pytest.mark.parametrize("way", ["rest", "grpc"])
def test_the_version_is_asked_for_until_the_deadline(image, address, way):
    """A server that is busy once does not make the version unknown."""
    with Client(url_of(address, way)) as client:
        client.segment(image)
        ask, busy = client._transport.version, [ServerUnavailable("busy")]

        def version(seconds):
            if busy:
                raise busy.pop()
            return ask(seconds)

        client._transport.version = version
        (outcome,) = client.segment_all([image])
        assert (outcome.skipped, outcome.warnings, busy) == (True, (), [])
    with Client(f"grpc://{NOTHING_LISTENS}", deadline=1) as client, pytest.raises(ServerUnavailable):
        list(client.segment_all([image]))


def test_a_result_without_a_picture_is_not_finished_if_one_is_wanted(image, address):
    with Client(address.rest_url, picture=False) as client:
        client.segment(image)
    with Client(address.rest_url, picture=True) as client:
        (outcome,) = client.segment_all([image])
    assert "was made in another way (other picture)" in str(outcome.error)


def test_the_client_needs_no_numpy(url, image):
    done = in_process("segment", image, "--server", url, "--no-picture")
    assert done == ["1 segmented, 0 skipped, 0 failed", "[]"]


def test_public_names():
    assert all(hasattr(keras_scgm_client, name) for name in keras_scgm_client.__all__)
