"""Take the known weights to another task with Keras' plain `model.fit`: colour images, three classes, softmax.

You segment something else and have few labels. The known weights are of one channel and of gray matter and cord; the
builders give a network of three channels and three classes all layers but the last from them. Here it learns to tell
background, white matter and gray matter in synthetic colour pictures of stained cords, from the weights and from
scratch, with the same steps on the same batches.

    python examples/transfer_to_colour.py --seeds 3
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from keras_scgm import DiceCrossEntropyLoss, DilatedGMNet, HardDice, InputError
from keras_scgm.datasets.phantom import DomainConfig, draw_slices

CLASSES = ("background", "white matter", "gray matter")
SIZE = 72
"""Pixels of 0.25 mm along each side of a picture."""
LABELLED, UNSEEN, BATCH_SIZE = 16, 16, 4


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", default="synthetic", help="known name or file to start from")
    parser.add_argument(
        "--seeds", type=int, default=3, help="repetitions with other pictures and other random weights"
    )
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--output", type=Path, help="folder that keeps the weights")
    parser.add_argument("--quick", action="store_true", help="one seed and few steps, to try it out")
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as temporary:
            run(options, options.output or Path(temporary))
    except InputError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


def run(options: argparse.Namespace, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    seeds, epochs = (1, 1) if options.quick else (options.seeds, options.epochs)
    scores = []
    for seed in range(seeds):
        scores.append([train(start, seed, epochs, folder) for start in (options.weights, None)])
        print(
            f"seed {seed}: from {options.weights} {scores[-1][0]:.3f}, from scratch {scores[-1][1]:.3f}",
            flush=True,
        )
    known, scratch = np.mean(scores, axis=0)
    steps = epochs * LABELLED // BATCH_SIZE
    print(
        f"mean Dice on unseen pictures after {steps} steps: from {options.weights} {known:.3f}, "
        f"from scratch {scratch:.3f}"
    )


def train(weights: str | None, seed: int, epochs: int, folder: Path) -> float:
    """Mean Dice of white and gray matter in unseen pictures."""
    keras.utils.set_random_seed(seed)
    pictures, masks = draw_pictures(LABELLED + UNSEEN, seed)
    model = DilatedGMNet(
        weights=weights,
        input_shape=(SIZE, SIZE, 3),
        classes=len(CLASSES),
        classifier_activation="softmax",
        dropout=0.0,
        batch_norm_momentum=0.9,
    )
    softmax = {"classifier_activation": "softmax"}
    model.compile(
        keras.optimizers.Adam(0.001),
        DiceCrossEntropyLoss(**softmax),
        metrics=[HardDice(**softmax, name="dice")]
        + [HardDice(**softmax, class_id=index, name=name.split()[0]) for index, name in enumerate(CLASSES)],
    )
    model.fit(pictures[:LABELLED], masks[:LABELLED], batch_size=BATCH_SIZE, epochs=epochs, verbose=0)
    model.save_weights(folder / f"{'random' if weights is None else 'known'}_{seed}.weights.h5")
    unseen = pictures[LABELLED:], masks[LABELLED:]
    return model.evaluate(*unseen, batch_size=BATCH_SIZE, verbose=0, return_dict=True)["dice"]


def draw_pictures(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of cords in a stain of their own each, and their classes.

    Returns:
        float32 (picture, height, width, 3) of mean 0 and standard deviation 1, and masks (picture, height, width,
        class) of 0 and 1.
    """
    slices, gray_matter, cord = draw_slices(
        count, seed, size=SIZE, config=DomainConfig(off_centre_mm=1.5, empty=0.0)
    )
    rng = np.random.default_rng(seed)
    stain = rng.uniform(0.3, 1.0, (count, 1, 1, 3))
    pictures = slices[..., np.newaxis] * stain + rng.normal(0, 0.05, (*slices.shape, 3))
    pictures -= pictures.mean(axis=(1, 2, 3), keepdims=True)
    pictures /= pictures.std(axis=(1, 2, 3), keepdims=True)
    masks = np.stack([1 - cord, cord - gray_matter, gray_matter], axis=-1)
    return pictures.astype(np.float32), masks.astype(np.float32)


if __name__ == "__main__":
    main()
