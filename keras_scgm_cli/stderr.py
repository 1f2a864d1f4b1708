"""Imports Keras without the log lines that its backend prints."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from keras_scgm.errors import InputError
from keras_scgm_cli.interruption import exits_on_interrupt


def import_keras_scgm() -> None:
    """Import the package, with its backend's start-up messages held back.

    TensorFlow writes them to the process's standard error before its log level can be set, the last ones in its
    first operation. They are shown if the import fails.
    """
    with held_back_stderr() as stderr, exits_on_interrupt(stderr):
        import keras

        import keras_scgm  # noqa: F401

        if keras.backend.backend() == "tensorflow":
            keras.ops.zeros(1)


@contextmanager
def held_back_stderr() -> Iterator[int]:
    """Hold back what libraries print to standard error; show it only after an unexpected error.

    Returns:
        File descriptor of standard error itself.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    try:
        held_back = tempfile.TemporaryFile()  # noqa: SIM115
    except OSError:
        # In a container whose folders are read-only nothing can be held back.
        yield 2
        return
    saved = os.dup(2)
    with held_back:
        os.dup2(held_back.fileno(), 2)
        try:
            yield saved
        except (InputError, KeyboardInterrupt):
            raise
        except BaseException:
            held_back.seek(0)
            os.write(saved, held_back.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)
