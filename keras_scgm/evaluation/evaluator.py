"""Compares the masks of models and raters, case by case."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path

import numpy as np

from keras_scgm import checks
from keras_scgm.errors import InputError, counted, first_of
from keras_scgm.evaluation.cases import Case, find_cases
from keras_scgm.evaluation.challenge import CHALLENGE_METRICS, Comparison, MeasuredMask
from keras_scgm.evaluation.mask_reader import CanonicalMask, MaskReader
from keras_scgm.evaluation.scores import Evaluation, Score
from keras_scgm.evaluation.tissues import (
    GM,
    TISSUE_NAMES,
    TISSUES,
    MissingTissueError,
    Tissue,
    label_values,
)
from keras_scgm.files import place_name

Progress = Callable[[int, int], None]

MOST_NAMED = 5
"""Cases that a warning names."""


def evaluate(
    predictions: str | Path | Mapping[str, str | Path],
    references: str | Path | Sequence[str | Path],
    *,
    tissue: Tissue = GM,
    images: str | Path | None = None,
    label: int | Sequence[int] | None = None,
    resample_reference: bool = False,
    annotated_only: bool = False,
    parameters: Mapping[str, int] | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Score masks of a tissue against those of one or several raters, on the native grid and over the whole field.

    A case that cannot be used does not stop the others; `Evaluation.errors` says why.

    Args:
        predictions: A mask or a folder of masks; for several models a mapping from their names to such paths.
        references: A mask or a folder for each rater, or one folder in the challenge's layout.
        tissue: "gm" (gray matter), "wm" (white matter) or "cord". White matter may also come from the masks of
            gray matter and cord, the cord from those of gray and white matter, and each from a file with labels.
        images: File or folder of the volumes, for the report; those of the challenge are found beside the masks.
        label: Value of the tissue in masks with several labels, or the two values of gray and of white matter;
            1 and 2 in masks of the challenge.
        resample_reference: Whether to resample references to the grid of the prediction (nearest neighbour).
        annotated_only: Whether to compare annotated slices only, for partly annotated volumes; of two raters,
            the slices that both annotated. Otherwise an empty slice of a reference means that the tissue is not there.
        parameters: Number of parameters of the models, for Table 3.
        progress: Function called with the number of finished cases and of all cases.

    Raises:
        InputError: a path does not exist, or nothing could be compared.

    Example:

    >>> import numpy as np, nibabel as nib, tempfile
    >>> voxels = np.zeros((20, 20, 2), np.uint8)
    >>> voxels[5:10, 5:10] = 1
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     nib.Nifti1Image(voxels, np.diag([-0.5, 0.5, 5.0, 1.0])).to_filename(f"{folder}/mask.nii")
    ...     result = evaluate(f"{folder}/mask.nii", f"{folder}/mask.nii")
    >>> result.scores[0].challenge["DSC"]
    1.0
    """
    checks.one_of(TISSUES)("tissue", tissue)
    (found,) = evaluate_tissues(
        predictions,
        references,
        tissues=(tissue,),
        images=images,
        label=label,
        resample_reference=resample_reference,
        annotated_only=annotated_only,
        parameters=parameters,
        progress=progress,
    ).values()
    return found


def evaluate_tissues(
    predictions: str | Path | Mapping[str, str | Path],
    references: str | Path | Sequence[str | Path],
    *,
    tissues: Sequence[Tissue] = TISSUES,
    images: str | Path | None = None,
    label: int | Sequence[int] | None = None,
    resample_reference: bool = False,
    annotated_only: bool = False,
    parameters: Mapping[str, int] | None = None,
    progress: Progress | None = None,
) -> dict[Tissue, Evaluation]:
    """Score the masks of the tissues that a model and a rater both have, see `evaluate`.

    The names of the files say the tissues: `*_gmseg`, `*_wmseg` and `*_seg` (the cord), or `*_label-GM_mask`
    and so on. A mask whose name does not is gray matter, or the tissue that is compared if it is one; or it holds the
    labels of gray and white matter.

    Args:
        predictions: As in `evaluate`.
        references: As in `evaluate`.
        tissues: Some of "gm", "wm" and "cord".
        images: As in `evaluate`.
        label: The values of gray and of white matter in masks with several labels, or that of gray matter;
            1 and 2 in masks of the challenge.
        resample_reference: As in `evaluate`.
        annotated_only: As in `evaluate`, for each tissue by itself.
        parameters: As in `evaluate`.
        progress: As in `evaluate`, once for each tissue.

    Returns:
        An evaluation for each tissue that could be compared; why another could not is among the errors of the first.

    Raises:
        InputError: a path does not exist, or no tissue could be compared.
    """
    tissues = checks.several(checks.one_of(TISSUES), f"some of {', '.join(TISSUES)}")("tissues", tissues)
    only = tissues[0] if len(tissues) == 1 else None
    reader = MaskReader(label_values("label", label), resample_reference, only or GM)
    study = _Study.of(predictions, references, images, parameters, annotated_only, only, reader)
    found: dict[Tissue, Evaluation] = {}
    errors: list[InputError] = []
    missing: list[InputError] = []
    for tissue in tissues:
        try:
            found[tissue] = study.compared(reader, tissue, progress)
        except InputError as error:
            (missing if isinstance(error, MissingTissueError) else errors).append(error)
    if not found:
        raise next(iter([*errors, *missing]), InputError("no tissue to compare; name at least one"))
    if errors:
        first, result = next(iter(found.items()))
        found[first] = replace(result, errors=(*result.errors, *map(str, errors)))
    return found


@dataclass(frozen=True)
class _Study:
    """Models and cases that are compared, whatever the tissue."""

    models: tuple[str, ...]
    cases: tuple[Case, ...]
    warnings: tuple[str, ...]
    parameters: Mapping[str, int]
    annotated_only: bool

    @classmethod
    def of(
        cls,
        predictions: str | Path | Mapping[str, str | Path],
        references: str | Path | Sequence[str | Path],
        images: str | Path | None,
        parameters: Mapping[str, int] | None,
        annotated_only: bool,
        tissue: Tissue | None,
        reader: MaskReader,
    ) -> _Study:
        """Check the arguments of `evaluate`, and find the files."""
        if not isinstance(predictions, Mapping):
            predictions = {place_name(checks.path("predictions", predictions)): predictions}
        models = {
            checks.text("name of a model", name): checks.path("predictions", place)
            for name, place in predictions.items()
        }
        if not models:
            raise InputError("no prediction; give at least one file or folder")
        if isinstance(references, (str, Path)):
            references = [references]
        places = list(checks.several(checks.path, "a path or several")("references", references))
        counts = {
            checks.text("name of a model", name): checks.integer(0)("parameters", count)
            for name, count in checks.instance(Mapping, "a number for each model")(
                "parameters", parameters or {}
            ).items()
        }
        unknown = sorted(set(counts) - set(models))
        if unknown:
            raise InputError(
                f"parameters of {', '.join(unknown)}: no such model; there are {', '.join(models)}"
            )
        annotated_only = checks.flag("annotated_only", annotated_only)
        volumes = checks.optional(checks.path)("images", images)
        cases, warnings = find_cases(models, places, volumes, tissue)
        return cls(tuple(models), _with_labels(cases, reader), tuple(warnings), counts, annotated_only)

    def compared(self, reader: MaskReader, tissue: Tissue, progress: Progress | None) -> Evaluation:
        """Scores of a tissue.

        Raises:
            MissingTissueError: no model and rater have it both.
            InputError: nothing could be compared.
        """
        checks.optional(checks.function)("progress", progress)
        scorer = _Scorer(reader, tissue, self.annotated_only)
        for done, case in enumerate(self.cases, start=1):
            scorer.add(case)
            if progress:
                progress(done, len(self.cases))
        if not scorer.scores:
            raise InputError(scorer.errors[0]) if scorer.errors else scorer.missing[0]
        return Evaluation(
            models=self.models,
            cases=self.cases,
            scores=tuple(scorer.scores),
            rater_scores=tuple(scorer.rater_scores),
            errors=tuple(scorer.errors),
            warnings=(
                *self.warnings,
                *scorer.warnings,
                *scorer.without_tissue(),
                *scorer.partly_annotated(),
                *_undefined(scorer.scores),
            ),
            parameters=self.parameters,
            reader=reader,
            tissue=tissue,
            annotated_only=self.annotated_only,
        )


def _with_labels(cases: Sequence[Case], reader: MaskReader) -> tuple[Case, ...]:
    """The cases with the labels of each model, which a mask may lack where the model found no such tissue."""
    files: defaultdict[str, list[Path]] = defaultdict(list)
    for case in cases:
        for model, found in case.predictions.items():
            files[model] += [found.unnamed] if found.unnamed else []
    labels = {model: reader.labels_in(paths) for model, paths in files.items()}
    return tuple(
        replace(
            case,
            predictions={
                model: replace(found, labels=labels[model]) for model, found in case.predictions.items()
            },
        )
        for case in cases
    )


class _Scorer:
    """Scores, errors and warnings of the cases so far."""

    def __init__(self, reader: MaskReader, tissue: Tissue, annotated_only: bool) -> None:
        self.reader = reader
        self.tissue = tissue
        self.annotated_only = annotated_only
        self.with_gaps: dict[Path, int] = {}
        self.scores: list[Score] = []
        self.rater_scores: list[Score] = []
        self.errors: list[str] = []
        self.missing: list[MissingTissueError] = []
        self.warnings: list[str] = []

    def add(self, case: Case) -> None:
        grid: CanonicalMask | None = None
        raters: dict[str, MeasuredMask] = {}
        for model, files in case.predictions.items():
            try:
                mask = self.reader.prediction(files, case.references.values(), self.tissue)
            except InputError as error:
                self._note_error(error)
                continue
            self._warn_of(mask)
            if grid is None or mask.difference(grid):
                first, grid = grid is None, mask
                raters = self._raters(case, grid)
                if first:
                    self._compare_raters(case, raters)
            measured = replace(mask, affine=grid.affine).measured()
            for rater, reference in raters.items():
                comparison = Comparison.of(measured, reference, self._compared(reference))
                self.scores.append(_score(model, case, rater, comparison, comparison.slices()))

    def _raters(self, case: Case, grid: CanonicalMask) -> dict[str, MeasuredMask]:
        raters = {}
        for rater, files in case.references.items():
            try:
                mask = self.reader.reference(files, grid, self.tissue)
            except InputError as error:
                self._note_error(error)
                continue
            self._warn_of(mask)
            raters[rater] = mask.measured()
            marked = np.flatnonzero(_annotated(raters[rater]))
            if n_gaps := int(np.ptp(marked)) + 1 - len(marked) if len(marked) else 0:
                self.with_gaps[mask.path] = n_gaps
        return raters

    # A reference is read once for each grid of its predictions, but its warnings are given once.

    def _warn_of(self, mask: CanonicalMask) -> None:
        lines = [f"{mask.path}: {text}" for text in mask.warnings]
        self.warnings += [line for line in lines if line not in self.warnings]

    def _note_error(self, error: InputError) -> None:
        if isinstance(error, MissingTissueError):
            self.missing.append(error)
        elif str(error) not in self.errors:
            self.errors.append(str(error))

    def _compared(self, *references: MeasuredMask) -> np.ndarray | None:
        if not self.annotated_only:
            return None
        return np.logical_and.reduce([_annotated(reference) for reference in references])

    def without_tissue(self) -> list[str]:
        """One line on files without a mask of the tissue, if others have it."""
        texts = list(dict.fromkeys(map(str, self.missing)))
        if not texts:
            return []
        return [
            f"no {TISSUE_NAMES[self.tissue]}: {counted(len(texts), 'mask')}, {first_of(texts, MOST_NAMED)}"
        ]

    def partly_annotated(self) -> list[str]:
        """One line on references with empty slices between annotated ones, if these were compared."""
        if self.annotated_only or not self.with_gaps:
            return []
        names = [f"{path.name} ({count})" for path, count in sorted(self.with_gaps.items())]
        return [
            f"empty slices between annotated ones, taken as free of {TISSUE_NAMES[self.tissue]} (to leave them out, "
            f"--annotated-slices): {counted(len(names), 'reference')}, {first_of(names, MOST_NAMED)}"
        ]

    def _compare_raters(self, case: Case, raters: Mapping[str, MeasuredMask]) -> None:
        for one, other in permutations(raters, 2):
            compared = self._compared(raters[one], raters[other])
            comparison = Comparison.of(raters[one], raters[other], compared)
            self.rater_scores.append(_score(one, case, other, comparison))


def _score(
    annotator: str, case: Case, rater: str, comparison: Comparison, slices: Sequence[Mapping[str, float]] = ()
) -> Score:
    return Score(
        annotator=annotator,
        case_id=case.case_id,
        site_id=case.site_id,
        rater=rater,
        challenge=comparison.challenge_metrics(),
        fcn=comparison.fcn_metrics(),
        details=comparison.details(),
        slices=slices,
    )


def _annotated(mask: MeasuredMask) -> np.ndarray:
    """Bool (slice,): slices in which the mask is not empty."""
    return np.asarray(mask.voxels.any(axis=(0, 1)))


def _undefined(scores: Sequence[Score]) -> list[str]:
    """Which cases have undefined metrics, one line for each kind."""
    lines: dict[str, list[str]] = {}
    for score in scores:
        missing = [name for name in CHALLENGE_METRICS if score.challenge[name] != score.challenge[name]]
        if missing:
            counts = score.details
            empty = [
                name
                for name, n_voxels in (
                    ("prediction", counts["TP"] + counts["FP"]),
                    ("reference", counts["TP"] + counts["FN"]),
                )
                if not n_voxels
            ]
            reason = " and ".join(empty) + " empty" if empty else "no overlap or no skeleton"
            what = f"{reason}, {', '.join(missing)} undefined and left out of the means"
            lines.setdefault(what, []).append(f"{score.annotator} {score.case_id} {score.rater}")
    return [
        f"{what}: {counted(len(names), 'comparison')}, {first_of(names, MOST_NAMED)}"
        for what, names in lines.items()
    ]
