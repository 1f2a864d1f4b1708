"""Your masks beside the paper's Tables 2 and 3.

You have volumes with manual masks, and want to know how the known weights do on them, beside other masks that
you already have and beside the numbers that the paper printed. One volume:

    python examples/compare_with_published.py --image cord.nii.gz --manual cord_gm.nii.gz \\
        --weights challenge --weights large --mask sct=cord_sct.nii.gz --output compared/

Several raters' masks may be given (--manual once for each). The output has every table as CSV and LaTeX. For
folders, use `keras-scgm segment` and `keras-scgm evaluate --published`. Without an image, a synthetic cord takes its
place.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import keras
import nibabel as nib

from keras_scgm import DilatedGMNet, InputError, Segmenter, evaluate
from keras_scgm.datasets.phantom import PhantomConfig, draw_subject
from keras_scgm.evaluation import summary_text, write_evaluation
from keras_scgm.models import load_network
from keras_scgm.pretrained.card import distinct_names


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image", type=Path, help="NIfTI file; a synthetic cord if not given")
    parser.add_argument("--manual", type=Path, action="append", help="its gray matter; once per rater")
    parser.add_argument("--weights", action="append", help="known name or file; repeat to compare")
    parser.add_argument("--mask", action="append", default=[], help="NAME=FILE of a further mask; repeat")
    parser.add_argument("--output", type=Path, help="folder for the masks and the tables")
    parser.add_argument("--quick", action="store_true", help="a tiny untrained network, to try it out")
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as temporary:
            run(options, options.output or Path(temporary))
    except InputError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


def run(options: argparse.Namespace, folder: Path) -> None:
    if (options.image is None) != (options.manual is None):
        raise InputError("--image and --manual: give both, or neither for a synthetic cord")
    folder.mkdir(parents=True, exist_ok=True)
    weights = [tiny_weights(folder)] if options.quick else options.weights or ["synthetic"]
    names = distinct_names(weights)
    others: dict[str, Path] = {}
    for text in options.mask:
        name, _, path = text.partition("=")
        if not name or not path:
            raise InputError(f"--mask {text}: give NAME=FILE")
        if name in names or name in others:
            raise InputError(f"--mask {text}: {name} is there already; give another name")
        others[name] = Path(path)

    image, manual = (options.image, options.manual) if options.image else draw_cord(folder)
    masks, parameters = {}, {}
    for name, source in zip(names, weights, strict=True):
        masks[name] = folder / f"{name.replace('/', '_')}_gmseg.nii.gz"
        nib.save(Segmenter(source).segment(image).mask, masks[name])
        parameters[name] = n_parameters(source)
    masks |= others
    result = evaluate(masks, manual, parameters=parameters)
    write_evaluation(result, folder, with_published=True)
    print(summary_text(result, with_published=True))


def n_parameters(weights: str) -> int:
    """As the paper counts them: kernels and biases of the convolutions, without batch normalization."""
    network, _ = load_network(weights)
    return sum(layer.count_params() for layer in network.layers if isinstance(layer, keras.layers.Conv2D))


def draw_cord(folder: Path) -> tuple[Path, list[Path]]:
    subject = draw_subject(PhantomConfig(spacing_mm=0.5, matrix_size=100, n_slices=3), seed=1)
    nib.save(subject.image, folder / "cord.nii.gz")
    paths = []
    for number, mask in enumerate(subject.raters(2), start=1):
        paths.append(folder / f"cord_rater{number}.nii.gz")
        nib.save(mask, paths[-1])
    return folder / "cord.nii.gz", paths


def tiny_weights(folder: Path) -> str:
    path = folder / "tiny.weights.h5"
    DilatedGMNet(filters=2).save_weights(path)
    return str(path)


if __name__ == "__main__":
    main()
