"""`keras-scgm calibrate`: the threshold of a network, chosen on validation volumes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from keras_scgm_cli.completion import known_weights
from keras_scgm_cli.data_options import ImagePattern, LabelValue, MaskPattern
from keras_scgm_cli.help import DATA, NETWORK, RESULTS
from keras_scgm_cli.say import say, warn
from keras_scgm_cli.stderr import import_keras_scgm


def calibrate(
    output: Annotated[Path, typer.Argument(help="Folder for the figure and the curve.")],
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            "-d",
            help="Validation volumes, in the challenge's or the BIDS layout.",
            rich_help_panel=DATA,
        ),
    ] = None,
    split: Annotated[
        Path | None,
        typer.Option(
            help="JSON file of a split; its validation part is used instead of --data.", rich_help_panel=DATA
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights",
            "-w",
            autocompletion=known_weights,
            help="Known name or file.",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    objective: Annotated[
        str,
        typer.Option(
            help="dsc: best DSC; balance: equal precision and recall; area: no bias of the area.",
            rich_help_panel=NETWORK,
        ),
    ] = "dsc",
    tissue: Annotated[
        str,
        typer.Option(
            help="gm: threshold of the gray matter; cord: that of the cord, from masks of it.",
            rich_help_panel=NETWORK,
        ),
    ] = "gm",
    image_pattern: ImagePattern = None,
    mask_pattern: MaskPattern = None,
    label_value: LabelValue = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a calibration that exists.", rich_help_panel=RESULTS)
    ] = False,
) -> None:
    """Choose the threshold of a network on volumes it was not trained on.

    The masks of the cord are all labels of the challenge's masks, or *_seg*.nii.gz in the BIDS layout.

    The folder gets calibration.png (curve, reliability, Bland-Altman plot of the areas) and calibration.csv.
    The chosen threshold is written into the card beside a weights file of your own. Weights known by name are
    not changed: a copy with a card is written into the folder; segment with that file.

    \b
    Example:
      keras-scgm calibrate calibration/ --data validation/ --weights run/best.weights.h5
    """
    import_keras_scgm()
    from keras_scgm.calibration import calibrate as choose
    from keras_scgm.calibration import write_calibration
    from keras_scgm.datasets import AnnotatedVolume, Split, find_dataset
    from keras_scgm.datasets.bids import CORD_MASKS, GRAY_MATTER_MASKS
    from keras_scgm.errors import InputError
    from keras_scgm.files import check_writable
    from keras_scgm.pretrained import DEFAULT_WEIGHTS

    if (data is None) == (split is None):
        raise InputError("the validation volumes come from --data or from --split; give one of the two")
    if (output / "calibration.png").exists() and not force:
        raise InputError(f"{output / 'calibration.png'}: exists; replace it with --force")
    check_writable(output)
    volumes: tuple[AnnotatedVolume, ...]
    if data is None:
        volumes = Split.read(split).validation  # type: ignore[arg-type]
    else:
        masks = mask_pattern or (CORD_MASKS if tissue == "cord" else GRAY_MATTER_MASKS)
        volumes = tuple(find_dataset(data, image_pattern, masks, label_value))
    chosen = weights or DEFAULT_WEIGHTS
    result = choose(chosen, volumes, objective, tissue)  # type: ignore[arg-type]
    path = write_calibration(result, chosen, output)
    for index, title in ((result.used, "before"), (result.chosen, "chosen")):
        say(
            f"{title}: threshold {result.thresholds[index]:.5g}, DSC {result.dsc[index]:.4f}, "
            f"precision {result.precision[index]:.4f}, recall {result.recall[index]:.4f}, "
            f"area bias {result.area_bias_mm2[index]:+.2f} mm2"
        )
    if result.is_at_end:
        warn(
            "the best threshold is at the end of the range; the network may not know such images, check the figure",
            about=chosen,
        )
    say(f"{output / 'calibration.png'}; segment with --weights {path}")
