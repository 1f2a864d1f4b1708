"""One served model in a process of its own, so that the cost of each request can be told.

The process holds TensorFlow and the model, and none of this package. TensorFlow's Python package takes 0.65 GB that a
server does not have; a module that calls TensorFlow from C does without. The process answers one request after another
from its standard input:

    with ServedProcess("models/gm_nifti/1") as served:
        answer = served.ask([Path("image.nii.gz").read_bytes()])
        print(answer.cpu_seconds, answer.peak_bytes, answer.outputs["verdict"])
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import pickle
import re
import resource
import select
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

SIGNATURES = ("serving_default", "soft")


@dataclass(frozen=True)
class Answer:
    """What a request brought and what it cost.

    Args:
        cpu_seconds: processor time of all threads.
        peak_bytes: largest resident memory of the process while it computed.
        error: why the request was refused; empty if it was not.
        outputs: of the signature, by name.
    """

    cpu_seconds: float
    peak_bytes: int
    error: str = ""
    outputs: dict[str, np.ndarray] = field(default_factory=dict)


class ServedProcess:
    """A process that serves a SavedModel of `gm_nifti`.

    Args:
        model: folder of a version.
        threads: of an operation.
        warm_up: files that both signatures are called with first, since the first call of a graph also optimizes it.
        from_c: Python file with `bind`, `find_library` and `Model`, which call TensorFlow from C. Outputs are then the
            bytes of each.
    """

    def __init__(
        self,
        model: str | Path,
        threads: int = 2,
        warm_up: tuple[bytes, ...] = (),
        from_c: Path | None = None,
    ) -> None:
        self._command = [
            sys.executable,
            __file__,
            str(model),
            str(threads),
            *([str(from_c)] if from_c else []),
        ]
        self._warm_up = warm_up
        self._start()

    def _start(self) -> None:
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        for signature in SIGNATURES if self._warm_up else ():
            self.ask(list(self._warm_up), signature)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def ask(
        self, files: list[bytes], signature: str = "serving_default", timeout_seconds: float = 300
    ) -> Answer:
        """Segment the files in one request.

        Raises:
            ChildProcessError: the process ended, or did not answer in time; another one takes its place.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            pickle.dump((signature, files), self._process.stdin)
            self._process.stdin.flush()
            if not select.select([self._process.stdout], [], [], timeout_seconds)[0]:
                raise TimeoutError(f"no answer in {timeout_seconds:g} s")
            return Answer(*pickle.load(self._process.stdout))
        except (EOFError, BrokenPipeError, TimeoutError) as error:
            self.__exit__()
            self._start()
            raise ChildProcessError(f"the server ended: {error}") from error


class _Refused(Exception):
    """An error of the graph."""


Run = Callable[[str, list[bytes]], dict[str, Any]]
"""Signature and files -> outputs by name."""


def _python_session(model: str, threads: int) -> Run:
    import tensorflow as tf

    config = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=threads)
    # As a server holds it, which knows nothing of Python's functions.
    session = tf.compat.v1.Session(graph=tf.Graph(), config=config)
    with session.graph.as_default():
        signatures = tf.compat.v1.saved_model.load(session, ["serve"], model).signature_def

    def run(signature: str, files: list[bytes]) -> dict[str, Any]:
        ends = signatures[signature]
        given = {ends.inputs["nifti_bytes"].name: np.array(files, object)}
        try:
            return session.run({name: end.name for name, end in ends.outputs.items()}, given)
        except tf.errors.OpError as error:
            raise _Refused(error.message) from error

    return run


def _c_session(model: str, threads: int, module: str) -> Run:
    spec = importlib.util.spec_from_file_location("from_c", module)
    assert spec is not None
    assert spec.loader is not None
    from_c = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(from_c)
    library = from_c.bind(from_c.find_library())
    loaded = from_c.Model(library, model, threads)

    def run(signature: str, files: list[bytes]) -> dict[str, Any]:
        inputs, outputs = loaded.signatures[signature][1], loaded.signatures[signature][2]
        end = inputs["nifti_bytes"]
        given = loaded.tensor(end["dtype"], [len(files)], files)
        try:
            found = loaded.run([(end["name"], given)], [output["name"] for output in outputs.values()])
        except from_c.TFError as error:
            raise _Refused(str(error)) from error
        finally:
            library.TF_DeleteTensor(given)
        return {name: data for name, (_, _, data) in zip(outputs, found, strict=True)}

    return run


def _answer_requests(model: str, threads: str, *from_c: str) -> None:
    # What libraries print must not come between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    run = _c_session(model, int(threads), *from_c) if from_c else _python_session(model, int(threads))
    while True:
        try:
            signature, files = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        _forget_peak()
        before = _cpu_seconds()
        outputs: dict[str, Any] = {}
        error = ""
        try:
            outputs = run(signature, files)
        except _Refused as reason:
            error = _line_of(str(reason))
        pickle.dump((_cpu_seconds() - before, _peak_bytes(), error, outputs), answers)
        answers.flush()


def _line_of(message: str) -> str:
    """The line of a failed check that the graph wrote, without what TensorFlow puts around it."""
    found = re.search(
        r"(?:assertion failed: |Assertion failed: )?\[(nifti_bytes.*?)\](?:\s|$)", message, re.DOTALL
    )
    return found[1] if found else message.splitlines()[0]


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _forget_peak() -> None:
    """Give memory that is not in use back to the system, and begin to measure the peak anew."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def _peak_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    _answer_requests(*sys.argv[1:])
