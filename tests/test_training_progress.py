"""The line of progress of long epochs."""

import keras
import numpy as np
import pytest

from keras_scgm.training.progress import ProgressLine


@pytest.mark.parametrize(("delay_seconds", "shown"), [(0.0, True), (10.0, False)])
def test_a_line_is_shown_in_long_epochs_only(
    capfd: pytest.CaptureFixture[str], delay_seconds: float, shown: bool
) -> None:
    line = ProgressLine(epochs=7, steps_per_epoch=3, validates=True, delay_seconds=delay_seconds)
    line.on_epoch_begin(1)
    for batch in range(3):
        line.on_train_batch_end(batch, {"loss": -0.25})
    line.on_epoch_end(1)
    err = capfd.readouterr().err
    assert ("epoch 2 of 7: 100%" in err and "3/3 [" in err and "validation" in err) is shown
    assert err == "" or shown


def test_a_line_goes_with_fit(capfd: pytest.CaptureFixture[str]) -> None:
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", jit_compile=False)
    line = ProgressLine(epochs=1, steps_per_epoch=2, validates=False, delay_seconds=0.0)
    model.fit(np.zeros((4, 1)), np.zeros((4, 1)), batch_size=2, callbacks=[line], verbose=0)
    assert "epoch 1 of 1" in capfd.readouterr().err
