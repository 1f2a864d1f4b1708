"""Find the augmentation that suits your data by random search, as the paper did.

You have labelled data and time: each trial is a whole training, judged on the validation subjects.

    python examples/tune_augmentation.py --data my_study --trials 30 --output search
    keras-scgm train trained --data my_study --spec search/best_training.json

After a kill the same command goes on. To share the trials among processes, start it once with
KERASTUNER_TUNER_ID=chief and once for each worker with another name, all with KERASTUNER_ORACLE_IP=127.0.0.1
and KERASTUNER_ORACLE_PORT=8000. Without data, synthetic subjects take their place.
"""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from keras_scgm import InputError
from keras_scgm.datasets.phantom import SITES, write_challenge_dataset
from keras_scgm.files import written_once
from keras_scgm.training import DataConfig, TrainingConfig, annotated_source
from keras_scgm.tuning import TuningConfig, tune

TRAINING = TrainingConfig(
    model_kwargs={"filters": 16, "batch_norm_momentum": 0.9},
    epochs=10,
    rate_per="step",
    cross_entropy_weight=1.0,
    ema_momentum=0.9,
)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, help="folder of images and masks; synthetic subjects if not given"
    )
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--output", type=Path, help="folder that keeps the table, picture and best settings")
    parser.add_argument("--quick", action="store_true", help="a tiny network and few steps, to try it out")
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as temporary:
            run(options, options.output or Path(temporary))
    except InputError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


def run(options: argparse.Namespace, folder: Path) -> None:
    training, tuning, sites = TRAINING, TuningConfig(trials=options.trials), SITES
    if options.quick:
        tiny = {"model_kwargs": {"filters": 2}, "window_px": 64, "epochs": 1}
        training = replace(training, steps_per_epoch=1, batch_size=1, **tiny)
        tuning = replace(tuning, trials=2)
        sites = {1: replace(SITES[1], n_slices=1, matrix_size=64)}
    data = options.data or written_once(
        folder / "drawn", lambda place: write_challenge_dataset(place, 3, raters=1, sites=sites)
    )

    batches, validation = annotated_source(DataConfig(data, folder / "split.json"), training)
    result = tune(tuning, training, batches, folder, validation, resume=True)
    if result is None:
        return
    for trial in result.trials:
        print(f"{trial.name}: validation DSC {trial.val_dsc}, {trial.seconds} s")
    names = " and ".join(trial.name for trial in result.highest)
    print(f"highest validation DSC: {names}, with the given augmentation {result.trials[0].val_dsc}")
    print(result.config.augmentation.to_json())


if __name__ == "__main__":
    main()
