"""Steps per second of `keras_scgm.training.train` against plain `model.fit`, with oneDNN on and off.

An epoch of the trainer is all that it does: augmented batches, schedule, checkpoint, weights, log and curves (no
volumes for validation, which plain Keras does not have). An epoch of plain Keras is `fit` of the same network, loss
and optimizer on the same augmented batches and nothing else, compiled as Keras chooses (XLA) and without XLA. They
take turns; the first epoch of each, which compiles, is not counted. Processors without AVX-512 and Macs are like oneDNN
off.

    python benchmarks/trainer_speed.py [--architecture DilatedGMNet UNet] [--batch 4] [--steps 8] [--epochs 3]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

import numpy as np

TRAINER, PLAIN, WITHOUT_XLA = "trainer", "plain Keras", "plain Keras without XLA"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--architecture", nargs="+", default=["DilatedGMNet", "UNet"])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=8, help="batches of an epoch")
    parser.add_argument("--epochs", type=int, default=3, help="epochs of each that count")
    parser.add_argument("--measure", action="store_true", help="measure in this process, as JSON")
    options = parser.parse_args(arguments)
    if options.measure:
        print(json.dumps(measure(options.architecture[0], options.batch, options.steps, options.epochs)))
        return
    print(
        f"{os.cpu_count()} cores, batches of {options.batch}, {options.epochs} epochs of {options.steps} steps"
    )
    print("| network | oneDNN | trainer, steps/s | plain Keras | without XLA | times as fast as the faster |")
    print("|---|---|---|---|---|---|")
    for architecture in options.architecture:
        for onednn in ("1", "0"):
            command = [sys.executable, __file__, "--measure", "--architecture", architecture]
            for name in ("batch", "steps", "epochs"):
                command += [f"--{name}", str(getattr(options, name))]
            done = subprocess.run(
                command,
                env=os.environ | {"TF_ENABLE_ONEDNN_OPTS": onednn},
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            rates = json.loads(done.stdout.splitlines()[-1])
            plain = rates[PLAIN], rates[WITHOUT_XLA]
            print(
                f"| {architecture} | {'on' if onednn == '1' else 'off'} | {rates[TRAINER]:.2f} | {plain[0]:.2f} | "
                f"{plain[1]:.2f} | {rates[TRAINER] / max(plain):.2f} |",
                flush=True,
            )


def measure(architecture: str, batch: int, steps: int, epochs: int) -> dict[str, float]:
    """Steps per second in the best epoch of each."""
    import keras

    from keras_scgm.datasets import AnnotatedSlices
    from keras_scgm.datasets.phantom import draw_slices
    from keras_scgm.losses import DiceLoss
    from keras_scgm.training import SliceBatches, TrainingConfig, train
    from keras_scgm.training.network import build_network

    images, masks, _ = draw_slices(4 * batch, seed=0)
    images = ((images - images.mean()) / images.std())[..., np.newaxis]
    numbers = np.arange(len(images))
    slices = AnnotatedSlices(
        images, masks[..., np.newaxis], numbers, numbers, numbers, "all", 0, 0.25, 0.0, ()
    )
    config = TrainingConfig(
        architecture=architecture, batch_size=batch, steps_per_epoch=steps, epochs=epochs + 1
    )
    batches = SliceBatches(slices)
    seconds: dict[str, list[float]] = {TRAINER: [], PLAIN: [], WITHOUT_XLA: []}
    plain = {}
    for name, xla in ((PLAIN, "auto"), (WITHOUT_XLA, False)):
        model = build_network(config)
        model.compile(keras.optimizers.Adam(config.learning_rate), DiceLoss(), jit_compile=xla)
        plain[name] = model, batches.dataset(config, 0)

    class Turns(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
            self.started = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: object = None) -> None:
            seconds[TRAINER].append(time.perf_counter() - self.started)
            for name, (model, dataset) in plain.items():
                started = time.perf_counter()
                model.fit(dataset, steps_per_epoch=steps, epochs=1, verbose=0)
                seconds[name].append(time.perf_counter() - started)

    with tempfile.TemporaryDirectory() as folder:
        train(config, batches, folder, callbacks=[Turns()])
    return {name: steps / min(turns[1:]) for name, turns in seconds.items()}


if __name__ == "__main__":
    main()
