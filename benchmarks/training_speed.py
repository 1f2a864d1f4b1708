"""Training speed of the package compared with a plain Keras model, in alternating steps on the same batch.

A step of the paper's protocol (Adam, Dice loss, batch of 11 slices of 200 x 200, or --batch): the network as Keras
compiles it (with XLA, and without), the copy that `keras_scgm.training` trains, and the same in bfloat16. All start
from the same weights and see the same batch, so the losses at the end must agree.

    python benchmarks/training_speed.py [--architecture DilatedGMNet] [--batch 11] [--turns 5]
"""

import argparse
import os
import time
from collections.abc import Sequence

import keras
import numpy as np

from keras_scgm.datasets.phantom import draw_slices
from keras_scgm.losses import DiceLoss
from keras_scgm.training import TrainingConfig
from keras_scgm.training.network import build_network, training_copy

STEPS = 2


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--architecture", default="DilatedGMNet")
    parser.add_argument("--batch", type=int, default=11)
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args(arguments)

    images, masks, _ = draw_slices(options.batch, seed=0)
    images = (images - images.mean()) / images.std()
    batch = images[..., np.newaxis], masks[..., np.newaxis]
    keras.utils.set_random_seed(0)
    config = TrainingConfig(architecture=options.architecture, model_kwargs={"dropout": 0.0})
    network = build_network(config)
    models = {
        "plain Keras": keras.models.clone_model(network),
        "float32": training_copy(network, config),
        "bfloat16": training_copy(network, TrainingConfig(**{**vars(config), "mixed_precision": True})),
    }
    models["plain Keras"].set_weights(network.get_weights())
    models["plain Keras without XLA"] = keras.models.clone_model(network)
    models["plain Keras without XLA"].set_weights(network.get_weights())
    seconds: dict[str, list[float]] = {name: [] for name in models}
    losses: dict[str, float] = {}
    for name, model in models.items():
        # What Keras chooses by itself is XLA.
        xla = "auto" if name == "plain Keras" else False
        model.compile(keras.optimizers.Adam(1e-3), DiceLoss(), jit_compile=xla)
        model.train_on_batch(*batch)
    for _ in range(options.turns):
        for name, model in models.items():
            started = time.perf_counter()
            for _ in range(STEPS):
                losses[name] = float(model.train_on_batch(*batch))
            seconds[name].append((time.perf_counter() - started) / STEPS)
    anchor = min(seconds["plain Keras"])
    print(f"{options.architecture}, {os.cpu_count()} cores, batch of {options.batch}, {options.turns} turns")
    print("| training | best s per step | middle | times as fast | loss at the end |")
    print("|---|---|---|---|---|")
    for name, turns in seconds.items():
        best, middle = min(turns), float(np.median(turns))
        print(f"| {name} | {best:.2f} | {middle:.2f} | {anchor / best:.2f} | {losses[name]:.4f} |")


if __name__ == "__main__":
    main()
