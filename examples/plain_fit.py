"""Your NIfTI data in Keras' plain `model.fit`, and what comes out of it in the commands.

You have images with masks and want Keras' own training: its callbacks, its optimizers, its data pipeline.

    python examples/plain_fit.py --data my_study --output trained
    keras-scgm segment t2s.nii.gz --weights trained/gray_matter.keras
    keras-scgm export models/ --weights trained/gray_matter.keras

The data are in the challenge's layout, or in that of BIDS with masks under derivatives/labels. A fifth of the subjects
is held out for the last line; others stop the training. On a GPU, `keras.mixed_precision.set_global_policy(
"mixed_bfloat16")` before the network is built takes less time and memory. Without data, synthetic subjects take their
place.
"""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import keras
import tensorflow as tf

from keras_scgm import DiceCrossEntropyLoss, DilatedGMNet, HardDice, InputError, augment
from keras_scgm.augmentation import PRESETS as AUGMENTATIONS
from keras_scgm.datasets import find_dataset, load_slices, subject_folds
from keras_scgm.datasets.phantom import SITES, write_challenge_dataset
from keras_scgm.files import written_once
from keras_scgm.slices import SliceConfig


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, help="folder of images and masks; synthetic subjects if not given"
    )
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--output", type=Path, help="folder that keeps the model and its weights")
    parser.add_argument("--quick", action="store_true", help="small images and one epoch, to try it out")
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as temporary:
            run(options, options.output or Path(temporary))
    except InputError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


def run(options: argparse.Namespace, folder: Path) -> None:
    keras.utils.set_random_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    # 0.25 mm and 200 pixels, as `segment` shows slices to a network without a card.
    slices, network, sites = SliceConfig(), {"weights": "synthetic"}, SITES
    if options.quick:
        slices, network, options.epochs = SliceConfig(window_px=48), {"filters": 2}, 1
        sites = {1: replace(SITES[1], n_slices=1, matrix_size=64)}
    data = options.data or written_once(
        folder / "drawn", lambda place: write_challenge_dataset(place, 3, raters=1, sites=sites)
    )
    volumes = [volume for volume in find_dataset(data) if volume.masks]
    subjects = {volume.subject_id for volume in volumes}
    split, *_ = subject_folds(volumes, n_folds=max(2, min(5, len(subjects))))
    train, validation, test = (
        load_slices(part, slices) for part in (split.train, split.validation, split.test)
    )

    # Dropout would shift what the known layers see.
    model = DilatedGMNet(classes=1, dropout=0.0, batch_norm_momentum=0.9, **network)
    model.compile(keras.optimizers.Adam(0.001), DiceCrossEntropyLoss(), metrics=[HardDice(name="dice")])
    batches = tf.data.Dataset.from_tensor_slices((train.images, train.masks)).shuffle(len(train)).batch(4)
    best = folder / "best.weights.h5"
    model.fit(
        augment(batches, AUGMENTATIONS["paper_challenge"], seed=0).prefetch(2),
        validation_data=(validation.images, validation.masks),
        epochs=options.epochs,
        callbacks=[
            keras.callbacks.EarlyStopping("val_dice", mode="max", patience=10),
            keras.callbacks.ModelCheckpoint(
                best, "val_dice", mode="max", save_best_only=True, save_weights_only=True
            ),
        ],
        # The data set shuffles.
        shuffle=False,
        verbose=2,
    )
    model.load_weights(best)
    model.save(folder / "gray_matter.keras")
    dice = model.evaluate(test.images, test.masks, batch_size=4, verbose=0, return_dict=True)["dice"]
    print(f"held-out subjects: Dice {dice:.3f}; keras-scgm segment --weights {folder / 'gray_matter.keras'}")


if __name__ == "__main__":
    main()
