"""Search what you like by KerasTuner: the settings of a training, or a network.

The command takes functions of your own; these are two, in a module of the current folder:

    cd examples
    keras-scgm tune settings_search --data my_study --hypermodel own_search:settings
    keras-scgm tune network_search --data my_study --hypermodel own_search:network

`python examples/own_search.py --data my_study --output search` searches among the networks without the command, by
`keras_tuner.RandomSearch` on slices in memory. Without data, synthetic subjects take their place.
"""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import keras
import keras_tuner

from keras_scgm import DiceLoss, DilatedGMNet, HardDice, InputError
from keras_scgm.datasets import find_dataset, load_slices, paper_split
from keras_scgm.datasets.phantom import SITES, write_challenge_dataset
from keras_scgm.files import written_once
from keras_scgm.slices import SliceConfig
from keras_scgm.training import TrainingConfig


def settings(hp: keras_tuner.HyperParameters, training: TrainingConfig) -> TrainingConfig:
    """The settings of a trial; the defaults are the first trial."""
    return replace(
        training,
        learning_rate=hp.Float("learning_rate", 1e-4, 1e-2, sampling="log", default=training.learning_rate),
        cross_entropy_weight=hp.Choice("cross_entropy_weight", [0.0, 1.0, 10.0]),
    )


def network(hp: keras_tuner.HyperParameters) -> keras.Model:
    """The compiled network of a trial."""
    model = DilatedGMNet(
        filters=hp.Choice("filters", [8, 4, 2]), dropout=hp.Float("dropout", 0.0, 0.5, default=0.4)
    )
    rate = hp.Float("learning_rate", 1e-4, 1e-2, sampling="log", default=1e-3)
    model.compile(keras.optimizers.Adam(rate), DiceLoss(), metrics=[HardDice()])
    return model


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, help="folder of images and masks; synthetic subjects if not given"
    )
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--output", type=Path, help="folder of KerasTuner's project")
    parser.add_argument("--quick", action="store_true", help="small slices and few of them, to try it out")
    options = parser.parse_args(arguments)
    if options.quick:
        options.trials, options.epochs = 2, 1
    try:
        with tempfile.TemporaryDirectory() as temporary:
            run(options, options.output or Path(temporary))
    except InputError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


def run(options: argparse.Namespace, folder: Path) -> None:
    if (folder / "search").exists():
        # KerasTuner would go on with it, whatever its data were.
        raise InputError(f"{folder / 'search'}: holds a search; choose another folder with --output")
    window = SliceConfig(window_px=48 if options.quick else 200)
    sites = {1: replace(SITES[1], n_slices=1, matrix_size=64)} if options.quick else SITES
    data = options.data or written_once(
        folder / "drawn", lambda place: write_challenge_dataset(place, 3, raters=1, sites=sites)
    )
    split = paper_split(find_dataset(data), seed=0)
    train, validation = (load_slices(volumes, window) for volumes in (split.train, split.validation))

    # KerasTuner knows the direction of Keras' own metrics only.
    objective = keras_tuner.Objective("val_hard_dice", "max")
    keras.utils.set_random_seed(0)
    tuner = keras_tuner.RandomSearch(
        network, objective, max_trials=options.trials, seed=0, directory=str(folder), project_name="search"
    )
    tuner.search(
        train.images,
        train.masks,
        validation_data=(validation.images, validation.masks),
        batch_size=4,
        epochs=options.epochs,
        verbose=2,
    )
    (best,) = tuner.oracle.get_best_trials(1)
    print(f"validation Dice {best.score:.3f} with {best.hyperparameters.values}")


if __name__ == "__main__":
    main()
