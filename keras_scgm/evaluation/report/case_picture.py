"""Everything the report shows of one case: scores, slices and 3-D view."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from keras_scgm.errors import InputError
from keras_scgm.evaluation.cases import Case
from keras_scgm.evaluation.groups import of_cases
from keras_scgm.evaluation.mask_reader import CanonicalMask, read_image
from keras_scgm.evaluation.report.layers import Layer, layers_of
from keras_scgm.evaluation.report.surfaces import mesh_of
from keras_scgm.evaluation.report.tiles import Tile, tiles_of
from keras_scgm.evaluation.scores import Evaluation, Score
from keras_scgm.evaluation.table import number
from keras_scgm.evaluation.tissues import CORD, GM, TISSUE_NAMES, WM, Tissue


@dataclass(frozen=True)
class CasePicture:
    """Content of the report for one case."""

    case_id: str
    scores: Sequence[str]
    tiles: Sequence[Tile]
    left_out: str
    has_image: bool
    mesh: go.Figure


def case_picture(evaluations: Sequence[Evaluation], case: Case) -> CasePicture | None:
    """Slices and 3-D view of a case, None if none of its masks could be used.

    Gray matter and cord are drawn where a model or rater has them, whichever of them was compared; white matter, which
    lies between their outlines, only if there is neither.

    Args:
        evaluations: Evaluations of the same cases, one for each tissue.
        case: The case.
    """
    masks: dict[Tissue, dict[Layer, CanonicalMask]] = {}
    for tissue in (GM, CORD, WM):
        if tissue != WM or not masks:
            found = _masks(evaluations, case, tissue, next(iter(masks.values()), {}))
            if found:
                masks[tissue] = found
    if not masks:
        return None
    grid = next(iter(next(iter(masks.values())).values()))
    image = read_image(case.image, grid) if case.image is not None else None
    tiles, left_out = tiles_of(masks, image, grid, [evaluation.tissue for evaluation in evaluations])
    scores = [
        _scores_line(evaluation.of_model(model), named(model, evaluation, evaluations), case.case_id)
        for evaluation in evaluations
        for model in evaluation.models
    ]
    return CasePicture(case.case_id, scores, tiles, left_out, image is not None, mesh_of(masks))


def named(model: str, evaluation: Evaluation, evaluations: Sequence[Evaluation]) -> str:
    """Name of a model, with the tissue if there are several."""
    return model if len(evaluations) == 1 else f"{model}, {TISSUE_NAMES[evaluation.tissue]}"


def _masks(
    evaluations: Sequence[Evaluation], case: Case, tissue: Tissue, of_other: Mapping[Layer, CanonicalMask]
) -> dict[Layer, CanonicalMask]:
    """Masks of a tissue on one grid: of those who were compared if the tissue was, else of those who have it."""
    compared = next((one for one in evaluations if one.tissue == tissue), None)
    reader = evaluations[0].reader
    scores = [
        score
        for evaluation in ([compared] if compared else evaluations)
        for score in evaluation.scores
        if score.case_id == case.case_id
    ]
    used = {score.annotator for score in scores}, {score.rater for score in scores}
    masks: dict[Layer, CanonicalMask] = {}
    grid = next(iter(of_other.values()), None)
    for layer in layers_of(evaluations[0]):
        files = (case.references if layer.is_rater else case.predictions).get(layer.name)
        if files is None or layer.name not in used[layer.is_rater] or (layer.is_rater and grid is None):
            continue
        try:
            if layer.is_rater and grid:
                mask = reader.reference(files, grid, tissue)
            else:
                mask = reader.prediction(files, case.references.values(), tissue)
        except InputError:
            if compared:
                raise
            continue
        grid = grid or mask
        if not mask.difference(grid):
            masks[layer] = mask
    return masks


def _scores_line(scores: Sequence[Score], name: str, case_id: str) -> str:
    values = {metric: of_cases(scores, metric) for metric in ("DSC", "HSD", "MSD")}
    if case_id not in values["DSC"]:
        return f"{name}: no result"
    cells = [f"{metric} {number(of_case[case_id], 3)}" for metric, of_case in values.items()]
    found, wanted = mean_areas(scores)[case_id]
    return f"{name}: {', '.join(cells)}, mean area {number(found)} mm² (raters {number(wanted)})"


def mean_areas(scores: Sequence[Score]) -> dict[str, tuple[float, float]]:
    """Case -> mean area in mm2 over the slices that are not empty, by one model and by its raters on average."""
    names = ("mean_area_prediction_mm2", "mean_area_reference_mm2")
    found: defaultdict[str, list[list[float]]] = defaultdict(list)
    for score in scores:
        found[score.case_id].append([score.details[name] for name in names])
    return {case_id: tuple(np.mean(pairs, axis=0).tolist()) for case_id, pairs in found.items()}
