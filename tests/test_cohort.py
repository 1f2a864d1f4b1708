"""Cohorts: every image once, whatever happens to workers."""

import importlib.util
import json
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import keras
import nibabel as nib
import numpy as np
import pytest

from keras_scgm import InputError, SegmentationConfig, Segmenter
from keras_scgm.cohort import OutputConfig, SegmentationJob, cores, do_job, run_here, run_on_cores, run_on_ray
from keras_scgm.outputs import OutputPaths

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="the extra ray is not installed"
)

FIRST_WORKER_KILLED = """
import json, os, signal, sys
from pathlib import Path
from keras_scgm.cohort import SegmentationJob, OutputConfig, run_on_ray
from keras_scgm.outputs import OutputPaths
from keras_scgm.segmentation import SegmentationConfig

folder, weights = Path(sys.argv[1]), sys.argv[2]
jobs = [SegmentationJob(image, OutputPaths.for_input(image)) for image in sorted(folder.glob("*.nii.gz"))]
outcomes = []
for outcome in run_on_ray([weights], SegmentationConfig(window="center"), jobs, OutputConfig(), workers=2):
    outcomes.append((outcome.job.image.name, outcome.status, outcome.message))
    if len(outcomes) == 1:
        os.kill(outcome.pid, signal.SIGKILL)
print(json.dumps(outcomes))
"""

ENDED_FROM_OUTSIDE = """
import signal, sys
from pathlib import Path
from keras_scgm.cohort import SegmentationJob, OutputConfig, run_on_ray
from keras_scgm.outputs import OutputPaths
from keras_scgm.segmentation import SegmentationConfig
from keras_scgm_cli.interruption import interrupts

folder, weights = Path(sys.argv[1]), sys.argv[2]
jobs = [SegmentationJob(image, OutputPaths.for_input(image)) for image in sorted(folder.glob("[0-9].nii.gz"))]
with interrupts():
    for _ in run_on_ray([weights], SegmentationConfig(window="center"), jobs, OutputConfig(), workers=2):
        (folder / ".keras_scgm_of_a_worker").mkdir()
        signal.raise_signal(signal.SIGTERM)
"""


@pytest.fixture
def images(tmp_path, blob_image):
    """Eight images of one slice, each with its disc of another size, and one file that is none."""
    for number in range(8):
        image = blob_image(shape=(120, 120, 1), radius_mm=2.0 + 0.2 * number)
        nib.save(image, tmp_path / f"{number}.nii.gz")
    (tmp_path / "bad.nii.gz").write_bytes(b"no image")
    return tmp_path


def jobs_of(images: Path) -> list[SegmentationJob]:
    return [
        SegmentationJob(image, OutputPaths.for_input(image)) for image in sorted(images.glob("[0-9].nii.gz"))
    ]


def test_one_bad_image_does_not_stop_the_others(images, bright_network):
    bad = images / "bad.nii.gz"
    jobs = [SegmentationJob(bad, OutputPaths.for_input(bad)), *jobs_of(images)]
    outcomes = list(run_here(Segmenter(bright_network), jobs, OutputConfig()))
    assert [outcome.status for outcome in outcomes] == ["failed"] + 8 * ["segmented"]
    assert outcomes[0].message.startswith(f"error: {bad}: ")
    assert {outcome.pid for outcome in outcomes} == {os.getpid()}


def test_finished_images_are_skipped_and_others_not_replaced(images, bright_network):
    segmenter, job = Segmenter(bright_network), jobs_of(images)[0]
    assert do_job(segmenter, job, OutputConfig()).status == "segmented"
    assert do_job(segmenter, job, OutputConfig(resume=True)).status == "skipped"
    refused = do_job(segmenter, job, OutputConfig())
    assert refused.status == "failed"
    assert "replace it with --force" in refused.message
    otherwise = Segmenter(bright_network, SegmentationConfig(threshold=0.4))
    assert (
        "made in another way (other threshold); replace"
        in do_job(otherwise, job, OutputConfig(resume=True)).message
    )
    record = json.loads(job.paths.record.read_text())
    del record["settings"]
    job.paths.record.write_text(json.dumps(record))
    assert "made in another way; replace" in do_job(otherwise, job, OutputConfig(resume=True)).message
    assert do_job(otherwise, job, OutputConfig(force=True)).status == "segmented"


@pytest.mark.parametrize(
    ("other_threshold", "output", "status", "message", "kept_threshold"),
    [
        (0.4, OutputConfig(), "failed", "exists; replace it with --force", 0.4),
        (
            0.4,
            OutputConfig(resume=True),
            "failed",
            "another way (other threshold); replace it with --force",
            0.4,
        ),
        (0.4, OutputConfig(force=True), "segmented", "gray matter in", 0.5),
        (0.5, OutputConfig(resume=True), "skipped", "finished before, skipped", 0.5),
    ],
)
def test_what_another_run_wrote_meanwhile_is_not_replaced(
    images, bright_network, monkeypatch, other_threshold, output, status, message, kept_threshold
):
    segmenter, other = (
        Segmenter(bright_network, SegmentationConfig(threshold=threshold))
        for threshold in (0.5, other_threshold)
    )
    job, compute = jobs_of(images)[0], segmenter.segment

    def with_another_run(image, progress):
        result = compute(image, progress)
        assert do_job(other, job, OutputConfig()).status == "segmented"
        return result

    monkeypatch.setattr(segmenter, "segment", with_another_run)
    outcome = do_job(segmenter, job, output)
    assert outcome.status == status
    assert message in outcome.message
    assert json.loads(job.paths.record.read_text())["threshold"] == kept_threshold


def test_another_model_in_memory_has_not_made_the_result(images, bright_network):
    job = jobs_of(images)[0]

    def status(model):
        return do_job(Segmenter(model), job, OutputConfig(resume=True)).status

    def copy(shift=0.0, rate=0.2):
        layers = keras.models.clone_model(bright_network).get_config()
        layers["layers"][1]["config"]["rate"] = rate
        model = keras.Model.from_config(layers)
        model.set_weights([bright_network.get_weights()[0], bright_network.get_weights()[1] + shift])
        return model

    assert [status(bright_network), status(bright_network), status(copy())] == [
        "segmented",
        "skipped",
        "skipped",
    ]
    assert [status(copy(shift=1e-5)), status(copy(rate=0.3))] == ["failed", "failed"]


def test_force_and_resume_contradict_each_other(run, images, weights):
    with pytest.raises(InputError, match="force and resume contradict each other"):
        OutputConfig(force=True, resume=True)
    code, out, err = run("segment", images / "0.nii.gz", "-w", weights, "--force", "--resume")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert "force and resume contradict each other" in err


def test_a_fault_of_ours_is_reported_and_does_not_stop(images, bright_network, monkeypatch):
    monkeypatch.setattr("keras_scgm.cohort.jobs.write_outputs", lambda *args, **kwargs: 1 / 0)
    outcome = do_job(Segmenter(bright_network), jobs_of(images)[0], OutputConfig())
    assert outcome.status == "failed"
    start, log = outcome.message.split("; please report it with ")
    image = jobs_of(images)[0].image
    assert start == f"error: {image}: ZeroDivisionError: division by zero"
    text = Path(log).read_text()
    assert "Traceback (most recent call last)" in text
    assert "ZeroDivisionError: division by zero" in text
    assert str(image) in text


def run_program(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )


@needs_ray
def test_nothing_is_lost_when_a_worker_is_killed(images, weights):
    done = run_program(FIRST_WORKER_KILLED, images, weights)
    assert done.returncode == 0, done.stderr
    outcomes = json.loads(done.stdout.splitlines()[-1])
    statuses = {name: status for name, status, _ in outcomes}
    assert len(outcomes) == len(statuses) == 9
    assert statuses.pop("bad.nii.gz") == "failed"
    # An image that was written just before its worker died counts as finished before.
    assert set(statuses.values()) <= {"segmented", "skipped"}
    segmenter = Segmenter(weights, SegmentationConfig(window="center"))
    for job in jobs_of(images):
        mask = np.asarray(nib.load(job.paths.mask).dataobj)
        assert mask.any()
        np.testing.assert_array_equal(mask, np.asarray(segmenter.segment(job.image).mask.dataobj))


@needs_ray
def test_an_end_from_outside_is_an_interruption_and_leaves_nothing_half_written(images, weights):
    done = run_program(ENDED_FROM_OUTSIDE, images, weights)
    assert done.stderr.splitlines()[-1] == "KeyboardInterrupt"
    assert not [*images.glob(".keras_scgm_*")]


@needs_ray
@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://nowhere.invalid:1", "nonsense"])
def test_a_cluster_that_does_not_answer_is_one_line(images, weights, address):
    with pytest.raises(InputError, match=f"no Ray cluster at '{address}'"):
        next(run_on_ray([weights], SegmentationConfig(), jobs_of(images), OutputConfig(), address))


@pytest.mark.parametrize(
    ("command", "options", "named"),
    [
        (["segment"], ["--address", "auto", "--workers", 2], "--address, --workers"),
        (["study"], ["--address", "auto"], "--address"),
    ],
)
def test_options_of_ray_without_it_are_refused(run, images, tmp_path, command, options, named):
    places = [images] if command == ["segment"] else [images, tmp_path / "out", "participant"]
    before = sorted(tmp_path.rglob("*"))
    refused = f"error: {named}: for a Ray cluster only; add --engine ray, or leave it out\n"
    assert run(*command, *places, *options) == (2, "", refused)
    assert sorted(tmp_path.rglob("*")) == before


def test_without_ray_the_engine_says_how_to_install_it(monkeypatch, images):
    monkeypatch.setattr("keras_scgm.cohort.ray_cluster.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'keras-scgm\[ray\]'"):
        next(run_on_ray(None, SegmentationConfig(), jobs_of(images), OutputConfig()))


def test_processes_of_this_machine_give_the_masks_of_the_loop(images, weights, tmp_path):
    settings, loop, cores = SegmentationConfig(window="center"), tmp_path / "loop", tmp_path / "cores"
    here, there = (
        [
            SegmentationJob(image, OutputPaths.for_input(image, folder))
            for image in [*sorted(images.glob("[0-3].nii.gz")), images / "bad.nii.gz"]
        ]
        for folder in (loop, cores)
    )
    list(run_here(Segmenter(weights, settings), here, OutputConfig()))
    outcomes = []
    for outcome in run_on_cores([weights], settings, there, OutputConfig(), workers=2):
        # Ctrl-C in a terminal reaches all processes; it is for the first of them.
        os.kill(outcome.pid, signal.SIGINT)
        outcomes.append(outcome)
    assert len({outcome.pid for outcome in outcomes}) == 2
    assert sorted(outcome.status for outcome in outcomes) == ["failed", *["segmented"] * 4]
    for number in range(4):
        masks = [nib.load(folder / f"{number}_gmseg.nii.gz").get_fdata() for folder in (loop, cores)]
        assert np.array_equal(*masks)


def test_an_interrupted_run_leaves_no_hidden_folder_of_a_process(images, monkeypatch):
    class Process:
        def __init__(self, *_):
            self.connection, self.other = multiprocessing.Pipe()

        def give(self, job):
            if job.image.name == "0.nii.gz":
                self.other.send("done")
            else:
                (job.paths.folder / ".keras_scgm_half").mkdir()

        def end(self):
            self.connection.close()

    monkeypatch.setattr(cores, "_Process", Process)
    outcomes = run_on_cores(None, SegmentationConfig(), jobs_of(images)[:2], OutputConfig(), workers=2)
    assert next(outcomes) == "done"
    assert [*images.glob(".*")]
    outcomes.close()
    assert not [*images.glob(".*")]


def test_a_killed_process_loses_nothing_and_an_image_that_kills_is_given_up(images, weights, monkeypatch):
    killed = []

    def give(process, job):
        if job.image.name == "3.nii.gz" or (job.image.name == "5.nii.gz" and not killed.count("5.nii.gz")):
            killed.append(job.image.name)
            process._process.kill()
            process._process.join()
        real(process, job)

    real = cores._Process.give
    monkeypatch.setattr(cores._Process, "give", give)
    monkeypatch.setattr(cores, "RETRIES", 1)
    outcomes = list(
        run_on_cores(
            [weights], SegmentationConfig(window="center"), jobs_of(images)[2:6], OutputConfig(), workers=1
        )
    )
    statuses = {outcome.job.image.name: outcome.status for outcome in outcomes}
    assert len(outcomes) == len(statuses) == 4
    assert [name for name, status in statuses.items() if status == "failed"] == ["3.nii.gz"]
    assert killed.count("3.nii.gz") == 2
    assert next(one.message for one in outcomes if one.status == "failed").endswith(
        "lost 2 processes, perhaps for lack of memory; give fewer workers"
    )
