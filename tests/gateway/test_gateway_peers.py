"""Addresses, options and sending, without a running gateway."""

import os
import re
import socket
import struct
import time

import pydicom
import pytest
from dicom_images import make_images, save, segmented, voxels_of
from dicom_peers import send, until
from keras_scgm_client.cli import main
from keras_scgm_client.dicom import peers
from keras_scgm_client.dicom.peers import (
    Peer,
    PeerRefuses,
    PeerUnavailable,
    Sender,
    is_ae_title,
    readable_syntaxes,
)
from keras_scgm_client.dicom.spool import Spool, SpoolFull
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    SecondaryCaptureImageStorage,
)
from pynetdicom import VerificationPresentationContexts, build_context

from keras_scgm.dicom.objects import SEGMENTATION, make_segmentation
from keras_scgm.dicom.series import read_series


@pytest.mark.parametrize("text", ["PACS@127.0.0.1:11112", "P A@[::1]:104"])
def test_addresses(text):
    peer = Peer.parse(text)
    assert peer in (Peer("PACS", "127.0.0.1", 11112), Peer("P A", "::1", 104))


@pytest.mark.parametrize(
    "text", ["127.0.0.1:104", "PACS@:104", "PACS@h", "PACS@h:0", "PACS@h:70000", "@h:1", "P\\@h:1"]
)
def test_addresses_that_are_none(text):
    with pytest.raises(ValueError, match=r"give for example PACS@pacs\.example\.org:104"):
        Peer.parse(text)


def test_titles():
    assert all(map(is_ae_title, ("A", "SCGM", "A B", "X" * 16)))
    assert not any(map(is_ae_title, ("", " ", " A", "A ", "X" * 17, "A\\B", "Ä", "A\n")))


def test_only_what_can_be_read_without_loss_is_taken():
    syntaxes = readable_syntaxes()
    assert {ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless} <= set(syntaxes)
    assert not {pydicom.uid.JPEGBaseline8Bit, pydicom.uid.JPEG2000, pydicom.uid.MPEG2MPML} & set(syntaxes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--ae-title", "X" * 17], "X{17}: not an AE title; give 1 to 16 ASCII characters"),
        (["--calling", "A\\B"], "not an AE title"),
        (["--send-to", "PACS"], "PACS: not a DICOM address"),
        (["--match", "("], r"--match \(: not a regular expression"),
        (["--settle", "0"], "--settle must be over 0, received 0"),
        (["--deadline", "nan"], "--deadline must be over 0, received nan"),
        (["--max-gb", "-1"], "--max-gb must be over 0, received -1"),
        (["--max-gb", "nan"], "--max-gb must be over 0, received nan"),
        (["--max-gb", "inf"], "--max-gb must be finite, received inf"),
        (["--port", "70000"], "--port must be 0 to 65535, received 70000"),
        (["--dicom-cert", "a.pem"], "go together; give all three"),
    ],
)
def test_settings_that_are_refused(options, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(
            ["dicom-gateway", "--store", str(tmp_path / "store"), "--send-to", "PACS@127.0.0.1:104", *options]
        )
    assert stop.value.code == 2
    assert re.search(message, capsys.readouterr().err)
    assert not list(tmp_path.iterdir())


def test_no_more_than_an_image_is_kept_in_memory(tmp_path, monkeypatch):
    """Of an association, until it is answered; a PDU may claim any length, before its sender is known, too."""
    images = make_images(voxels_of(shape=(64, 64, 5)))
    n_bytes = 3 * 64 * 64
    monkeypatch.setattr(peers, "MAX_IMAGE_BYTES", n_bytes)
    told = []
    spool = Spool(tmp_path, 10**9)
    listener = peers.Listener(
        spool, "SCGM", (), None, lambda *event, **fields: told.append(fields.get("reason")), None
    )
    port = listener.start("127.0.0.1", 0)
    try:
        assert send(images, port) == images
        assert not any(told)
        assert send(make_images(voxels_of(shape=(128, 128, 1))), port) == []
        reason = f"an image of over {n_bytes / 1e6:.0f} MB"
        assert told[-1] == reason
        with socket.create_connection(("127.0.0.1", port), timeout=10) as peer:
            peer.sendall(struct.pack(">BBL", 1, 0, 2**32 - 1))
            assert peer.recv(1) == b"", "closed"
        assert told[-2:] == [reason] * 2
    finally:
        listener.stop()
        spool.close()


def test_a_series_waits_for_an_image_that_was_refused(tmp_path, monkeypatch):
    images = make_images(voxels_of())
    spool = Spool(tmp_path, 10**9)
    listener = peers.Listener(spool, "SCGM", (), None, lambda *event, **fields: None, None)
    port = listener.start("127.0.0.1", 0)
    name, store = spool.name(images[0].SeriesInstanceUID), spool.store

    def later(seconds):
        (server,) = listener._entity._servers
        until(lambda: not server.active_associations)
        long_ago = time.time() - 20
        os.utime(spool.path("incoming", name) / "images", (long_ago, long_ago))
        return spool.complete(seconds)

    def refuse_the_last(series_uid, instance_uid, content):
        if instance_uid == images[4].SOPInstanceUID:
            raise SpoolFull
        return store(series_uid, instance_uid, content)

    try:
        monkeypatch.setattr(spool, "store", refuse_the_last)
        assert send(images[:3], port) == images[:3]
        assert later(10) == [name]
        assert send([images[4], images[3]], port) == images[3:4]
        assert (later(10), later(2)) == ([], [name])
        monkeypatch.undo()
        assert send(images[4:], port) == images[4:]
        assert later(10) == [name]
    finally:
        listener.stop()
        spool.close()


@pytest.fixture
def result(tmp_path):
    """A segmentation as a file."""
    series = read_series(save(make_images(voxels_of()), tmp_path / "in"))
    path = tmp_path / SEGMENTATION
    path.write_bytes(make_segmentation(series, segmented(series.volume.array > 100)))
    return path


def sender_to(receiver, title="ARCHIVE"):
    return Sender(Peer(title, "127.0.0.1", receiver.port), "SCGM", None)


@pytest.mark.parametrize("status", [0x0000, 0xB000, 0xB007])
def test_a_result_that_is_accepted(status, receiver, result):
    receiver.status = status
    accepted = []
    sender_to(receiver).send([result], accepted.append)
    assert accepted == [result]
    ((uid, _),) = receiver.stored
    assert uid == pydicom.dcmread(result).SOPInstanceUID


@pytest.mark.parametrize(
    ("status", "error"),
    [(0xA700, PeerUnavailable), (0x0110, PeerUnavailable), (0xA900, PeerRefuses), (0xC123, PeerRefuses)],
)
def test_a_result_that_is_not_accepted(status, error, receiver, result):
    receiver.status = status
    accepted = []
    with pytest.raises(error, match=f"the receiver answers 1_segmentation with status {status:04X}"):
        sender_to(receiver).send([result], accepted.append)
    assert accepted == []


def test_receivers_that_are_not_there_or_take_something_else(receiver, result):
    with pytest.raises(PeerUnavailable, match="the receiver rejects the association; check the AE titles"):
        sender_to(receiver, "OTHER").send([result], print)
    receiver.stop()
    with pytest.raises(PeerUnavailable, match="no association"):
        sender_to(receiver).send([result], print)
    for contexts, message in (
        (
            [build_context(SecondaryCaptureImageStorage)],
            "the receiver does not accept objects such as 1_segmentation",
        ),
        (
            VerificationPresentationContexts,
            "the receiver accepts neither segmentations nor secondary captures",
        ),
    ):
        receiver.contexts = contexts
        receiver.start()
        with pytest.raises(PeerRefuses, match=message):
            sender_to(receiver).send([result], print)
        receiver.stop()
