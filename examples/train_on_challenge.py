"""Train the paper's network on the spinal cord gray matter challenge.

You have the challenge's training data (siteS-scNN-image.nii.gz with the raters' masks) and want the network of
the paper by the paper's protocol: two subjects of each site for validation, each rater's mask a sample.

    python examples/train_on_challenge.py --data challenge/training --output trained

The paper's 1000 epochs take days on a CPU. Interrupt the script at any time; the same command goes on from
the last finished epoch. Without data, synthetic subjects in the challenge's layout take their place.
"""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from keras_scgm.datasets.phantom import SITES, write_challenge_dataset
from keras_scgm.training import PRESETS, annotated_source, train


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of the challenge; synthetic subjects if not given")
    parser.add_argument("--output", type=Path, help="folder that keeps the weights and the log")
    parser.add_argument("--epochs", type=int, default=PRESETS["challenge"].epochs)
    parser.add_argument("--quick", action="store_true", help="a tiny network and few steps, to try it out")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        run(options, options.output or Path(temporary))


def run(options: argparse.Namespace, folder: Path) -> None:
    config = replace(PRESETS["challenge"], epochs=options.epochs)
    data = options.data
    if options.quick:
        config = replace(config, model_kwargs={"filters": 2}, epochs=1, steps_per_epoch=2, batch_size=2)
    if data is None:
        data = folder / "drawn"
        sites = {1: replace(SITES[1], n_slices=2)} if options.quick else SITES
        write_challenge_dataset(data, subjects_per_site=3 if options.quick else 10, sites=sites)

    # The split is by subject; it is kept beside the weights.
    batches, validation = annotated_source(data, folder / "split.json")
    print(f"{batches.what}; {len(validation)} volumes for validation")
    result = train(config, batches, folder, validation, resume=True, verbose=2)
    best = max(row["val_dsc"] for row in result.history)
    print(f"validation DSC {best:.4f}, weights in {result.best}")
    print(f"keras-scgm segment IMAGE.nii.gz --weights {result.best}")


if __name__ == "__main__":
    main()
