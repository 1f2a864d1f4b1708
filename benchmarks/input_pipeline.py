"""Whether the augmentation limits the speed of training: slices per second of both, measured in one run.

Training steps are those of the paper: DilatedGMNet, Dice loss, Adam, batches of 11 slices of 200x200. They
are timed with a batch that lies ready, then with batches from the augmented pipeline, which shares the
processors with them, then ready again: where all agree, the pipeline costs nothing, and the first and last
tell how steady the machine is. Slices are random numbers: the time does not depend on what they show.

    python benchmarks/input_pipeline.py
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

import keras
import numpy as np
import tensorflow as tf

from keras_scgm.augmentation import PRESETS, AugmentationLayer, augment
from keras_scgm.losses import DiceLoss
from keras_scgm.models import DilatedGMNet

BATCH = 11
SIZE = 200
SECONDS_AUGMENTATION = 2.0
SECONDS_TRAINING = 8.0


def slices_per_second(work: Callable[[], object], seconds: float, warm_up: int) -> float:
    """Runs at least twice and for about so long, after a warm-up that is not counted."""
    for _ in range(warm_up):
        work()
    start = time.perf_counter()
    runs, elapsed = 0, 0.0
    while runs < 2 or elapsed < seconds:
        work()
        runs, elapsed = runs + 1, time.perf_counter() - start
    return runs * BATCH / elapsed


def batches(preset: str, images: np.ndarray, masks: np.ndarray) -> Iterator[tuple[tf.Tensor, tf.Tensor]]:
    dataset = tf.data.Dataset.from_tensor_slices((images, masks)).batch(BATCH).repeat()
    return iter(augment(dataset, PRESETS[preset], seed=0).prefetch(tf.data.AUTOTUNE))


def training_rates(images: np.ndarray, masks: np.ndarray) -> dict[str, float]:
    model = DilatedGMNet()
    model.compile(keras.optimizers.Adam(1e-3), loss=DiceLoss())
    ready = tf.constant(images[:BATCH]), tf.constant(masks[:BATCH])
    pipeline = batches("strong", images, masks)
    model.train_on_batch(*ready)
    return {
        "batch ready": slices_per_second(lambda: model.train_on_batch(*ready), SECONDS_TRAINING, 0),
        "strong": slices_per_second(lambda: model.train_on_batch(*next(pipeline)), SECONDS_TRAINING, 0),
        "batch ready again": slices_per_second(lambda: model.train_on_batch(*ready), SECONDS_TRAINING, 0),
    }


def layer_rate(images: np.ndarray, masks: np.ndarray) -> float:
    layer = AugmentationLayer(PRESETS["strong"])
    pair = tf.constant(images[:BATCH]), tf.constant(masks[:BATCH])
    layer.build([part.shape for part in pair])
    run = tf.function(lambda images, masks: layer((images, masks), training=True), jit_compile=True)
    return slices_per_second(lambda: run(*pair)[0].numpy(), SECONDS_AUGMENTATION, warm_up=2)


def main() -> None:
    gpus = tf.config.list_physical_devices("GPU")
    print(f"{gpus[0].name if gpus else 'CPU'}, {os.cpu_count()} cores, TensorFlow {tf.__version__}")
    random = np.random.default_rng(0)
    images = random.normal(size=(4 * BATCH, SIZE, SIZE, 1)).astype("float32")
    masks = (images > 1.5).astype("float32")

    rates = training_rates(images, masks)
    for name, rate in rates.items():
        print(f"{f'training, {name}':36s} {rate:10.1f} slices/s")
    need = max(rates.values())
    for preset in PRESETS:
        source = batches(preset, images, masks)
        rate = slices_per_second(source.__next__, SECONDS_AUGMENTATION, warm_up=8)
        print(f"{f'tf.data, {preset}':36s} {rate:10.1f} slices/s, {rate / need:.1f} x the need")
    rate = layer_rate(images, masks)
    print(f"{'layer under XLA, strong':36s} {rate:10.1f} slices/s, {rate / need:.1f} x the need")


if __name__ == "__main__":
    main()
