"""The paper's challenge protocol from end to end, with its Table 2 beside the paper's.

You have the challenge's training data (siteS-scNN-image.nii.gz with the raters' masks) and want the network of
the paper by the paper's protocol (3.4.1): two subjects of each site for validation, each rater's mask a sample.

    python examples/train_on_challenge.py --data challenge/training --output trained

The masks of the challenge's test subjects are not public, so the table is of the validation subjects, which chose the
epoch and the threshold, unless --test names a folder of other subjects with masks. The paper's 1000 epochs take days on
a CPU; --epochs takes fewer. Interrupt the script at any time; the same command goes on from the last finished epoch.
Without data, synthetic subjects in the challenge's layout take their place, and others of the same sites are the test.
"""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import nibabel as nib

from keras_scgm import InputError, Segmenter, evaluate
from keras_scgm.datasets import AnnotatedVolume, find_challenge
from keras_scgm.datasets.phantom import SITES, write_challenge_dataset
from keras_scgm.evaluation import table2
from keras_scgm.files import written_once
from keras_scgm.segmentation import SegmentationConfig
from keras_scgm.training import PRESETS, DataConfig, annotated_source, train


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of the challenge; synthetic subjects if not given")
    parser.add_argument("--test", type=Path, help="folder of further subjects with masks, for the table")
    parser.add_argument("--output", type=Path, help="folder that keeps the weights, the log and the masks")
    parser.add_argument("--epochs", type=int, default=PRESETS["challenge"].epochs)
    parser.add_argument("--quick", action="store_true", help="a tiny network and few steps, to try it out")
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as temporary:
            run(options, options.output or Path(temporary))
    except InputError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


def run(options: argparse.Namespace, folder: Path) -> None:
    config = replace(PRESETS["challenge"], epochs=options.epochs)
    data, test = options.data, options.test
    if options.quick:
        config = replace(config, model_kwargs={"filters": 2}, epochs=1, steps_per_epoch=2, batch_size=2)
    if data is None:
        data, test = folder / "drawn", folder / "drawn_test"
        sites, counts = (
            ({1: replace(SITES[1], n_slices=1, matrix_size=64)}, (3, 1))
            if options.quick
            else (SITES, (10, 2))
        )
        for place, count, seed in zip((data, test), counts, (0, 1), strict=True):
            draw = partial(write_challenge_dataset, subjects_per_site=count, seed=seed, sites=sites)
            written_once(place, draw)

    # The split is by subject; it is kept beside the weights.
    batches, validation = annotated_source(DataConfig(data, folder / "split.json"), config)
    print(f"{batches.what}; {len(validation)} volumes for validation")
    result = train(config, batches, folder, validation, resume=True, verbose=2)
    best = max(row["val_dsc"] for row in result.history)
    print(f"validation DSC {best:.4f}, weights in {result.best}")

    volumes = validation if test is None else tuple(v for v in find_challenge(test) if v.masks)
    masks = {
        f"threshold {segmenter.threshold:.3g}": segment_all(segmenter, volumes, folder / "masks" / way)
        for way in ("native", "paper")
        for segmenter in [Segmenter(result.best, SegmentationConfig(binarize=way))]
    }
    print(table2(evaluate(masks, data if test is None else test), with_published=True).text())
    print(f"keras-scgm segment IMAGE.nii.gz --weights {result.best}")


def segment_all(segmenter: Segmenter, volumes: Sequence[AnnotatedVolume], folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for volume in volumes:
        nib.save(segmenter.segment(volume.image).mask, folder / f"{volume.subject_id}_gmseg.nii.gz")
    return folder


if __name__ == "__main__":
    main()
