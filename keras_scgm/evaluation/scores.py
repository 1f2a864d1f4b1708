"""Scores of one comparison, and all scores of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from keras_scgm.evaluation.cases import Case
from keras_scgm.evaluation.mask_reader import MaskReader


@dataclass(frozen=True)
class Score:
    """One mask against one rater's, with all metrics.

    Args:
        annotator: the model, or the rater whose mask takes a model's place.
        case_id: which volume.
        site_id: where it was acquired, None if unknown.
        rater: whose mask is the reference.
        challenge: the ten metrics of Table 2.
        fcn: the seven of Table 3 over the whole volume.
        details: counts, directed distances, slices left out, areas and volumes; see `Comparison.details`.
        slices: all metrics of each compared slice, see `Comparison.slices`; empty for raters against each other.
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
    """What `evaluate` found.

    Args:
        models: their names, in the order given.
        cases: what was compared.
        scores: every model against every rater.
        rater_scores: every rater against every other rater of the same case.
        errors: cases and files that could not be used, one line each.
        warnings: what has no partner, a doubtful header or undefined metrics, one line each.
        parameters: of a model, where it was given.
        reader: how the masks were read.
        annotated_only: whether slices in which a rater marked nothing were left out.
    """

    models: tuple[str, ...]
    cases: tuple[Case, ...]
    scores: tuple[Score, ...]
    rater_scores: tuple[Score, ...]
    errors: tuple[str, ...]
    warnings: tuple[str, ...]
    parameters: Mapping[str, int]
    reader: MaskReader
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
