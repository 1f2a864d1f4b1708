"""The command `scgm-client`."""

import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
from client_checks import names, rest_answers
from keras_scgm_client.dicom import command
from tiny_serving import nifti_bytes, random_voxels


def test_the_exit_code_can_tell_verdicts(run, url, tmp_path):
    voxels = random_voxels(0)
    voxels[..., 1] = 0
    (tmp_path / "a.nii").write_bytes(nifti_bytes(voxels))
    command = ("segment", tmp_path / "a.nii", "--server", url)
    assert run(*command)[0] == 0
    # Finished results count, too.
    assert run(*command, "--fail-on", "review")[0] == 3
    assert run(*command, "--fail-on", "fail")[0] == 0
    (tmp_path / "b.nii").write_bytes(b"")
    assert run(*command, tmp_path / "b.nii", "--fail-on", "review")[0] == 2


def test_folders_keep_their_places_and_finished_images_are_skipped(run, url, images, tmp_path):
    (images / "bad.nii").write_bytes(b"")
    (images / "notes.txt").write_text("hello")
    code, out, err = run("segment", images, "-o", tmp_path / "out", "--server", url)
    assert code == 2
    assert out.splitlines()[-1] == "4 segmented, 0 skipped, 1 failed"
    assert err == f"error: {images}/bad.nii: too short for a NIfTI file; copy or convert it again\n"
    masks = [name for name in names(tmp_path / "out") if name.endswith("_gmseg.nii.gz")]
    assert masks == ["0_gmseg.nii.gz", "2_gmseg.nii.gz", "deep/1_gmseg.nii.gz", "deep/3_gmseg.nii.gz"]
    (images / "bad.nii").unlink()
    code, out, err = run("segment", images, "-o", tmp_path / "out", "--server", url)
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == "0 segmented, 4 skipped, 0 failed"


def test_a_file_that_is_named_and_found_is_one_image(run, url, images, tmp_path, monkeypatch):
    monkeypatch.chdir(images)
    named = (images / "deep" / "1.nii.gz", "deep/1.nii.gz", "./deep/../deep/1.nii.gz")
    code, out, _ = run("segment", *named, images, "-o", tmp_path / "out", "--server", url)
    assert (code, out.splitlines()[-1]) == (0, "4 segmented, 0 skipped, 0 failed")
    assert not (tmp_path / "out" / "deep" / "1_gmseg.nii.gz").exists()


def test_settings_that_are_wrong_for_all_images_are_told_once(run, url, images):
    code, out, err = run("segment", images, "--server", url, "--label", "none")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "check --label" in err


def test_status_command(run, url):
    # A channel that breaks on a busy machine is opened again, which standard error tells.
    code, out, _ = run("status", "--server", url)
    assert (code, out) == (0, "gm_nifti version 1: AVAILABLE\n")
    code, _, err = run("status", "--server", url, "--model", "none")
    assert code == 2
    assert "no such model" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("segment", "{images}/empty", "--server", "http://localhost"), "holds no .nii"),
        (
            ("segment", "{images}/0.nii.gz", "{images}/0.nii", "--server", "http://localhost"),
            "would both become",
        ),
        (("status", "--server", "here"), "not a server"),
        (
            ("status", "--token-file", "{images}/none"),
            "cannot be read (No such file or directory); check --token-file",
        ),
        (("segment", "x.nii", "--jobs", "0"), "must be 1 to 64"),
        (("segment", "x.nii", "--deadline", "0"), "must be over 0"),
    ],
)
def test_command_lines_that_are_refused(run, images, arguments, message):
    (images / "empty").mkdir()
    code, _, err = run(*(part.format(images=images) for part in arguments))
    assert code == 2
    assert message in err


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_of_files_that_are_no_unicode(address, tmp_path):
    """They are shown with escapes, also where the terminal takes nothing but UTF-8."""
    (tmp_path / "in").mkdir()
    with open(os.fsencode(tmp_path) + b"/in/b\xffd.nii", "wb") as file:
        file.write(nifti_bytes(random_voxels(0)))
    script = "from keras_scgm_client.cli import main; main()"
    command = [sys.executable, "-c", script, "segment", tmp_path / "in", "--server", address.rest_url]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run([*map(str, command)], capture_output=True, check=False, env=environment, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == rf"[1/1] {tmp_path}/in/b\udcffd_gmseg.nii.gz"


@pytest.mark.parametrize("content", ["", "\n", "sesame\nopen\n", "s\u00e9same"])
def test_token_files_that_are_refused(run, tmp_path, content):
    file = tmp_path / "token"
    file.write_text(content, encoding="utf-8")
    code, out, err = run("status", "--server", "https://localhost", "--token-file", file)
    assert (code, out) == (2, "")
    assert err.startswith(
        "error: the token is empty, or holds spaces, line breaks or other than ASCII characters;"
    )
    assert err.count("\n") == 1


def test_a_token_file_in_another_encoding_is_to_be_saved_as_utf_8(run, tmp_path):
    file = tmp_path / "token"
    file.write_text("sesame", encoding="utf-16")
    code, out, err = run("status", "--server", "https://localhost", "--token-file", file)
    assert (code, out, err) == (2, "", f"error: {file}: not a text in UTF-8; save it as UTF-8\n")


def test_results_never_take_the_place_of_an_input(run, address, images, tmp_path):
    """Of another one, through another name of the folder or the file, and by the file of metrics."""
    image, cord, token = images / "0.nii.gz", images / "0_seg.nii.gz", images / "token"
    token.write_text("sesame")
    shutil.copy(images / "2.nii.gz", cord)
    before = {name: (images / name).read_bytes() for name in names(images)}
    (tmp_path / "link").symlink_to(images)
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / cord.name).hardlink_to(cord)
    server = ("--server", address.rest_url, "--force")
    for arguments, path in (
        ((image, cord), cord),
        ((image, cord, "-o", tmp_path / "link"), tmp_path / "link" / cord.name),
        ((image, cord, "-o", tmp_path / "linked"), tmp_path / "linked" / cord.name),
        ((image, "--metrics-file", image), image),
        ((image, "--metrics-file", token, "--token-file", token), token),
    ):
        code, out, err = run("segment", *arguments, *server)
        assert (code, out) == (2, "")
        assert err == (
            f"error: {path}: the result would take the place of this input; give the output another name\n"
        )
        assert {name: (images / name).read_bytes() for name in names(images)} == before
    assert run("segment", image, cord, "--tissues", "gm", *server)[0] == 0
    assert cord.read_bytes() == before[cord.name]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_ends_the_command_and_leaves_nothing_half(images, tmp_path, number):
    with rest_answers((200, b"", {"Content-Length": "10"})) as (url, seen):
        script = "from keras_scgm_client.cli import main; main()"
        command = [
            sys.executable,
            "-c",
            script,
            "segment",
            str(images),
            "-o",
            str(tmp_path / "out"),
            "--server",
            url,
        ]
        # A shell starts programs in the background with SIGINT ignored, and nohup with SIGHUP.
        heeding = partial(signal.signal, number, signal.SIG_DFL)
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heeding) as process:
            while not seen:
                time.sleep(0.01)
            process.send_signal(number)
            assert process.wait(20) == 128 + number
            assert "interrupted; finished images are kept" in process.stderr.read()
    assert names(tmp_path / "out") == []


def test_the_gateway_says_where_it_runs(run, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    code, _, err = run("dicom-gateway", "--store", tmp_path, "--send-to", "A@localhost:1")
    assert (code, err) == (2, "error: the gateway runs on Linux and macOS, not on this system\n")
