"""Scores of one comparison, and all scores of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from keras_scgm.evaluation.cases import Case
from keras_scgm.evaluation.mask_reader import MaskReader
from keras_scgm.evaluation.tissues import GM, Tissue


@dataclass(frozen=True)
class Score:
    """All metrics of one mask against the mask of one rater.

    Args:
        annotator: Name of the model, or of the rater, whose mask is compared.
        case_id: Identifier of the volume.
        site_id: Site of the acquisition, None if unknown.
        rater: Name of the rater whose mask is the reference.
        challenge: The ten metrics of Table 2.
        fcn: The seven metrics of Table 3 over the whole volume.
        details: Counts, directed distances, slices left out, areas and volumes; see `Comparison.details`.
        slices: All metrics of each compared slice, see `Comparison.slices`; empty for raters against each other.
    """

    annotator: str
    case_id: str
    site_id: str | None
    rater: str
    challenge: Mapping[str, float]
    fcn: Mapping[str, float]
    details: Mapping[str, float]
    slices: Sequence[Mapping[str, float]]


@dataclass(frozen=True)
class Evaluation:
    """Result of `evaluate`.

    Args:
        models: Names of the models, in the order given.
        cases: Cases that were compared.
        scores: Scores of every model against every rater.
        rater_scores: Scores of every rater against every other rater of the same case.
        errors: Cases and files that could not be used, one line each.
        warnings: Files without a partner, doubtful headers and undefined metrics, one line each.
        parameters: Number of parameters of the models for which it was given.
        reader: Reader of the masks.
        tissue: Tissue that was compared: "gm", "wm" or "cord".
        annotated_only: Whether slices in which a rater marked nothing were left out.
    """

    models: tuple[str, ...]
    cases: tuple[Case, ...]
    scores: tuple[Score, ...]
    rater_scores: tuple[Score, ...]
    errors: tuple[str, ...]
    warnings: tuple[str, ...]
    parameters: Mapping[str, int]
    reader: MaskReader
    tissue: Tissue = GM
    annotated_only: bool = False

    @property
    def raters(self) -> tuple[str, ...]:
        """Names of all raters."""
        return tuple(sorted({score.rater for score in self.scores}))

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of all sites, empty if they are unknown."""
        return tuple(sorted({score.site_id for score in self.scores if score.site_id is not None}))

    def of_model(self, model: str) -> list[Score]:
        """All scores of a model."""
        return [score for score in self.scores if score.annotator == model]
