"""Fine-tune known weights on your own data, with the first layers frozen.

You have some labelled volumes of another scanner or contrast. The first layers of a network that was trained
on many images see edges and textures, which are the same in yours; only the rest learns.

    python examples/fine_tune.py --data my_study --weights challenge --frozen-stages 2 --output tuned

The data are in the challenge's layout, or in that of BIDS with masks under derivatives/labels. A fifth of the subjects
is held out and tells what the training brought; others choose the epoch and the threshold. Without data, synthetic
subjects take their place.
"""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import keras

from keras_scgm import InputError
from keras_scgm.augmentation import PRESETS as AUGMENTATIONS
from keras_scgm.datasets import Split, find_dataset, subject_folds
from keras_scgm.datasets.phantom import SITES, write_challenge_dataset
from keras_scgm.files import written_once
from keras_scgm.models import load_network, stages
from keras_scgm.pretrained import WeightsCard
from keras_scgm.training import DataConfig, TrainingConfig, annotated_source, fine_tuned, train
from keras_scgm.training.checkpoint import save_weights
from keras_scgm.training.validation import mean_volume_dice

COOLING = 10.0
"""The known networks are so sure, with logits of hundreds, that small steps hardly move their contours.
Dividing the last layer by this leaves their mask as it is and gives the loss something to hold on to."""

SPEC = TrainingConfig(
    # Without the statistics of its own batches, dropout would shift what the later layers see.
    model_kwargs={"dropout": 0.0},
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
    parser.add_argument("--weights", help="known name or file; by default challenge")
    parser.add_argument("--frozen-stages", type=int, default=2, choices=range(4))
    parser.add_argument("--output", type=Path, help="folder that keeps the weights and the log")
    parser.add_argument("--quick", action="store_true", help="small images and one step, to try it out")
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as temporary:
            run(options, options.output or Path(temporary))
    except InputError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


def run(options: argparse.Namespace, folder: Path) -> None:
    config, weights, subjects, size = SPEC, "challenge", 10, {"n_slices": 8}
    folder.mkdir(parents=True, exist_ok=True)
    if options.quick:
        config = replace(config, epochs=1, steps_per_epoch=1, batch_size=1)
        weights, subjects, size = "synthetic", 3, {"n_slices": 1, "matrix_size": 64}
    weights = options.weights or weights
    sites = {1: replace(SITES[1], contrast="psir", **size)}
    data = options.data or written_once(
        folder / "drawn", lambda place: write_challenge_dataset(place, subjects, raters=1, sites=sites)
    )
    split = folder / "split.json"
    if not split.exists():
        write_split(data, split)

    network, card = load_network(weights)
    config = replace(config, spacing_mm=card.slices.spacing_mm, window_px=card.slices.window_px)
    batches, validation = annotated_source(DataConfig(data, split), config)
    test = Split.read(split).test
    print(f"{weights}, as it is: DSC {mean_volume_dice(weights, test):.4f} of {len(test)} volumes held out")
    # The statistics of few images would replace those of the many that the weights were made from.
    statistics = [
        layer.name for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)
    ]
    frozen = list(stages(network))[: options.frozen_stages]
    config = replace(fine_tuned(config, cooled(network, card, folder)), frozen_layers=(*frozen, *statistics))
    result = train(config, batches, folder, validation, resume=True, verbose=2)
    print(f"fine-tuned: DSC {mean_volume_dice(result.best, test):.4f} of them, weights in {result.best}")


def write_split(data: Path, path: Path) -> None:
    """A fifth of the subjects for the test, and of the others a fifth for validation."""
    volumes = [volume for volume in find_dataset(data) if volume.masks]
    subjects = {volume.subject_id for volume in volumes}
    subject_folds(volumes, max(2, min(5, len(subjects))))[0].write(path)


def cooled(network: keras.Model, card: WeightsCard, folder: Path) -> str:
    last = network.get_layer("predictions")
    last.set_weights([array / COOLING for array in last.get_weights()])
    path = folder / "cooled.weights.h5"
    save_weights(path, network, replace(card, url=None))
    return str(path)


if __name__ == "__main__":
    main()
