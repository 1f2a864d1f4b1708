"""A search in several processes: a chief hands out the trials over gRPC, and workers run them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
from keras_tuner.errors import FatalError

from keras_scgm.errors import InputError
from keras_scgm.files import write_text

if TYPE_CHECKING:
    from keras_tuner.engine.base_tuner import BaseTuner as _Tuner
else:
    _Tuner = object

MESSAGE = "error.txt"
"""File in the folder of a trial by which a worker tells the chief why it failed; KerasTuner does not send that."""


class WorkerTuner(_Tuner):
    """What a tuner does in a worker; to be inherited before KerasTuner's class."""

    def search(self, *arguments: Any, **options: Any) -> None:
        if self._is_worker():
            self.oracle.stub = PatientStub(self.oracle.stub)
        super().search(*arguments, **options)

    def on_trial_end(self, trial: Any) -> None:
        if self._is_worker() and trial.message:
            write_text(Path(self.get_trial_dir(trial.trial_id)) / MESSAGE, trial.message)
        super().on_trial_end(trial)


class PatientStub:
    """The chief's methods; a worker that has to wait for the chief says so.

    Args:
        stub: KerasTuner's gRPC stub.

    Raises:
        keras_tuner.errors.FatalError: The chief does not answer in KerasTuner's time limit, or fails.
    """

    def __init__(self, stub: Any) -> None:
        self._stub = stub

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._stub, name)
        chief = f"the chief at {os.environ['KERASTUNER_ORACLE_IP']}:{os.environ['KERASTUNER_ORACLE_PORT']}"

        def call(request: Any, *, timeout: float, **_: Any) -> Any:
            try:
                try:
                    return method(request, timeout=timeout)
                except grpc.RpcError as error:
                    if error.code() is not grpc.StatusCode.UNAVAILABLE:
                        raise
                minutes = f"{timeout / 60:g} minutes"
                print(f"{chief} does not answer; waiting for it, at most {minutes}", flush=True)
                return method(request, timeout=timeout, wait_for_ready=True)
            except grpc.RpcError as error:
                if error.code() in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE):
                    what = "does not answer; start it with --resume, then this worker"
                else:
                    what = (
                        f"failed ({' '.join((error.details() or error.code().name).split())}); see its output"
                    )
                raise FatalError(f"{chief} {what}") from InputError(f"{chief} {what}")

        return call
