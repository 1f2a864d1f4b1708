"""Effect of the use of several raters' masks on training (paper 3.4.2), on drawn subjects.

The same small network is trained once for each way and seed, and scored on whole volumes of held-out subjects
against every rater. The phantom's raters differ by a constant bias, a smooth deviation of the
contour, and noise of single voxels.

    python benchmarks/rater_modes.py --output raters/
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from keras_scgm.datasets import find_challenge, load_slices
from keras_scgm.datasets.phantom import write_challenge_dataset
from keras_scgm.datasets.raters import RATER_MODES
from keras_scgm.slices import SliceConfig
from keras_scgm.training import PRESETS, SliceBatches, train
from keras_scgm.training.validation import mean_volume_dice

WAYS = [(mode, 0.0) for mode in RATER_MODES] + [("all", 0.5), ("majority", 0.5), ("majority", 1.0)]
"""Mode, and width of the smoothed contour in mm."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder that keeps data and weights")
    parser.add_argument("--subjects", type=int, default=3, help="training subjects of each site")
    parser.add_argument("--filters", type=int, default=8)
    parser.add_argument("--steps", type=int, default=160)
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args(arguments)

    for name, seed, subjects in (("train", 1, options.subjects), ("test", 2, 2)):
        if not (options.output / name).exists():
            write_challenge_dataset(options.output / name, subjects, seed, force=True)
    held_out = find_challenge(options.output / "test")
    quick = PRESETS["quick"]
    print("raters    contour_mm  DSC_mean  DSC_std  seeds")
    for mode, width_mm in WAYS:
        slices = load_slices(
            find_challenge(options.output / "train"), SliceConfig(window_px=quick.window_px), mode, width_mm
        )
        scores = []
        for seed in range(options.seeds):
            config = replace(
                quick,
                model_kwargs={**quick.model_kwargs, "filters": options.filters},
                epochs=1,
                steps_per_epoch=options.steps,
                seed=seed,
            )
            place = options.output / f"{mode}_{width_mm}_{seed}"
            result = train(config, SliceBatches(slices), place, resume=True)
            scores.append(mean_volume_dice(result.last, held_out))
            keras.backend.clear_session()
        print(
            f"{mode:<9} {width_mm:10.1f}  {np.mean(scores):8.4f}  {np.std(scores):7.4f}  {len(scores):5d}",
            flush=True,
        )


if __name__ == "__main__":
    main()
