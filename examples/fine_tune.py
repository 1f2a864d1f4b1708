"""Fine-tune known weights on your own data, with the first layers frozen.

You have some labelled volumes of another scanner or contrast. The first layers of a network that was trained
on many images see edges and textures, which are the same in yours; only the rest learns.

    python examples/fine_tune.py --data my_study --weights challenge --frozen-stages 2 --output tuned

The data are in the challenge's layout, or in that of BIDS with masks under derivatives/labels. Without data,
synthetic subjects take their place.
"""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import keras

from keras_scgm import DilatedGMNet, InputError
from keras_scgm.augmentation import PRESETS as AUGMENTATIONS
from keras_scgm.datasets.phantom import SITES, write_challenge_dataset
from keras_scgm.models import load_network, stages
from keras_scgm.training import TrainingConfig, annotated_source, train
from keras_scgm.training.validation import mean_volume_dice

COOLING = 10.0
"""The known networks are so sure, with logits of hundreds, that small steps hardly move their contours.
Dividing the last layer by this leaves their mask as it is and gives the loss something to hold on to."""

SPEC = TrainingConfig(
    epochs=20,
    learning_rate=1e-4,
    rate_per="step",
    cross_entropy_weight=1.0,
    ema_momentum=0.99,
    augmentation=AUGMENTATIONS["paper_challenge"],
)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, help="folder of images and masks; synthetic subjects if not given"
    )
    parser.add_argument("--weights", help="known name or file, of gray matter alone; by default challenge")
    parser.add_argument("--frozen-stages", type=int, default=2, choices=range(4))
    parser.add_argument("--output", type=Path, help="folder that keeps the weights and the log")
    parser.add_argument("--quick", action="store_true", help="a tiny network and few steps, to try it out")
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as temporary:
            run(options, options.output or Path(temporary))
    except InputError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


def run(options: argparse.Namespace, folder: Path) -> None:
    config, data, weights = SPEC, options.data, options.weights
    if options.quick:
        config = replace(config, epochs=1, steps_per_epoch=2, batch_size=2)
        weights = str(folder / "tiny.weights.h5")
        folder.mkdir(parents=True, exist_ok=True)
        DilatedGMNet(filters=2).save_weights(weights)
    weights = weights or "challenge"
    if data is None:
        data = folder / "drawn"
        sites = {1: replace(SITES[1], contrast="psir", n_slices=2 if options.quick else 8)}
        write_challenge_dataset(data, subjects_per_site=3 if options.quick else 10, raters=1, sites=sites)

    batches, validation = annotated_source(data, folder / "split.json")
    network, card = load_network(weights)
    print(f"{weights}, as it is: validation DSC {mean_volume_dice(network, validation):.4f}")
    # The statistics of few images would replace those of the many that the weights were made from.
    statistics = [layer.name for layer in network.layers if "normalization" in layer.name]
    frozen = list(stages(network))[: options.frozen_stages]
    config = replace(
        config,
        architecture=card.architecture,
        # Without the statistics of its own batches, dropout would shift what the later layers see.
        model_kwargs={**card.model_kwargs, "dropout": 0.0},
        initial_weights=cooled(network, folder),
        frozen_layers=(*frozen, *statistics),
    )
    result = train(config, batches, folder, validation, resume=True, verbose=2)
    best = max(row["val_dsc"] for row in result.history)
    print(f"fine-tuned: validation DSC {best:.4f}, weights in {result.best}")


def cooled(network: keras.Model, folder: Path) -> str:
    last = network.get_layer("predictions")
    last.set_weights([array / COOLING for array in last.get_weights()])
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "cooled.weights.h5"
    network.save_weights(path)
    return str(path)


if __name__ == "__main__":
    main()
