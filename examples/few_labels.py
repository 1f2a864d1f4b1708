"""What four labelled slices are worth.

You have one volume of a kind the known weights were not made for, and have drawn the gray matter on four of
its slices. This script shows what they bring for the other slices: the Dice coefficient (DSC) of the known
weights, of the same weights fine-tuned on the four slices, and of a network that saw nothing else. Several
seeds tell how far chance goes.

    python examples/few_labels.py --image cord.nii.gz --mask cord_gm.nii.gz --weights challenge

The mask must be drawn on all slices here, because the others are what the result is measured on. Without an
image, a synthetic cord takes its place.
"""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import keras
import nibabel as nib
import numpy as np

from keras_scgm import InputError
from keras_scgm.augmentation import PRESETS as AUGMENTATIONS
from keras_scgm.augmentation import AugmentationConfig
from keras_scgm.datasets import AnnotatedVolume, evenly_spaced_split, load_slices
from keras_scgm.datasets.phantom import PhantomConfig, draw_subject
from keras_scgm.models import load_network
from keras_scgm.nifti import read_volume
from keras_scgm.pretrained import WeightsCard
from keras_scgm.segmentation import Segmenter
from keras_scgm.slices import SliceConfig
from keras_scgm.training import SliceBatches, TrainingConfig, fine_tuned, train
from keras_scgm.training.checkpoint import save_weights
from keras_scgm.training.validation import volume_dice

SURE = 20.0
"""The published networks are so sure, with logits of hundreds, that small steps hardly move their contours. Dividing
their last layer until the usual logit in gray matter is this leaves their mask as it is and gives the loss something
to hold on to."""

FINE_TUNING = TrainingConfig(
    # Without the statistics of its own batches, dropout would shift what the later layers see.
    model_kwargs={"dropout": 0.0},
    epochs=4,
    steps_per_epoch=10,
    batch_size=4,
    learning_rate=3e-5,
    rate_per="step",
    cross_entropy_weight=1.0,
    ema_momentum=0.9,
    augmentation=AugmentationConfig(flip_left_right=0.5),
)
"""Few and small steps, on slices as sharp as they are: what turns or scales them also blurs them."""

FROM_SCRATCH = TrainingConfig(
    model_kwargs={"dropout": 0.0, "batch_norm_momentum": 0.95},
    window_px=128,
    epochs=5,
    steps_per_epoch=60,
    batch_size=4,
    learning_rate=0.003,
    rate_per="step",
    cross_entropy_weight=10.0,
    ema_momentum=0.95,
    augmentation=AUGMENTATIONS["strong"],
)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image", type=Path, help="NIfTI file; a synthetic cord if not given")
    parser.add_argument("--mask", type=Path, help="its gray matter, on all slices")
    parser.add_argument("--weights", help="known name or file; by default challenge")
    parser.add_argument("--labelled", type=int, default=4, help="slices to train on")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, help="folder that keeps the trained weights")
    parser.add_argument("--quick", action="store_true", help="small images and one step, to try it out")
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as temporary:
            run(options, options.output or Path(temporary))
    except InputError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


def run(options: argparse.Namespace, folder: Path) -> None:
    if (options.image is None) != (options.mask is None):
        raise InputError("--image and --mask: give both, or neither for a synthetic cord")
    fine_tuning, from_scratch, seeds = FINE_TUNING, FROM_SCRATCH, options.seeds
    weights, size = "challenge", {"matrix_size": 120, "n_slices": 8}
    folder.mkdir(parents=True, exist_ok=True)
    if options.quick:
        weights, seeds, size = "synthetic", 1, {"matrix_size": 64, "n_slices": 5}
        tiny = {"epochs": 1, "steps_per_epoch": 1, "batch_size": 1}
        fine_tuning = replace(fine_tuning, **tiny)
        from_scratch = replace(from_scratch, model_kwargs={"filters": 2}, **tiny)
    weights = options.weights or weights
    image, mask = (options.image, options.mask) if options.image else draw_cord(folder, **size)
    n_slices = read_volume(image).n_slices
    if not 0 < options.labelled < n_slices:
        raise InputError(
            f"--labelled {options.labelled}: {image} has {n_slices} slices; train on one at least, and leave one to "
            "measure on"
        )
    split = evenly_spaced_split(n_slices, options.labelled, 0, n_slices - options.labelled)
    volume = AnnotatedVolume(image, (mask,), subject_id=image.name)
    labelled, others = (replace(volume, labelled_slices=part) for part in (split.train, split.test))

    network, card = load_network(weights)
    slices = load_slices([labelled], card.slices)
    fine_tuning = replace(
        fine_tuned(fine_tuning, cooled(network, card, slices.images, folder)),
        spacing_mm=card.slices.spacing_mm,
        window_px=card.slices.window_px,
        # Four slices cannot replace the statistics of all that the weights were made from.
        frozen_layers=tuple(
            layer.name for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)
        ),
    )
    print(f"labelled slices {', '.join(map(str, split.train))} of {n_slices}; DSC on the other slices:")
    print(f"{weights}, as it is: {volume_dice(Segmenter(weights), others):.4f}")

    for name, config in (("fine-tuned", fine_tuning), ("from scratch", from_scratch)):
        slices = load_slices([labelled], SliceConfig(config.spacing_mm, config.window_px))
        scores = []
        for seed in range(seeds):
            place = folder / f"{name.replace(' ', '_')}_{seed}"
            result = train(replace(config, seed=seed), SliceBatches(slices), place, resume=True)
            # Without labels to choose an epoch by, the last one counts.
            scores.append(volume_dice(Segmenter(result.last), others))
            print(f"{name}, seed {seed}: {scores[-1]:.4f}", flush=True)
        print(f"{name}, mean of {seeds}: {np.mean(scores):.4f} (standard deviation {np.std(scores):.4f})")


def draw_cord(folder: Path, **size: int) -> tuple[Path, Path]:
    """An ex vivo-like cord, unlike the images that the known weights were made from."""
    subject = draw_subject(PhantomConfig(spacing_mm=0.4, contrast="exvivo", **size), 1)
    image, mask = folder / "cord.nii.gz", folder / "cord_gm.nii.gz"
    nib.save(subject.image, image)
    nib.save(subject.mask, mask)
    return image, mask


def cooled(network: keras.Model, card: WeightsCard, slices: np.ndarray, folder: Path) -> str:
    last = network.get_layer("predictions")
    last.activation = keras.activations.linear
    logits = keras.ops.convert_to_numpy(network(slices))[..., 0]
    in_gray_matter = logits[logits > 0]
    usual = float(np.median(in_gray_matter)) if in_gray_matter.size else 0.0
    last.set_weights([array / max(1.0, usual / SURE) for array in last.get_weights()])
    path = folder / "cooled.weights.h5"
    save_weights(path, network, replace(card, url=None))
    return str(path)


if __name__ == "__main__":
    main()
