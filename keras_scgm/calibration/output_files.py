"""Writes the chosen threshold into a weights card, and the curve and the figure into a folder."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from keras_scgm import checks
from keras_scgm.calibration.choice import CalibratedTissue, Calibration
from keras_scgm.calibration.figure import draw
from keras_scgm.errors import InputError
from keras_scgm.evaluation.tissues import CORD, GM
from keras_scgm.files import csv_cell, staged, write_rows
from keras_scgm.pretrained import WEIGHTS_SUFFIXES, WeightsCard, card_path, resolve_weights

CALIBRATED = {GM: "calibrated: threshold chosen", CORD: "calibrated: threshold of the cord chosen"}
"""Beginning of `pipeline` in the scores of a card that were measured by a calibration."""


def write_calibration(calibration: Calibration, weights: str | Path, folder: Path) -> Path:
    """Write the curve as CSV, the figure, and the choice into the weights' card.

    The card beside a weights file of the user is rewritten. Weights known by name, or without a card, are not
    changed: a copy with a card is written into the folder.

    Args:
        calibration: Calibration of these weights.
        weights: Known name or file of the weights.
        folder: Folder for the figure, the curve and the copy of the weights, if any.

    Returns:
        The weights file whose card has the chosen threshold.

    Raises:
        InputError: the weights cannot be read, or a file cannot be written.
    """
    checks.instance(Calibration, "what calibrate returned")("calibration", calibration)
    folder = checks.path("folder", folder)
    path, own_card = resolve_weights(weights)
    in_place = own_card is not None and str(weights).endswith(WEIGHTS_SUFFIXES)
    if not in_place and folder.resolve() == path.parent.resolve():
        raise InputError(
            f"{folder}: holds the weights themselves; choose another folder for the calibrated copy"
        )
    card = calibration.card
    chosen: dict[str, Any] = {
        "cord_threshold" if calibration.tissue == CORD else "threshold": calibration.threshold
    }
    how = CALIBRATED[calibration.tissue]
    card = replace(
        card,
        **chosen,
        name=card.name if in_place else f"{card.name}-calibrated",
        url=None,
        file=path.name,
        scores=(
            *(score for score in card.scores if not _is_of(score, how)),
            {
                "image": f"{calibration.n_volumes} validation volumes",
                "metric": "DSC",
                "value": round(float(calibration.dsc[calibration.chosen]), 4),
                "pipeline": f"{how} on them for {calibration.objective}",
            },
        ),
    )
    with staged(folder) as staging:
        _write_curve(calibration, staging / "calibration.csv")
        draw(calibration, staging / "calibration.png")
        if not in_place:
            shutil.copyfile(path, staging / path.name)
            card.write(card_path(staging / path.name))
    if not in_place:
        return folder / path.name
    card.write(card_path(path))
    return path


def is_calibrated(card: WeightsCard, tissue: CalibratedTissue = "gm") -> bool:
    """Whether the threshold of a tissue in a card was chosen by a calibration."""
    return any(_is_of(score, CALIBRATED[tissue]) for score in card.scores)


def _is_of(score: Mapping[str, Any], how: str) -> bool:
    return str(score.get("pipeline", "")).startswith(how)


def _write_curve(calibration: Calibration, path: Path) -> None:
    columns = {
        "threshold": calibration.thresholds,
        "dsc": calibration.dsc,
        "precision": calibration.precision,
        "recall": calibration.recall,
        "area_bias_mm2": calibration.area_bias_mm2,
    }
    cells = [[csv_cell(value, ".6g") for value in values] for values in columns.values()]
    write_rows(path, [dict(zip(columns, row, strict=True)) for row in zip(*cells, strict=True)])
