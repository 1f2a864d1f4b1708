"""`keras-scgm export`: networks for TensorFlow Serving and other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from keras_scgm_cli.help import NETWORK, RESULTS
from keras_scgm_cli.network_options import Threshold, Weights
from keras_scgm_cli.say import say
from keras_scgm_cli.stderr import import_keras_scgm


def export(
    folder: Annotated[Path, typer.Argument(help="Folder of the models, created if missing.")],
    weights: Weights = None,
    file_format: Annotated[
        str,
        typer.Option(
            "--format",
            help="savedmodel, or the network alone as onnx, openvino or litert.",
            rich_help_panel=RESULTS,
        ),
    ] = "savedmodel",
    threshold: Threshold = None,
    window: Annotated[
        str, typer.Option(help="auto: find the cord; center: middle of the field.", rich_help_panel=NETWORK)
    ] = "auto",
    precision: Annotated[
        str,
        typer.Option(help="Precision of the network: float32, bfloat16 or float16.", rich_help_panel=NETWORK),
    ] = "float32",
) -> None:
    """Export a network for a server: gm_slices, the network, and gm_nifti, from image to mask.

    Each export is the next version of both models, and never overwrites one. Exported models were run on
    a synthetic volume and agree with `keras-scgm segment`.

    \b
    Examples:
      keras-scgm export models/
      keras-scgm export models/ --weights run/best.weights.h5 --format onnx
    """
    import_keras_scgm()
    import tensorflow as tf

    from keras_scgm.errors import InputError

    tf.get_logger().setLevel("ERROR")
    if file_format == "savedmodel":
        from keras_scgm.export.saved_model import export_saved_model

        models = export_saved_model(
            weights,
            folder,
            threshold=threshold,
            window=window,  # type: ignore[arg-type]
            precision=precision,  # type: ignore[arg-type]
        )
        say(models.slices)
        say(f"{models.nifti}: DSC {models.dsc:.4f} with keras-scgm segment")
        return

    from keras_scgm.export.formats import export_network
    from keras_scgm.pretrained import DEFAULT_WEIGHTS

    if len(weights or []) > 1:
        raise InputError(f"format {file_format} holds one network; export each of them by itself")
    if (threshold, window, precision) != (None, "auto", "float32"):
        raise InputError(
            f"format {file_format} is the network alone, without threshold, window and precision"
        )
    say(export_network(weights[0] if weights else DEFAULT_WEIGHTS, folder, file_format))
