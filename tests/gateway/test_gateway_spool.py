"""What the gateway holds on disk."""

import os
import resource
import time
from contextlib import closing

import pytest
from keras_scgm_client.dicom.spool import STATES, Discarded, Spool, SpoolFull
from keras_scgm_client.errors import ClientError


@pytest.fixture
def spool(tmp_path):
    with closing(Spool(tmp_path / "store", 100_000)) as opened:
        yield opened


def again(spool):
    """The same folder, as a new process finds it."""
    spool.close()
    return closing(Spool(spool.folder, spool.max_bytes))


def sent(spool, name):
    images = spool.images("incoming", name)
    spool.write_results(name, images, {"1.dcm": b"a", "2.dcm": b"b"})
    assert spool.advance(name, images, "incoming", "outgoing")
    for file in spool.unsent(name):
        spool.mark_sent(file)
    assert spool.advance(name, images, "outgoing", "sent")


def states(spool):
    return {state: names for state in STATES if (names := spool.names(state))}


def test_an_image_is_kept_once(spool):
    assert spool.store("1.2", "1.2.1", b"image")
    assert not spool.store("1.2", "1.2.1", b"image")
    name = spool.name("1.2")
    (file,) = spool.images("incoming", name)
    assert file.read_bytes() == b"image"
    sent(spool, name)
    assert not spool.store("1.2", "1.2.1", b"image")
    assert states(spool) == {"sent": [name]}
    with again(spool) as later:
        assert later.name("1.2") == name
        assert not later.store("1.2", "1.2.1", b"image")


def test_a_late_image_brings_a_series_back(spool):
    spool.store("1.2", "1.2.1", b"image")
    name = spool.name("1.2")
    sent(spool, name)
    assert spool.store("1.2", "1.2.2", b"late")
    assert states(spool) == {"incoming": [name]}
    assert not spool.has_results(name, spool.images("incoming", name))
    assert len(spool.images("incoming", name)) == 2


def test_an_image_that_comes_during_the_work_holds_it_back(spool):
    spool.store("1.2", "1.2.1", b"image")
    name = spool.name("1.2")
    images = spool.images("incoming", name)
    spool.store("1.2", "1.2.2", b"late")
    assert not spool.advance(name, images, "incoming", "outgoing")
    assert not spool.advance(name, images, "incoming", "failed", "a reason")
    assert not spool.advance(name, [], "outgoing", "sent")
    assert states(spool) == {"incoming": [name]}
    assert not list(spool.folder.rglob("reason.txt"))


def test_images_that_are_not_kept_belong_to_their_series(spool):
    """Whatever its state is, and until they are sent again and kept."""
    name = spool.name("1.2")
    assert spool.discard("1.2", "1.2.1", "not axial")
    assert spool.complete(60) == []
    assert spool.advance(name, [], "incoming", "ignored", "not axial")
    spool.store("1.2", "1.2.2", b"image")
    assert states(spool) == {"incoming": [name]}
    assert not list(spool.folder.rglob("reason.txt"))
    with again(spool) as later:
        assert not later.discard("1.2", "1.2.1", "not axial")
        assert list(later.discarded("incoming", name).values()) == [Discarded("not axial")]
        assert not later.advance(name, later.images("incoming", name), "incoming", "outgoing")
        assert later.store("1.2", "1.2.1", b"corrected")
        assert later.discarded("incoming", name) == {}
        assert not later.discard("1.2", "1.2.1", "not axial")
        sent(later, name)
        assert later.discard("1.2", "1.2.3", "not axial")
        assert states(later) == {"incoming": [name]}


def test_a_full_disk_damages_no_reason(spool):
    spool.discard("1.2", "1.2.1", "another kind", (0, 1))
    name = spool.name("1.2")
    before = spool.discarded("incoming", name)
    (notes,) = spool.folder.rglob("discarded.txt")
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (notes.stat().st_size + 5, unlimited[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            spool.discard("1.2", "1.2.2", "another kind", (0, 2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert spool.discarded("incoming", name) == before
    assert spool.discard("1.2", "1.2.2", "another kind", (0, 2))
    assert len(spool.discarded("incoming", name)) == 2


def test_results_are_made_once_for_the_same_images(spool):
    spool.store("1.2", "1.2.1", b"image")
    name = spool.name("1.2")
    images = spool.images("incoming", name)
    assert not spool.has_results(name, images)
    spool.write_results(name, images, {"1.dcm": b"a"})
    with again(spool) as later:
        assert later.has_results(name, later.images("incoming", name))


def test_when_a_series_is_complete(spool):
    spool.store("1.2", "1.2.1", b"image")
    name = spool.name("1.2")
    assert spool.complete(60) == []
    assert spool.complete(0) == [name]
    assert spool.complete(0, busy={name}) == []
    images = spool.path("incoming", name) / "images"
    os.utime(images, (0, time.time() - 100))
    assert spool.complete(60) == []
    spool.released(name)
    assert spool.complete(60) == [name]
    spool.store("1.2", "1.2.2", b"of a sender that is cut off")
    os.utime(images, (0, time.time() - 100))
    assert spool.complete(60) == []
    os.utime(images, (0, time.time() - 700))
    assert spool.complete(60) == [name]
    # The clock was set back since.
    os.utime(images, (0, time.time() + 700))
    assert spool.complete(60) == [name]
    with again(spool) as later:
        # The sender has the whole time again.
        assert later.complete(60) == []


def test_one_gateway_per_folder(spool):
    with pytest.raises(ClientError, match="another gateway uses it"):
        Spool(spool.folder, 1)
    (spool.folder / "file").touch()
    with pytest.raises(ClientError, match=r"cannot be used \(File exists\); check --store"):
        Spool(spool.folder / "file", 1)


def test_no_more_than_the_bound(spool):
    spool.store("1.2", "1.2.1", b"x" * 60_000)
    with pytest.raises(SpoolFull):
        spool.store("1.2", "1.2.2", b"x" * 60_000)
    with again(spool) as later:
        with pytest.raises(SpoolFull):
            later.store("1.2", "1.2.2", b"x" * 60_000)
        sent(later, later.name("1.2"))
        later.prune(-1)
        assert later.store("1.2", "1.2.2", b"x" * 60_000)


def test_what_is_not_kept_counts_too(spool):
    """Each series has folders on the disk, and each image a line in a file."""
    for k in range(6):
        assert spool.discard(f"1.{k}", "1.1", "not axial")
    with pytest.raises(SpoolFull):
        spool.discard("1.6", "1.1", "not axial")
    with pytest.raises(SpoolFull):
        spool.discard("1.0", "1.2", "x" * 10_000)
    assert len(spool.names("incoming")) == 6
    with again(spool) as later, pytest.raises(SpoolFull):
        later.discard("1.6", "1.1", "not axial")


def test_what_is_deleted_and_what_stays(spool):
    for uid in ("1.2", "1.3", "1.4"):
        spool.store(uid, f"{uid}.1", b"image")
    sent(spool, spool.name("1.2"))
    failed = spool.name("1.3")
    spool.advance(failed, spool.images("incoming", failed), "incoming", "failed", "a reason")
    assert (spool.path("failed", failed) / "reason.txt").read_text() == "a reason\n"
    ignored = spool.name("1.5")
    assert spool.discard("1.5", "1.5.1", "not axial")
    assert spool.advance(ignored, [], "incoming", "ignored", "not axial")
    assert not spool.discard("1.5", "1.5.1", "not axial")
    assert spool.prune(60) == []
    assert spool.prune(-1) == [spool.name("1.2"), ignored]
    assert states(spool) == {"incoming": [spool.name("1.4")], "failed": [failed]}
    (spool.path("failed", "0123456789abcdef") / "images").mkdir(parents=True)
    spool.path("failed", "fedcba9876543210").mkdir()
    assert spool.retry_failed() == [failed]
    assert spool.names("incoming") == sorted([failed, spool.name("1.4")])
    assert not list(spool.folder.rglob("reason.txt"))


def test_leftovers_of_a_kill_are_removed(spool):
    (spool.path("incoming", "0123456789abcdef") / "images").mkdir(parents=True)
    assert spool.complete(0) == []
    (spool.folder / "tmp" / "half").write_bytes(b"half an image")
    spool.discard("1.2", "1.2.1", "not axial")
    with again(spool) as later:
        assert states(later) == {"incoming": [later.name("1.2")]}
        assert not list((later.folder / "tmp").iterdir())
