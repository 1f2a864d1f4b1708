"""Train the networks on a task of your own with Keras' plain `model.fit`: colour images, three classes.

You have other images than spinal cords, and a training script. The networks, the loss, the metrics, the callbacks and
the augmentation are Keras objects that work without the rest of this package. Here they learn to tell ripe from
unripe fruit in synthetic RGB images: each pixel is background, ripe or unripe.

    python examples/your_own_task.py --network UNet --output trained
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_scgm import (
    AugmentationConfig,
    DiceCrossEntropyLoss,
    DilatedGMNet,
    HardDice,
    PolyLearningRate,
    TerminateOnCollapse,
    UNet,
    augment,
)

SIZE = 32
CLASSES = ("background", "ripe", "unripe")
BATCH_SIZE = 8

AUGMENTATION = AugmentationConfig(
    rotation_degrees=180.0, scaling=0.2, shift_px=4.0, flip_left_right=0.5, noise=0.1
)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=("DilatedGMNet", "UNet"), default="DilatedGMNet")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--output", type=Path, help="folder that keeps the model and its weights")
    parser.add_argument("--quick", action="store_true", help="a few steps, to try it out")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        run(options, options.output or Path(temporary))


def run(options: argparse.Namespace, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(0)
    epochs, steps = (1, 2) if options.quick else (options.epochs, 25)
    images, masks = draw_fruit(64, seed=1)
    unseen = draw_fruit(32, seed=2)

    model = build(options.network)
    # Of the classes of a pixel just one is right. The background is most of each image, and counts in no Dice.
    softmax = {"classifier_activation": "softmax"}
    model.compile(
        keras.optimizers.Adam(),
        loss=DiceCrossEntropyLoss(**softmax),
        metrics=[
            HardDice(**softmax, name="dice"),
            *(HardDice(**softmax, class_id=index, name=name) for index, name in enumerate(CLASSES)),
        ],
    )
    batches = (
        tf.data.Dataset.from_tensor_slices((images, masks)).shuffle(64, seed=0).repeat().batch(BATCH_SIZE)
    )
    model.fit(
        augment(batches, AUGMENTATION, seed=0),
        epochs=epochs,
        steps_per_epoch=steps,
        # The data set shuffles.
        shuffle=False,
        validation_data=unseen,
        callbacks=[
            PolyLearningRate(0.01, total=epochs * steps, per="step"),
            TerminateOnCollapse(images[:2], **softmax),
        ],
        verbose=2,
    )
    model.save_weights(folder / "fruit.weights.h5")
    model.save(folder / "fruit.keras")

    # The loss and the metrics come back with the model, once keras_scgm is imported.
    scores = keras.models.load_model(folder / "fruit.keras").evaluate(*unseen, verbose=0, return_dict=True)
    of_classes = ", ".join(f"{name} {scores[name]:.3f}" for name in CLASSES)
    print(f"unseen images: Dice {scores['dice']:.3f}, of classes: {of_classes}")


def build(network: str) -> keras.Model:
    """A small network from RGB to the probabilities of the classes."""
    common = {
        "input_shape": (SIZE, SIZE, 3),
        "classes": len(CLASSES),
        "classifier_activation": "softmax",
        "filters": 8,
        "dropout": 0.1,
        "batch_norm_momentum": 0.9,
    }
    return UNet(**common) if network == "UNet" else DilatedGMNet(**common, dilation_rates=(3, 6))


def draw_fruit(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images with one red and one green disc in front of gray, of which one may hide a part of the other.

    Returns:
        float32 (image, height, width, 3) around 0, and masks (image, height, width, class) of 0 and 1.
    """
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    images = np.empty((count, SIZE, SIZE, 3), np.float32)
    labels = np.zeros((count, SIZE, SIZE), int)
    for image, label in zip(images, labels, strict=True):
        image[:] = rng.uniform(-1, 1)
        for kind in rng.permutation([1, 2]):
            radius = rng.uniform(5, 9)
            row, column = rng.uniform(radius, SIZE - radius, 2)
            fruit = np.hypot(rows - row, columns - column) < radius
            label[fruit] = kind
            image[fruit] = rng.uniform(-1, 0, 3)
            image[fruit, kind - 1] = rng.uniform(0, 1)
        image += rng.normal(0, 0.1, image.shape)
    return images, np.eye(len(CLASSES), dtype=np.float32)[labels]


if __name__ == "__main__":
    main()
