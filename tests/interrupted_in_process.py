"""Ctrl-C in commands and trainings, by signals to the process of the tests; `test_interruption.py` runs this file."""

import signal
from collections.abc import Callable, Iterator
from contextlib import suppress

import keras
import numpy as np
import pytest

from keras_scgm.files import staging_folder
from keras_scgm_cli.interruption import interrupts, kept_interrupts

START_AGAIN = "interrupted; start again with the same command\n"


def interrupt(*_: object, **__: object) -> None:
    signal.raise_signal(signal.SIGINT)


@pytest.fixture(autouse=True)
def not_ignored() -> Iterator[None]:
    """As in a terminal; what a script starts in the background ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_command_that_is_interrupted_says_how_to_go_on(run, tmp_path, monkeypatch):
    monkeypatch.setattr("keras_scgm.datasets.phantom.write_challenge_dataset", interrupt)
    assert run("phantom", tmp_path / "drawn") == (130, "", START_AGAIN)
    monkeypatch.setattr("keras_scgm.images.find_images", interrupt)
    said = "interrupted; finished files are kept, continue with --resume\n"
    assert run("segment", tmp_path) == (130, "", said)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_an_end_from_outside_is_an_interruption(run, tmp_path, monkeypatch, number):
    def begin(folder, *_, **__):
        with staging_folder(folder):
            signal.raise_signal(number)

    monkeypatch.setattr("keras_scgm.datasets.phantom.write_challenge_dataset", begin)
    assert run("phantom", tmp_path) == (128 + number, "", START_AGAIN)
    assert not [*tmp_path.iterdir()]


def test_an_end_from_outside_of_a_training_has_its_exit_code(run, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "keras_scgm.training.annotated_source", lambda *_, **__: signal.raise_signal(signal.SIGTERM)
    )
    said = "interrupted; finished files are kept, continue with --resume\n"
    assert run("tune", tmp_path / "search", "--data", tmp_path) == (128 + signal.SIGTERM, "", said)


def test_an_interruption_that_a_library_makes_an_error_of_is_one(run, tmp_path, monkeypatch):
    def change(*_):
        with suppress(KeyboardInterrupt):
            interrupt()
        raise ImportError

    monkeypatch.setattr("keras_scgm.images.find_images", change)
    assert run("segment", tmp_path)[0] == 130


def test_what_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupts() as seen:
            interrupt()
    finally:
        signal.signal(signal.SIGINT, before)
    assert not seen


@pytest.fixture
def interrupted(untraced: None) -> Callable[..., None]:
    """A fit of four steps that calls a function in its first step, or at its begin, and must be interrupted."""

    def fit(in_step: Callable[[], None] = lambda: None, at_begin: Callable[[], None] = lambda: None) -> None:
        class Network(keras.Model):
            def train_step(self, data):
                in_step()
                return super().train_step(data)

        inputs = keras.Input((1,))
        model = Network(inputs, keras.layers.Dense(1)(inputs))
        model.compile("sgd", "mse")
        ends = []
        others = keras.callbacks.LambdaCallback(
            on_train_begin=lambda logs: at_begin(), on_train_batch_end=lambda batch, logs: ends.append(batch)
        )
        with pytest.raises(KeyboardInterrupt), kept_interrupts() as interruption:
            model.fit(np.ones((4, 1)), np.ones(4), batch_size=1, callbacks=[others, interruption], verbose=0)
        assert len(ends) <= 1
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN

    return fit


def test_an_interruption_within_a_step_waits_for_its_end(interrupted, capfd):
    done = []

    def twice():
        interrupt()
        interrupt()
        done.append("step")

    interrupted(in_step=twice)
    assert done == ["step"]
    assert capfd.readouterr().err == "stopping after this step\n"


def test_an_interruption_that_is_lost_ends_the_training_with_its_next_step(interrupted, capfd):
    def lose():
        with suppress(KeyboardInterrupt):
            interrupt()

    interrupted(at_begin=lose)
    assert capfd.readouterr().err == ""


def test_an_interruption_that_becomes_another_error_is_one(interrupted):
    def change():
        try:
            interrupt()
        except KeyboardInterrupt:
            # Cleaning up is not interrupted.
            interrupt()
            raise SystemError from None

    interrupted(at_begin=change)
