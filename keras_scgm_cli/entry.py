"""Entry point of the program: what holds before anything that takes time is imported."""

import errno
import os
import signal
import sys
from contextlib import suppress

from keras_scgm_cli.interruption import SIGNALS, exits_on_interrupt

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EPIPE)


def main() -> None:
    """Run the program."""
    _open_missing_streams()
    try:
        with exits_on_interrupt():
            from keras_scgm_cli.main import main as run

            run()
    except OSError as error:
        if error.errno not in _FULL:
            raise
        place = f"{error.filename}: " if error.filename else ""
        # Standard error may be what is full.
        with suppress(OSError):
            print(f"error: {place}writing failed ({error.strerror}); free space", file=sys.stderr, flush=True)
        # Python writes what is left to write once more when it ends.
        _write_nowhere(1, 2)
        sys.exit(2)
    finally:
        # Nothing is left to interrupt.
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)


def _open_missing_streams() -> None:
    """A descriptor that the caller has closed would be that of the next file, and get what libraries print."""
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            _write_nowhere(descriptor)
            setattr(sys, name, open(descriptor, "w", encoding="utf-8"))  # noqa: SIM115


def _write_nowhere(*descriptors: int) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in descriptors:
        os.dup2(nowhere, descriptor)
