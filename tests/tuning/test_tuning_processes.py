"""A search in several processes, where one of them fails or is started again; without the processes."""

import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from tiny_search import KERAS_TUNER_WARNINGS, SEARCH, TRAINING

pytest.importorskip("keras_tuner")

from keras_tuner.engine.trial import Trial
from keras_tuner.errors import FatalError

from keras_scgm.datasets import AnnotatedVolume
from keras_scgm.errors import InputError
from keras_scgm.locks import locked
from keras_scgm.training import SliceBatches, TrainingConfig
from keras_scgm.tuning import tune, tuners
from keras_scgm.tuning.processes import PatientStub, WorkerTuner
from keras_scgm.tuning.record import SearchRecord
from keras_scgm.tuning.trial_setup import TrialSetup

pytestmark = KERAS_TUNER_WARNINGS


@pytest.fixture
def new_oracle(batches: SliceBatches, tmp_path: Path) -> Callable[[], Any]:
    setup = TrialSetup(tmp_path, TRAINING, batches, (), (), verbose=True)

    def made() -> Any:
        record = SearchRecord(setup, "best.weights.h5", lambda hp: TRAINING, 4)
        oracle = tuners.oracle_of(SEARCH, TRAINING, record)
        oracle.max_trials = 4
        oracle.hyperparameters.Float("noise", 0.0, 0.3)
        oracle._set_project_dir(str(tmp_path), "trials")
        return oracle

    return made


def ended(trial: Any, status: str) -> Trial:
    """A trial as KerasTuner's gRPC brings it to the chief, without its message."""
    return Trial(trial.hyperparameters, trial.trial_id, status)


def set_variables(monkeypatch: pytest.MonkeyPatch, port: object, name: str) -> None:
    for key, value in {"ORACLE_IP": "127.0.0.1", "ORACLE_PORT": port, "TUNER_ID": name}.items():
        monkeypatch.setenv(f"KERASTUNER_{key}", str(value))


def test_address_in_use_is_refused(
    batches: SliceBatches,
    volumes: Sequence[AnnotatedVolume],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for port in (taken.getsockname()[1], "none", 70000):
            set_variables(monkeypatch, port, "chief")
            with pytest.raises(
                InputError, match=rf"the chief cannot listen at 127.0.0.1:{port} \(.*\); change "
            ):
                tune(SEARCH, TRAINING, batches, tmp_path / "out", volumes)
    assert not (tmp_path / "out").exists()


def test_a_trial_has_one_process(
    batches: SliceBatches, volumes: Sequence[AnnotatedVolume], tmp_path: Path
) -> None:
    trial = tmp_path / "trials" / "trial_0"
    with (
        locked(trial),
        pytest.raises(InputError, match="trial_0: another process works there; give each worker a KERAS"),
    ):
        tune(SEARCH, TRAINING, batches, tmp_path, volumes)
    assert not (trial / "spec.json").exists()


def test_search_goes_on_under_another_name(
    drawn_scores: list[TrainingConfig],
    batches: SliceBatches,
    volumes: Sequence[AnnotatedVolume],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tune(SEARCH, TRAINING, batches, tmp_path, volumes)
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "other")
    tune(SEARCH, TRAINING, batches, tmp_path, volumes, resume=True)
    assert len(drawn_scores) == 2


def test_error_of_the_chief_stops_all_workers(
    new_oracle: Callable[[], Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    oracle = new_oracle()
    oracle.create_trial("other")
    for _ in range(3):
        trial = oracle.create_trial("worker")
        (tmp_path / "trials" / f"trial_{trial.trial_id}" / "error.txt").write_text("MemoryError: too large")
        oracle.end_trial(ended(trial, "FAILED"))
    assert "trial_1 (1 of at most 4): failed, MemoryError: too large" in capsys.readouterr().out
    assert "Number of consecutive failures" in str(oracle.failure)
    # In a thread of its own, as KerasTuner's lock is open for the thread that has it.
    stopped: list[Any] = []
    asking = threading.Thread(target=lambda: stopped.append(oracle.create_trial("worker")), daemon=True)
    asking.start()
    asking.join(60)
    assert [trial.status for trial in stopped] == ["STOPPED"]
    assert capsys.readouterr().out.startswith("no trial is left; waiting for other; start")
    assert oracle.create_trial("other").status == "STOPPED"
    assert not oracle.tuner_ids
    assert not oracle.ongoing_trials


def test_trial_of_a_former_chief_counts_once(new_oracle: Callable[[], Any]) -> None:
    former = new_oracle()
    trial = former.create_trial("worker")
    oracle = new_oracle()
    oracle.reload()
    oracle.update_trial(trial.trial_id, {"val_dsc": 0.5})
    oracle.end_trial(ended(trial, "COMPLETED"))
    assert oracle.create_trial("worker").trial_id == "1"
    assert oracle.end_order == ["0"]


def test_trial_that_has_ended_is_not_run_again(new_oracle: Callable[[], Any]) -> None:
    former = new_oracle()
    trial = former.create_trial("worker")
    former.update_trial(trial.trial_id, {"val_dsc": 0.5})
    former.end_trial(ended(trial, "COMPLETED"))
    oracle = new_oracle()
    oracle.reload()
    assert oracle.create_trial("worker").trial_id == "1"


def test_worker_tells_why_a_trial_failed(tmp_path: Path) -> None:
    class Base:
        oracle, _is_worker = None, staticmethod(lambda: True)
        get_trial_dir = staticmethod(lambda trial_id: str(tmp_path / trial_id))

        def on_trial_end(self, trial: Any) -> None:
            assert (tmp_path / "3" / "error.txt").read_text() == "too large"

    class Tuner(WorkerTuner, Base):
        pass

    Tuner().on_trial_end(SimpleNamespace(trial_id="3", message="too large"))


class Failed(grpc.RpcError):
    def __init__(self, code: grpc.StatusCode, details: str = "") -> None:
        self.code, self.details = (lambda: code), (lambda: details)


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (["trial"], None),
        ([Failed(grpc.StatusCode.UNAVAILABLE), "trial"], None),
        (
            [Failed(grpc.StatusCode.UNAVAILABLE), Failed(grpc.StatusCode.DEADLINE_EXCEEDED)],
            "the chief at 127.0.0.1:4711 does not answer; start it with --resume, then this worker",
        ),
        (
            [Failed(grpc.StatusCode.UNKNOWN, "Exception\ncalling application: '3'")],
            "the chief at 127.0.0.1:4711 failed (Exception calling application: '3'); see its output",
        ),
    ],
)
def test_worker_waits_for_the_chief(
    answers: list[Any],
    message: str | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    set_variables(monkeypatch, 4711, "worker")
    coming = iter(answers)

    def create_trial(request: str, **_: Any) -> Any:
        answer = next(coming)
        if isinstance(answer, Failed):
            raise answer
        return answer

    stub = PatientStub(SimpleNamespace(CreateTrial=create_trial))
    if message is None:
        assert stub.CreateTrial("request", timeout=3600, wait_for_ready=True) == "trial"
    else:
        with pytest.raises(FatalError) as ended_by:
            stub.CreateTrial("request", timeout=3600, wait_for_ready=True)
        assert isinstance(ended_by.value.__cause__, InputError)
        assert str(ended_by.value.__cause__) == message
    waits = "the chief at 127.0.0.1:4711 does not answer; waiting for it, at most 60 minutes\n"
    assert capsys.readouterr().out == (waits if len(answers) > 1 else "")
