"""Everything the report shows of one case: scores, slices and 3-D view."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from keras_scgm.evaluation.cases import Case
from keras_scgm.evaluation.groups import of_cases
from keras_scgm.evaluation.mask_reader import CanonicalMask, read_image
from keras_scgm.evaluation.report.layers import Layer, layers_of
from keras_scgm.evaluation.report.surfaces import mesh_of
from keras_scgm.evaluation.report.tiles import Tile, tiles_of
from keras_scgm.evaluation.scores import Evaluation, Score
from keras_scgm.evaluation.table import number


@dataclass(frozen=True)
class CasePicture:
    """Content of the report for one case."""

    case_id: str
    scores: Sequence[str]
    tiles: Sequence[Tile]
    left_out: str
    mesh: go.Figure


def case_picture(evaluation: Evaluation, case: Case) -> CasePicture | None:
    """Slices and 3-D view of a case, None if none of its masks could be used."""
    layers = layers_of(evaluation)
    used = {score.annotator for score in evaluation.scores if score.case_id == case.case_id}
    raters = {score.rater for score in evaluation.scores if score.case_id == case.case_id}
    masks: dict[Layer, CanonicalMask] = {}
    for layer in layers:
        if not layer.is_rater and layer.name in used and layer.name in case.predictions:
            path = case.predictions[layer.name]
            masks[layer] = evaluation.reader.prediction(path, list(case.references.values()))
    if not masks:
        return None
    grid = next(iter(masks.values()))
    for layer in layers:
        if layer.is_rater and layer.name in raters and layer.name in case.references:
            masks[layer] = evaluation.reader.reference(case.references[layer.name], grid)
    masks = {layer: mask for layer, mask in masks.items() if not mask.difference(grid)}
    image = read_image(case.image, grid) if case.image is not None else None
    tiles, left_out = tiles_of(masks, image, grid)
    return CasePicture(
        case_id=case.case_id,
        scores=[_scores_line(evaluation.of_model(model), model, case.case_id) for model in evaluation.models],
        tiles=tiles,
        left_out=left_out,
        mesh=mesh_of(masks),
    )


def _scores_line(scores: Sequence[Score], model: str, case_id: str) -> str:
    values = {metric: of_cases(scores, metric) for metric in ("DSC", "HSD", "MSD")}
    if case_id not in values["DSC"]:
        return f"{model}: no result"
    cells = [f"{name} {number(of_case[case_id], 3)}" for name, of_case in values.items()]
    found, wanted = mean_areas(scores)[case_id]
    return f"{model}: {', '.join(cells)}, mean area {number(found)} mm² (raters {number(wanted)})"


def mean_areas(scores: Sequence[Score]) -> dict[str, tuple[float, float]]:
    """Case -> mean area in mm2 over slices with gray matter, by one model and by its raters on average."""
    names = ("mean_area_prediction_mm2", "mean_area_reference_mm2")
    found: defaultdict[str, list[list[float]]] = defaultdict(list)
    for score in scores:
        found[score.case_id].append([score.details[name] for name in names])
    return {case_id: tuple(np.mean(pairs, axis=0).tolist()) for case_id, pairs in found.items()}
