"""Stores the series of the gateway on disk: one folder per series, whose parent folder is its state.

| state | |
|---|---|
| `incoming` | images are received, then segmented |
| `outgoing` | results wait to be sent |
| `sent` | the receiver has accepted all results |
| `failed` | `reason.txt` has the reason |
| `ignored` | only `reason.txt` and the names of the images, none of which is kept |

A change of state is one rename, so that the program can be killed at any moment and continues after a restart.
Names of folders and files are keyed hashes of DICOM identifiers; the key is stored in the same folder.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import secrets
import shutil
import threading
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TextIO

from keras_scgm_client.errors import ClientError

State = Literal["incoming", "outgoing", "sent", "failed", "ignored"]
STATES: tuple[State, ...] = ("incoming", "outgoing", "sent", "failed", "ignored")
CUT_OFF_FACTOR = 10
"""Factor by which the waiting time is longer after a sender was disconnected or refused, since it may return."""

_SERIES_BYTES = 4 * 2**12
"""Counted for each series besides its images: its two folders and two small files take at least a block each."""
_REASON = "reason.txt"
_DISCARDED = "discarded.txt"
_UNRELEASED = "unreleased"
_RESULTS_OF = "images.txt"


@dataclass(frozen=True)
class Discarded:
    """Why an image is not kept, and the place at which another image makes up for it; empty if none does."""

    reason: str
    place: tuple[int, ...] = ()


class SpoolFull(Exception):
    """The store has reached its size limit."""


class Spool:
    """Store of a gateway; safe to use from several threads.

    Args:
        folder: Folder of the store, created if missing; used by one gateway at a time.
        max_bytes: Total size of all files above which images are refused, bytes.

    Raises:
        ClientError: The folder cannot be used, or another gateway uses it.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self._lock = threading.RLock()
        self._temporary = folder / "tmp"
        try:
            for path in (folder, *(folder / state for state in STATES)):
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock_file = _locked(folder / "lock")
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary.mkdir(mode=0o700)
            self._key = self._read_key()
            for name in self.names("incoming"):
                if self._is_empty(name):
                    shutil.rmtree(self.path("incoming", name))
                else:
                    # A sender that was disconnected gets time to send again.
                    os.utime(self._images(self.path("incoming", name)))
        except BlockingIOError as error:
            raise ClientError(f"{folder}: another gateway uses it; give it a folder of its own") from error
        except OSError as error:
            raise ClientError(f"{folder}: cannot be used ({error.strerror}); check --store") from error
        self._n_bytes = self._measure()

    def _read_key(self) -> bytes:
        path = self.folder / "key"
        if not path.exists():
            self._place(secrets.token_bytes(32), path)
        return path.read_bytes()

    def close(self) -> None:
        self._lock_file.close()

    def name(self, uid: str) -> str:
        """Name of a DICOM identifier in files and logs."""
        return hmac.new(self._key, uid.encode(), hashlib.sha256).hexdigest()[:16]

    def names(self, state: State) -> list[str]:
        return sorted(path.name for path in (self.folder / state).iterdir())

    def path(self, state: State, name: str) -> Path:
        return self.folder / state / name

    def images(self, state: State, name: str) -> list[Path]:
        return sorted(self._images(self.path(state, name)).glob("*.dcm"))

    @staticmethod
    def _images(folder: Path) -> Path:
        return folder / "images"

    def store(self, series_uid: str, instance_uid: str, content: bytes) -> bool:
        """Store an image durably: after the return a power failure does not lose it.

        An image that exists already, in any state, is not stored again. A new image returns a finished series to
        `incoming`.

        Returns:
            Whether the image is new.

        Raises:
            SpoolFull: The size limit is reached.
            OSError: The image cannot be written.
        """
        name, file = self.name(series_uid), f"{self.name(instance_uid)}.dcm"
        with self._lock:
            if self._holder(name, file):
                return False
            self._claim(name, len(content))
        temporary = self._write(content)
        with self._lock:
            target = self._reopened(name)
            os.replace(temporary, self._images(target) / file)
            discarded = self.discarded("incoming", name)
            if discarded.pop(file, None):
                self._place(_notes(discarded), target / _DISCARDED)
            for folder in (self._images(target), target, target.parent):
                _sync(folder)
        return True

    def discard(self, series_uid: str, instance_uid: str, reason: str, place: tuple[int, ...] = ()) -> bool:
        """Record durably why an image is not kept; in all else as `store`.

        Args:
            series_uid: SeriesInstanceUID.
            instance_uid: SOPInstanceUID.
            reason: One line.
            place: At which another image of the series makes up for it; nothing does without a place.
        """
        name, file = self.name(series_uid), f"{self.name(instance_uid)}.dcm"
        one = {file: Discarded(reason, place)}
        with self._lock:
            if self._holder(name, file) or any(file in self.discarded(state, name) for state in STATES):
                return False
            self._claim(name, len(_notes(one)))
            target = self._reopened(name)
            self._place(_notes(self.discarded("incoming", name) | one), target / _DISCARDED)
            os.utime(self._images(target))
            _sync(target.parent)
        return True

    def discarded(self, state: State, name: str) -> dict[str, Discarded]:
        """The images of a series that are not kept, by their names."""
        try:
            lines = (self.path(state, name) / _DISCARDED).read_text("utf-8").splitlines()
        except FileNotFoundError:
            return {}
        return {
            file: Discarded(reason, tuple(map(int, filter(None, place.split(",")))))
            for file, place, reason in (line.split(" ", 2) for line in lines)
        }

    def _claim(self, name: str, n_bytes: int) -> None:
        """Count what is about to be written for a series."""
        is_new = not any(self.path(state, name).exists() for state in STATES)
        n_bytes += _SERIES_BYTES if is_new else 0
        if self._n_bytes + n_bytes > self.max_bytes:
            raise SpoolFull
        self._n_bytes += n_bytes

    def _reopened(self, name: str) -> Path:
        """Folder of a series in `incoming`, to which it returns from any other state."""
        for state in STATES:
            if state != "incoming" and self.path(state, name).exists():
                self._move(name, state, "incoming")
        folder = self.path("incoming", name)
        self._images(folder).mkdir(parents=True, exist_ok=True)
        (folder / _UNRELEASED).touch()
        return folder

    def released(self, name: str) -> None:
        """Record that the sender released its association, and all images were kept, so that it has no more of them."""
        (self.path("incoming", name) / _UNRELEASED).unlink(missing_ok=True)

    def _holder(self, name: str, file: str) -> State | None:
        for state in STATES:
            if (self._images(self.path(state, name)) / file).exists():
                return state
        return None

    def complete(self, settle_seconds: float, busy: Collection[str] = ()) -> list[str]:
        """Series without a new image for some time, except those that are being received.

        Args:
            settle_seconds: Time without a new image, s; `CUT_OFF_FACTOR` times as long after the sender was
                disconnected or refused.
            busy: Names of series that are being received.
        """
        return [
            name
            for name in self.names("incoming")
            if name not in busy and self._is_settled(name, settle_seconds) and not self._is_empty(name)
        ]

    def _is_empty(self, name: str) -> bool:
        """Whether the first image was refused, because it could not be written."""
        return not (self.images("incoming", name) or self.discarded("incoming", name))

    def _is_settled(self, name: str, seconds: float) -> bool:
        was_cut_off = (self.path("incoming", name) / _UNRELEASED).exists()
        # A time that is yet to come is of a clock that was set back since.
        return abs(time.time() - self.received(name)) >= seconds * (CUT_OFF_FACTOR if was_cut_off else 1)

    def received(self, name: str, state: State = "incoming") -> float:
        """Time of the last image of a series, seconds since the epoch."""
        try:
            return self._images(self.path(state, name)).stat().st_mtime
        except FileNotFoundError:
            return time.time()

    def has_results(self, name: str, images: Iterable[Path]) -> bool:
        """Whether results of exactly these images exist from an earlier run."""
        try:
            return (self.path("incoming", name) / "results" / _RESULTS_OF).read_text() == _listing(images)
        except FileNotFoundError:
            return False

    def write_results(self, name: str, images: Iterable[Path], results: dict[str, bytes]) -> None:
        """Write all results of a series.

        Raises:
            OSError: A result cannot be written.
        """
        folder = self.path("incoming", name) / "results"
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "sent").mkdir(parents=True)
        for file, content in results.items():
            self._place(content, folder / file)
        self._place(_listing(images).encode(), folder / _RESULTS_OF)

    def unsent(self, name: str) -> list[Path]:
        return sorted((self.path("outgoing", name) / "results").glob("*.dcm"))

    def mark_sent(self, file: Path) -> None:
        """Record that the receiver has accepted a result."""
        os.replace(file, file.parent / "sent" / file.name)
        _sync(file.parent / "sent")
        _sync(file.parent)

    def advance(
        self,
        name: str,
        images: Iterable[Path],
        source: State,
        target: State,
        reason: str = "",
        discarded: Mapping[str, Discarded] | None = None,
    ) -> bool:
        """Change the state of a series, unless more images arrived in the meantime.

        Args:
            name: Name of the series.
            images: Its images, of which the new state comes.
            source: Its state.
            target: Its new state.
            reason: For it, one line.
            discarded: Its images that are not kept and were found not to be missed in results; None for none.

        Returns:
            Whether the state was changed.

        Raises:
            OSError: The state cannot be written.
        """
        with self._lock:
            if not self.path(source, name).exists() or _listing(self.images(source, name)) != _listing(
                images
            ):
                return False
            if target == "outgoing" and self.discarded(source, name) != (discarded or {}):
                return False
            if reason:
                (self.path(source, name) / _REASON).write_text(f"{reason}\n", "utf-8")
            self._move(name, source, target)
        return True

    def retry_failed(self) -> list[str]:
        """Return all failed series that have images to `incoming`."""
        with self._lock:
            names = [name for name in self.names("failed") if self.images("failed", name)]
            for name in names:
                self._move(name, "failed", "incoming")
                os.utime(self._images(self.path("incoming", name)))
        return names

    def prune(self, keep_seconds: float) -> list[str]:
        """Delete old series that were sent or ignored.

        Returns:
            Names of the deleted series.
        """
        old = []
        with self._lock:
            for state in ("sent", "ignored"):
                for name in self.names(state):
                    path = self.path(state, name)
                    results = path / "results"
                    if time.time() - (results if results.exists() else path).stat().st_mtime > keep_seconds:
                        # Renamed first, so that a partly deleted series is never taken for a series.
                        os.replace(path, self._temporary / name)
                        shutil.rmtree(self._temporary / name, ignore_errors=True)
                        old.append(name)
            self._n_bytes = self._measure()
        return old

    def _move(self, name: str, source: State, target: State) -> None:
        if target == "incoming":
            (self.path(source, name) / _REASON).unlink(missing_ok=True)
        os.replace(self.path(source, name), self.path(target, name))
        _sync(self.folder / source)
        _sync(self.folder / target)

    def _place(self, content: bytes, path: Path) -> None:
        os.replace(self._write(content), path)
        _sync(path.parent)

    def _write(self, content: bytes) -> Path:
        temporary = self._temporary / secrets.token_hex(8)
        try:
            with open(temporary, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        return temporary

    def _measure(self) -> int:
        total = _SERIES_BYTES * sum(len(self.names(state)) for state in STATES)
        for parent, _, files in os.walk(self.folder):
            for file in files:
                try:
                    total += os.stat(os.path.join(parent, file)).st_size
                except FileNotFoundError:
                    continue
        return total


def _locked(path: Path) -> TextIO:
    file = path.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise
    return file


def _notes(discarded: Mapping[str, Discarded]) -> bytes:
    return "".join(
        f"{file} {','.join(map(str, one.place))} {one.reason}\n" for file, one in discarded.items()
    ).encode()


def _listing(images: Iterable[Path]) -> str:
    return "".join(f"{image.name}\n" for image in images)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
