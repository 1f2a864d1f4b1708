"""The gateway as a program between a sender and a receiver, killed at any point."""

import json
import re
import resource
import signal
import socket
import ssl
import subprocess
import threading
import time
from concurrent import futures

import pydicom
import pytest
import trustme
import urllib3
from dicom_images import BIRTH, PATIENT_ID, PROTOCOL, affine_of, make_images, turned, voxels_of
from dicom_peers import Process, check_results, free_port, send, until
from pynetdicom import AE, VerificationPresentationContexts

from keras_scgm.dicom.objects import PICTURE, SEGMENTATION


def test_an_echo(gateway):
    entity = AE("SCANNER")
    entity.requested_contexts = VerificationPresentationContexts
    link = entity.associate("127.0.0.1", gateway.port, ae_title="SCGM")
    assert link.send_c_echo().Status == 0x0000
    link.release()


def test_a_round_trip(gateway, receiver, relay):
    images = make_images(voxels_of())
    shuffled = [images[k] for k in (3, 0, 4, 2, 1)]
    ct = make_images(voxels_of(), SOPClassUID=pydicom.uid.CTImageStorage, Modality="CT")
    localizer = make_images(voxels_of(), affine_of(turned(90, 0)))
    assert len(send([*localizer, *shuffled, *ct], gateway.port)) == 15
    gateway.wait_for("sent")
    gateway.wait_for("ignored", 2)
    check_results(receiver, images)
    assert gateway.states() == {"sent": 1, "ignored": 2}
    reasons = {line["reason"] for line in gateway.events("ignored")}
    assert reasons == {"not an MR image", "not axial"}

    # Again: nothing new.
    assert len(send(images, gateway.port)) == 5
    gateway.wait_for("received before")
    time.sleep(2)
    assert len(receiver.stored) == 2
    assert relay.n_requests == 1
    assert gateway.states() == {"sent": 1, "ignored": 2}


def test_addresses_that_are_taken(tmp_path, relay, receiver):
    """A gateway that does not start leaves the failed series where they are."""
    image = tmp_path / "store" / "failed" / "0123456789abcdef" / "images" / "1.dcm"
    image.parent.mkdir(parents=True)
    image.touch()
    for options, message in (
        (
            ["--port", str(receiver.port)],
            "cannot listen there (Address already in use); check --host and --port",
        ),
        (["--metrics-port", str(receiver.port)], "Address already in use); check --metrics-port"),
    ):
        arguments = Process(tmp_path, relay, receiver, "--retry-failed", *options).arguments
        ended = subprocess.run(arguments, capture_output=True, text=True, timeout=30)
        assert ended.returncode == 2
        (line,) = (line for line in map(json.loads, ended.stderr.splitlines()) if line["level"] == "error")
        assert message in line["message"]
        assert image.exists()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_no_patient_data_outside_of_dicom_files(tmp_path, relay, receiver):
    """Neither in logs and metrics nor in names, even where highdicom and pydicom would quote them."""
    metrics_port = free_port()
    with Process(tmp_path, relay, receiver, "--metrics-port", str(metrics_port)) as gateway:
        # Prometheus sees an increase only of a counter that was there before.
        metrics = urllib3.request("GET", f"http://127.0.0.1:{metrics_port}/metrics").data.decode()
        for outcome in ("sent", "failed", "ignored"):
            assert f'scgm_gateway_series_total{{outcome="{outcome}"}} 0.0' in metrics
        for verdict in ("pass", "review", "fail"):
            assert f'scgm_gateway_verdicts_total{{verdict="{verdict}"}} 0.0' in metrics
        send(make_images(voxels_of(), PatientName="ZEBROWSKI QUENTIN"), gateway.port)
        gateway.wait_for("sent")
        damaged = make_images(voxels_of())
        damaged[1].PatientName = "Zebrowski=" * 30
        damaged[2].PixelData = b"zebrowski"
        send(damaged, gateway.port)
        gateway.wait_for("failed")
        metrics = urllib3.request("GET", f"http://127.0.0.1:{metrics_port}/metrics").data.decode()
    names = "\n".join(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    records = "\n".join(
        path.read_text() for path in tmp_path.rglob("*") if path.suffix in (".json", ".csv", ".txt")
    )
    told = "\n".join((gateway.log_file.read_text(), metrics, names, records)).lower()
    for private in ("zebrowski", "quentin", PATIENT_ID, BIRTH, PROTOCOL, damaged[0].SeriesInstanceUID):
        assert private.lower() not in told
    assert 'scgm_gateway_series_total{outcome="sent"} 1.0' in metrics
    assert 'scgm_gateway_series_total{outcome="failed"} 1.0' in metrics
    for kind in ("client", "gateway"):
        assert sum(float(n) for n in re.findall(rf"scgm_{kind}_verdicts_total\{{.*\}} (.*)", metrics)) == 1
    assert 'scgm_gateway_pending{state="failed"} 1.0' in metrics


def test_a_kill_in_the_middle_of_an_association(tmp_path, relay, receiver):
    images = make_images(voxels_of(shape=(100, 100, 20)))
    with Process(tmp_path, relay, receiver) as gateway, futures.ThreadPoolExecutor() as pool:
        sending = pool.submit(send, images, gateway.port)
        until(lambda: len(list(tmp_path.rglob("images/*.dcm"))) > 3)
        gateway.kill()
        acknowledged = sending.result()
        assert 0 < len(acknowledged) < len(images)
        gateway.start()
        time.sleep(2)
        # A sender repeats what was not acknowledged, and that alone.
        rest = images[len(acknowledged) :]
        assert len(send(rest, gateway.port)) == len(rest)
        gateway.wait_for("sent")
    check_results(receiver, images)


def test_a_kill_while_the_server_works(gateway, receiver, relay):
    images = make_images(voxels_of())
    relay.free.clear()
    send(images, gateway.port)
    until(lambda: relay.n_requests == 1)
    gateway.kill()
    relay.free.set()
    gateway.start()
    gateway.wait_for("sent")
    check_results(receiver, images)


def test_a_kill_between_two_results(gateway, receiver):
    images = make_images(voxels_of())

    def kill_at_the_second(uid):
        if receiver.stored:
            receiver.before_storing = lambda uid: None
            gateway.kill()
            raise ConnectionError

    receiver.before_storing = kill_at_the_second
    send(images, gateway.port)
    until(lambda: gateway.process.poll() is not None)
    assert len(receiver.stored) == 1
    gateway.start()
    gateway.wait_for("sent")
    check_results(receiver, images)


def test_a_kill_before_the_answer_repeats_that_result_alone(gateway, receiver):
    images = make_images(voxels_of())

    def kill_at_the_first(uid):
        receiver.before_answering = lambda uid: None
        gateway.kill()

    receiver.before_answering = kill_at_the_first
    send(images, gateway.port)
    until(lambda: gateway.process.poll() is not None)
    gateway.start()
    gateway.wait_for("sent")
    uids = [uid for uid, _ in receiver.stored]
    assert len(uids) == 3
    assert uids[0] == uids[1] != uids[2]
    assert receiver.stored[0][1] == receiver.stored[1][1]


def test_the_server_and_the_receiver_end_and_come_back(gateway, receiver, relay):
    images = make_images(voxels_of())
    relay.stop()

    ended = threading.Event()

    def end_at_the_second(uid):
        if receiver.stored:
            receiver.before_storing = lambda uid: None
            receiver.stop()
            ended.set()
            raise ConnectionError

    receiver.before_storing = end_at_the_second
    send(images, gateway.port)
    time.sleep(2)
    assert gateway.states() == {"incoming": 1}
    relay.start()
    assert ended.wait(30)
    line = gateway.wait_for("waiting")
    assert line["reason"] in ("no association", "no answer from the receiver", "the association was ended")
    assert gateway.states() == {"outgoing": 1}
    receiver.start()
    gateway.wait_for("sent")
    check_results(receiver, images)


def test_series_that_fail_are_tried_again_when_asked(gateway, receiver):
    images = make_images(voxels_of())
    send([images[k] for k in (0, 1, 3, 4)], gateway.port)
    line = gateway.wait_for("failed")
    assert line["reason"] == "slices 4.00 to 8.00 mm apart; an image is missing, or they are not one volume"
    (reason,) = (gateway.folder / "store" / "failed").glob("*/reason.txt")
    assert reason.read_text() == f"{line['reason']}\n"
    # Further signals change nothing while it stops.
    while gateway.process.poll() is None:
        gateway.process.send_signal(signal.SIGTERM)
        time.sleep(0.05)
    assert gateway.process.wait() == 0
    assert gateway.events("stopped")

    gateway.arguments.append("--retry-failed")
    gateway.start()
    gateway.wait_for("failed", 2)
    # The missing image brings the series back without being asked.
    send(images[2:3], gateway.port)
    gateway.wait_for("sent")
    check_results(receiver, images)


def test_a_series_is_taken_whole_or_not_at_all(tmp_path, relay, receiver):
    """Some of its images do not fit, before and after those that do, and one header cannot be read."""
    images = make_images(voxels_of())
    del images[0].EchoTime
    images[3].ImageType = ["DERIVED", "SECONDARY", "MPR"]
    images[4].add_new("EchoTime", "LO", "zebrowski")
    metrics_port = free_port()
    with Process(tmp_path, relay, receiver, "--metrics-port", str(metrics_port)) as gateway:
        assert len(send(images[:1], gateway.port)) == 1
        assert gateway.wait_for("ignored")["reason"].startswith("an echo time under 4 ms")
        assert len(send(images, gateway.port)) == 5
        assert gateway.wait_for("failed")["reason"] == (
            "3 of its 5 images do not fit (a header that cannot be read (ValueError); a localizer, a phase image or a "
            "projection; an echo time under 4 ms, or none in the header); correct their headers and send them again, "
            "or delete the folder of the series and send the others alone"
        )
        assert gateway.states() == {"failed": 1}
        assert not receiver.stored
        for image in images:
            image.add_new("EchoTime", "DS", 14.0)
            image.ImageType = ["ORIGINAL", "PRIMARY", "M"]
        send(images, gateway.port)
        gateway.wait_for("sent")
        metrics = urllib3.request("GET", f"http://127.0.0.1:{metrics_port}/metrics").data.decode()
        for outcome in ("ignored", "failed", "sent"):
            assert f'scgm_gateway_series_total{{outcome="{outcome}"}} 1.0' in metrics
        check_results(receiver, images)
        receiver.stored.clear()
        images = make_images(voxels_of(seed=1))
        phases = make_images(
            voxels_of(), uid=images[0].SeriesInstanceUID, ImageType=["ORIGINAL", "PRIMARY", "P"]
        )
        send([*phases, *images], gateway.port)
        gateway.wait_for("sent", 2)
        check_results(receiver, images)


def test_a_full_disk_delays_a_series(gateway, receiver):
    """Files over 6 kB, such as the picture, cannot be written for a while."""
    images = make_images(voxels_of())
    resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, (6000, resource.RLIM_INFINITY))
    send(images, gateway.port)
    assert "writing failed (File too large); free space" in gateway.wait_for("waiting")["reason"]
    resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    gateway.wait_for("sent")
    check_results(receiver, images)


def test_a_reason_that_cannot_be_written_delays_its_series_alone(gateway, receiver):
    images = make_images(voxels_of())
    send([images[k] for k in (0, 1, 3, 4)], gateway.port)
    (folder,) = (gateway.folder / "store" / "incoming").iterdir()
    (folder / "reason.txt").mkdir()
    assert gateway.wait_for("waiting")["reason"] == "Is a directory"
    others = make_images(voxels_of())
    send(others, gateway.port)
    gateway.wait_for("sent")
    check_results(receiver, others)
    (folder / "reason.txt").rmdir()
    gateway.wait_for("failed")
    assert not gateway.events("unexpected error")


def test_a_deadline(tmp_path, relay, receiver):
    receiver.stop()
    with Process(tmp_path, relay, receiver, "--deadline", "2") as gateway:
        send(make_images(voxels_of()), gateway.port)
        line = gateway.wait_for("failed")
        assert line["reason"] == "no association; not done within --deadline"
        assert gateway.states() == {"failed": 1}
        (folder,) = (tmp_path / "store" / "failed").iterdir()
        assert {path.name for path in (folder / "results").glob("*.dcm")} == {SEGMENTATION, PICTURE}


def test_who_may_send_and_how_much(tmp_path, relay, receiver):
    image = make_images(voxels_of())[:1]
    metrics_port = free_port()
    options = "--calling", "SCANNER", "--max-gb", "1e-6", "--metrics-port", str(metrics_port)
    with Process(tmp_path, relay, receiver, *options) as gateway:

        def refusal(n):
            line = gateway.wait_for("refused", n)
            assert (line["level"], line["address"]) == ("warning", "127.0.0.1")
            return line["calling"], line["reason"]

        assert send(image, gateway.port, calling="OTHER") == []
        assert refusal(1) == ("OTHER", "its AE title is not among those of --calling")
        assert send(image, gateway.port, title="OTHER") == []
        assert refusal(2) == ("SCANNER", "it calls another AE title than that of --ae-title")
        assert send(image, gateway.port) == []
        assert refusal(3) == ("SCANNER", "the store has reached --max-gb")
        del image[0].SeriesInstanceUID
        assert send(image, gateway.port) == []
        assert refusal(4) == ("SCANNER", "an image lacks SeriesInstanceUID; correct it at the sender")
        image[0].file_meta.TransferSyntaxUID = pydicom.uid.JPEGBaseline8Bit
        assert send(image, gateway.port) == []
        lossy = "it offers MR images in no transfer syntax that is read; send them uncompressed"
        assert refusal(5) == ("SCANNER", lossy)
        # The same from a sender that has its echoes accepted.
        entity = AE("SCANNER")
        entity.requested_contexts = VerificationPresentationContexts
        entity.add_requested_context(pydicom.uid.MRImageStorage, pydicom.uid.JPEGBaseline8Bit)
        entity.associate("127.0.0.1", gateway.port, ae_title="SCGM").release()
        assert refusal(6) == ("SCANNER", lossy)
        metrics = urllib3.request("GET", f"http://127.0.0.1:{metrics_port}/metrics").data.decode()
        assert "scgm_gateway_refused_total 6.0" in metrics
        assert gateway.states() == {}


def test_dicom_over_tls(tmp_path, relay, receiver):
    """Both sides show certificates; neither a sender without one nor one that says nothing holds others up."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    own = authority.issue_cert("127.0.0.1")
    own.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    own.private_key_pem.write_to_path(tmp_path / "key.pem")
    receiver.stop()
    receiver.tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(receiver.tls)
    authority.configure_trust(receiver.tls)
    receiver.tls.verify_mode = ssl.CERT_REQUIRED
    receiver.start()
    files = [f"--dicom-{name}={tmp_path / name}.pem" for name in ("cert", "key", "ca")]
    scanner, stranger = (ssl.create_default_context(cafile=tmp_path / "ca.pem") for _ in range(2))
    authority.issue_cert("scanner").configure_cert(scanner)
    images = make_images(voxels_of())
    with Process(tmp_path, relay, receiver, *files) as gateway:
        with socket.create_connection(("127.0.0.1", gateway.port)):
            assert send(images, gateway.port, tls=stranger) == []
            assert len(send(images, gateway.port, tls=scanner)) == len(images)
        gateway.wait_for("sent")
    check_results(receiver, images)
