"""One process per folder: locks that end with the process, and starts that leave nothing if they fail."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:
    # Windows has none.
    fcntl = None  # type: ignore[assignment]

from keras_scgm.errors import InputError
from keras_scgm.files import cannot_write


@contextmanager
def exclusive_start(folder: Path, marker: str) -> Iterator[None]:
    """Keeps other processes out of a folder, and removes what a start that fails has put there, and a new folder.

    Args:
        folder: Folder of a result.
        marker: Name of the file that shows that the work has started; once it is there, nothing is removed.

    Raises:
        InputError: It is not a folder, another process works there, or nothing can be written there.
    """
    way = [*reversed(folder.absolute().parents), folder.absolute()]
    made = next((path for path in way if not path.exists()), None)
    try:
        before = set(folder.iterdir()) if made is None else set()
    except OSError as error:
        raise cannot_write(folder, error) from error
    with locked(folder):
        try:
            yield
        except BaseException:
            if not (folder / marker).exists():
                for path in (set(folder.iterdir()) - before) if made is None else {made}:
                    if path.is_dir():
                        shutil.rmtree(path)
                    else:
                        path.unlink(missing_ok=True)
            raise


@contextmanager
def locked(folder: Path, advice: str = "wait for its end, or choose another folder") -> Iterator[None]:
    """A lock, if the file system has locks; it ends with the process, even if that is killed.

    Args:
        folder: Folder to lock.
        advice: Advice in the message if another process works there.

    Raises:
        InputError: Another process works in the folder, or nothing can be written there.
    """
    path = folder / ".lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    except OSError as error:
        raise cannot_write(folder, error) from error
    with file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not os.fstat(file.fileno()).st_nlink:
                    # Its holder has just ended and removed it, so another process may have made a new one.
                    raise BlockingIOError
            except BlockingIOError as error:
                raise InputError(f"{folder}: another process works there; {advice}") from error
            except OSError:
                pass
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
