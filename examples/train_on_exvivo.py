"""The paper's ex vivo protocol from end to end, with its Table 3 beside the paper's.

You have one long volume, and gray matter drawn on a few evenly spaced slices of it (3.4.3: 15 for training, 7 for
validation, 8 for the test), in a folder like those of BIDS: sub-X/anat/sub-X_T2star.nii.gz and
derivatives/labels/sub-X/anat/sub-X_T2star_gmseg.nii.gz.

    python examples/train_on_exvivo.py --data exvivo/ --output trained

trains the paper's network and the U-Net that it compares with, segments the whole volume with both, and prints the
metrics of the test slices, with the threshold chosen on the validation slices and with the paper's 0.999. The paper's
600 epochs take days on a CPU; --epochs takes fewer. Interrupt the script at any time; the same command goes on from the
last finished epoch. Without data, a synthetic cord of 312 slices with 0.1 mm pixels takes its place.
"""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import keras
import nibabel as nib
import numpy as np

from keras_scgm import InputError, Segmenter, evaluate
from keras_scgm.augmentation import PRESETS as AUGMENTATIONS
from keras_scgm.datasets import AnnotatedVolume, Split
from keras_scgm.datasets.phantom import write_exvivo_dataset
from keras_scgm.evaluation import table3
from keras_scgm.files import written_once
from keras_scgm.models import load_network
from keras_scgm.nifti import read_volume
from keras_scgm.segmentation import SegmentationConfig
from keras_scgm.training import PRESETS, DataConfig, annotated_source, train

# The U-Net overfits, so it is augmented more (4.2.2).
NETWORKS = {"UNet": AUGMENTATIONS["unet_aggressive"], "DilatedGMNet": PRESETS["exvivo"].augmentation}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of the volume; a synthetic cord if not given")
    parser.add_argument("--output", type=Path, help="folder that keeps the weights, the logs and the masks")
    parser.add_argument("--epochs", type=int, default=PRESETS["exvivo"].epochs)
    parser.add_argument("--network", action="append", choices=NETWORKS, help="by default both; repeat")
    parser.add_argument("--quick", action="store_true", help="a tiny network and few steps, to try it out")
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as temporary:
            run(options, options.output or Path(temporary))
    except InputError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


def run(options: argparse.Namespace, folder: Path) -> None:
    config, size = replace(PRESETS["exvivo"], epochs=options.epochs), {}
    if options.quick:
        tiny = {"model_kwargs": {"filters": 2}, "epochs": 1, "steps_per_epoch": 2, "batch_size": 1}
        config = replace(config, slice_counts=(2, 1, 1), window_px=64, **tiny)
        size = {"n_slices": 16, "matrix_size": 160}
    data = options.data or written_once(folder / "drawn", lambda place: write_exvivo_dataset(place, **size))

    batches, validation = annotated_source(DataConfig(data, folder / "split.json"), config)
    (volume,) = Split.read(folder / "split.json").test
    print(f"{batches.what}, {batches.spacing_mm:g} mm; test on slices {volume.labelled_slices}")
    masks, parameters = {}, {}
    for name in options.network or NETWORKS:
        own = replace(config, architecture=name, augmentation=NETWORKS[name])
        result = train(own, batches, folder / name, validation, resume=True, verbose=2)
        for way in ("native", "paper"):
            segmenter = Segmenter(result.best, SegmentationConfig(binarize=way))
            model = f"{name} at {segmenter.threshold:.3g}"
            masks[model] = folder / name / f"{way}_gmseg.nii.gz"
            nib.save(segmenter.segment(volume.image).mask, masks[model])
            parameters[model] = n_parameters(result.best)
    reference = write_test_slices(volume, folder / "test_slices.nii.gz")
    evaluation = evaluate(masks, reference, annotated_only=True, parameters=parameters)
    print(table3(evaluation, with_published=True).text())


def write_test_slices(volume: AnnotatedVolume, path: Path) -> Path:
    """The mask on the test slices alone, empty on all others, which are then left out."""
    mask = nib.load(volume.masks[0])
    axis = read_volume(volume.image).axial_axis
    stored = np.moveaxis(np.asarray(mask.dataobj), axis, -1)
    kept = np.zeros(stored.shape, np.uint8)
    slices = list(volume.labelled_slices)
    kept[..., slices] = volume.is_gray_matter(stored[..., slices])
    nib.save(nib.Nifti1Image(np.moveaxis(kept, -1, axis), mask.affine), path)
    return path


def n_parameters(weights: Path) -> int:
    """As the paper counts them: kernels and biases of the convolutions, without batch normalization."""
    network, _ = load_network(weights)
    return sum(layer.count_params() for layer in network.layers if isinstance(layer, keras.layers.Conv2D))


if __name__ == "__main__":
    main()
