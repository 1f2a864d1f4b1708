"""Segments the images of a study and writes its tables; everything that goes wrong is a row with its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args

from keras_scgm import checks
from keras_scgm.cohort import Outcome, SegmentationJob
from keras_scgm.errors import InputError, one_line
from keras_scgm.files import nifti_stem, remove_staging
from keras_scgm.morphometry.regions import ALL, FROM_THE_TOP, Range, check_ranges
from keras_scgm.segmentation import SegmentationConfig
from keras_scgm.study.columns import KEYS, QUALITY, SCANNER, SLICE_COLUMNS, SUMMARY_COLUMNS, UNKNOWN
from keras_scgm.study.derivatives import DESCRIPTION, DerivativePaths, Names, write_description
from keras_scgm.study.images import Problem, Study, StudyImage, read_participants, sidecar
from keras_scgm.study.levels import ESTIMATED, LevelConfig, LevelSource
from keras_scgm.study.pooling import missing_levels_of, pool
from keras_scgm.study.tables import (
    SUMMARY,
    ParticipantTables,
    read_own_table,
    summary_of,
    write_study_tables,
)
from keras_scgm.study.tsv import Row, cell, read_tsv

RunJobs = Callable[[Sequence[SegmentationJob]], Iterable[Outcome]]
"""Segments images, such as `keras_scgm.cohort.run_here` with its networks."""

OF_PARTICIPANTS = "participants_"
"""Beginning of a column of participants.tsv whose name is one of the summary's own."""

SAME_MASKS = ("uncertainty_passes", "seed", "keep_probabilities", "runtime")
"""Settings of the segmentation that do not change masks."""


@dataclass(frozen=True)
class StudyConfig:
    """What a study takes, and how its tables are made.

    Args:
        participants: Labels of the participants to take, with or without "sub-"; none means all.
        sessions: Likewise of sessions.
        names: "bids" for names as in BIDS, "sct" for those of the Spinal Cord Toolbox.
        levels: Where the vertebral levels come from.
        level_ranges: First and last level of further rows of the summary, such as (2, 3).
        slices: First and last slice of a further row.
        left_out: Verdicts of slices that count in no region, such as ("fail",).

    Raises:
        keras_scgm.errors.InputError: A value out of its range, or ranges of levels without levels.
    """

    participants: tuple[str, ...] = ()
    sessions: tuple[str, ...] = ()
    names: Names = "bids"
    levels: LevelConfig = field(default_factory=LevelConfig)
    level_ranges: tuple[Range, ...] = ()
    slices: Range | None = None
    left_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        checks.check_fields(self, names=checks.one_of(get_args(Names)))
        check_ranges(self.level_ranges, self.slices)
        if self.level_ranges and not self.levels.is_given:
            raise InputError("ranges of levels need levels; give a level map, labels of discs or a table")


@dataclass(frozen=True)
class StudyResult:
    """What became of a study.

    Args:
        files: The tables, with their data dictionaries.
        counts: Number of images by status "segmented", "skipped" (finished before) and "failed", and of "problems":
            rows without an image, and images whose levels are not known.
    """

    files: tuple[Path, ...]
    counts: Mapping[str, int]


def run_study(
    study: Study,
    output: str | Path,
    run: RunJobs,
    config: StudyConfig | None = None,
) -> StudyResult:
    """Segment the images of a study and write `areas.tsv` and `summary.tsv`.

    Images that were finished before in the same way should be skipped by `run` (`OutputConfig.resume`). The
    rows of each participant are written as soon as the last of its images is done, those of the study at
    the end.

    Args:
        study: The images.
        output: Folder of the results, in the layout of BIDS derivatives.
        run: Segments images.
        config: What to take, and how to make tables; None for the defaults.

    Raises:
        keras_scgm.errors.InputError: The folder cannot be used or was removed meanwhile, or a setting does not fit the
            study.
    """
    config = checks.settings(StudyConfig)("config", config)
    output = checks.path("output", output)
    if output.resolve() == study.root.resolve():
        raise InputError(f"{output}: is the folder of the images; choose another one for the results")
    chosen = study.chosen(config.participants, config.sessions)
    source = LevelSource(config.levels, study.root)
    write_description(output, study.root)
    found = {
        image.path.absolute(): (image, DerivativePaths.of_image(image, output, config.names))
        for image in chosen.images
    }
    for folder in {paths.folder for _, paths in found.values()}:
        remove_staging(folder)
    rows = _Rows(study, output, source, config)
    counts = Counter(problems=len(chosen.problems))
    waiting = Counter(image.participant_id for image in chosen.images)
    waiting.update({problem.participant_id: 0 for problem in chosen.problems})
    tables = {participant: ParticipantTables(output, participant, config.sessions) for participant in waiting}
    for problem in chosen.problems:
        tables[problem.participant_id].add([], [rows.of_problem(problem)])
    for participant, count in waiting.items():
        if not count:
            tables[participant].write()
    for outcome in run([SegmentationJob(image.path, paths) for image, paths in found.values()]):
        image, paths = found[outcome.job.image.absolute()]
        areas, summary = rows.of_outcome(image, paths, outcome)
        is_failed = summary[0]["status"] == "failed"
        counts["failed" if is_failed else outcome.status] += 1
        counts["problems"] += not is_failed and summary[0]["error"] != UNKNOWN
        tables[image.participant_id].add(areas, summary)
        waiting[image.participant_id] -= 1
        if not waiting[image.participant_id]:
            tables.pop(image.participant_id).write()
    for path in (output / DESCRIPTION, *(summary_of(output, participant) for participant in waiting)):
        if not path.exists():
            raise InputError(f"{path}: was removed while the study ran; run participant again")
    if not (config.participants or config.sessions):
        _remove_tables_of_others(output, set(waiting))
    return StudyResult(tuple(write_study_tables(output, study.dictionary)), counts)


def outdated_participants(images: Path, output: Path) -> list[str]:
    """Participants who are not in `summary.tsv`, or with other cells than in participants.tsv.

    Columns that sessions.tsv or scans.tsv may replace are not compared.

    Args:
        images: Folder of the images.
        output: Folder of the results, with `summary.tsv`.

    Raises:
        keras_scgm.errors.InputError: A table cannot be read.
    """
    participants = read_participants(images)
    found: dict[str, list[Row]] = {}
    for row in read_tsv(output / SUMMARY, "participant_id"):
        found.setdefault(row["participant_id"], []).append(row)

    def is_outdated(name: str, cells: Row) -> bool:
        sessions = images / name / f"{name}_sessions.tsv"
        replaced = {"acq_time"}.union(*(read_tsv(sessions) if sessions.is_file() else ()))
        return name not in found or any(
            row.get(_summary_column(column), UNKNOWN) != cell(text)
            for row in found[name]
            for column, text in cells.items()
            if column not in replaced
        )

    return [name for name, cells in (participants or {}).items() if is_outdated(name, cells)]


def unmeasured_participants(study: Study, output: Path) -> list[str]:
    """Participants with an image that is not in `summary.tsv`.

    Args:
        study: The images.
        output: Folder of the results, with `summary.tsv`.

    Raises:
        keras_scgm.errors.InputError: The table cannot be read.
    """
    known = {row["image"] for row in read_tsv(output / SUMMARY, "image")}
    return list(
        dict.fromkeys(image.participant_id for image in study.images if cell(image.image) not in known)
    )


def measured_suffix(output: Path) -> str | None:
    """Suffix, as BIDS has it, of all images in `summary.tsv`; None if they have several or none.

    Args:
        output: Folder of the results, with `summary.tsv`.

    Raises:
        keras_scgm.errors.InputError: The table cannot be read.
    """
    images = {row["image"] for row in read_tsv(output / SUMMARY, "image")} - {UNKNOWN}
    suffixes = {nifti_stem(Path(image)).rpartition("_")[2] for image in images}
    return suffixes.pop() if len(suffixes) == 1 else None


def _summary_column(name: str) -> str:
    """Column of `summary.tsv` for one of participants.tsv."""
    return OF_PARTICIPANTS * (name in SUMMARY_COLUMNS) + name


class _Rows:
    """Makes rows of the tables."""

    def __init__(self, study: Study, output: Path, levels: LevelSource, config: StudyConfig) -> None:
        self._study = study
        self._output = output
        self._levels = levels
        self._config = config

    def of_problem(self, problem: Problem) -> Row:
        keys = {name: getattr(problem, name) or UNKNOWN for name in KEYS}
        return {
            **keys,
            "region": ALL,
            "status": "failed",
            "error": problem.error,
            **self._participant(problem),
        }

    def of_outcome(
        self, image: StudyImage, paths: DerivativePaths, outcome: Outcome
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Rows of the slices, and of the regions of an image."""
        keys = {name: getattr(image, name) or UNKNOWN for name in KEYS}
        scanner, doubts = _scanner(image)
        common: dict[str, Any] = {**keys, **scanner, **self._participant(image)}
        warnings = [*self._warnings(image), *doubts]
        failed = {**common, "region": ALL, "status": "failed", "warnings": "; ".join(warnings)}
        if outcome.status == "failed":
            return [], [failed | {"error": _reason(outcome.message, image)}]
        try:
            areas = read_own_table(paths.areas, *SLICE_COLUMNS, again="run participant --force")
        except InputError as unread:
            return [], [failed | {"error": one_line(unread)}]
        record = sidecar(paths.record)
        levels, error = self._levels_of(image, paths)
        if levels and self._config.levels.level_table:
            warnings.append(ESTIMATED)
        slices = [{**keys, **row, "level": str(levels.get(int(row["slice"]), UNKNOWN))} for row in areas]
        if n_left_out := sum(row["verdict"] in self._config.left_out for row in slices):
            warnings.append(f"{n_left_out} of {len(slices)} slices left out for their verdicts")
        regions = pool(slices, self._config.level_ranges, self._config.slices, self._config.left_out)
        if levels:
            warnings += _incomplete(regions, self._config.level_ranges)
        if self._config.slices and "I" in record["orientation"]:
            warnings.append(FROM_THE_TOP)
        quality = record["quality"]
        common |= {
            **{name: quality[name] for name in QUALITY},
            "warnings": "; ".join(dict.fromkeys([*record["warnings"], *outcome.warnings, *warnings])),
            "status": "segmented",
            "error": error or UNKNOWN,
            "mask": paths.mask.relative_to(self._output).as_posix(),
            "version": record["program"],
            "weights": ", ".join(weights["name"] for weights in record["weights"]),
            "settings": _settings_text(record["settings"]),
            "spacing_mm": _spacing_text(record["spacing_mm"], record["orientation"]),
        }
        return slices, [{**common, **region} for region in regions]

    def _participant(self, item: StudyImage | Problem) -> Row:
        row = dict((self._study.participants or {}).get(item.participant_id, {}))
        for name, text in self._study.image_columns.get(item.image, {}).items():
            if text != UNKNOWN or name not in row:
                row[name] = text
        return {_summary_column(name): text for name, text in row.items()}

    def _warnings(self, image: StudyImage) -> list[str]:
        participants = self._study.participants
        if participants is None or image.participant_id in participants:
            return []
        return [f"{image.participant_id} is not in participants.tsv"]

    def _levels_of(self, image: StudyImage, paths: DerivativePaths) -> tuple[dict[int, int], str]:
        try:
            return self._levels.levels(image, paths.mask, paths.cord), ""
        except InputError as error:
            return {}, f"no levels: {one_line(error)}"


def _incomplete(regions: Iterable[Mapping[str, Any]], level_ranges: Sequence[Range]) -> list[str]:
    """Which of the ranges lack a level."""
    levels = {region["region"]: region["levels"] for region in regions}
    found = []
    for name in (f"{first}:{last}" for first, last in level_ranges):
        lacking = ["any level"] if levels[name] == UNKNOWN else missing_levels_of(name, levels[name])
        if lacking:
            at = ", ".join(map(str, lacking))
            found.append(f"region {name} has no gray matter at {at}; the group's tables leave it out")
    return found


def _scanner(image: StudyImage) -> tuple[dict[str, Any], list[str]]:
    """Cells on the scanner of an image, and why some are not known."""
    try:
        metadata = image.metadata()
    except InputError as error:
        return {}, [f"scanner not known: {one_line(error)}"]
    cells = {name: metadata.get(key) for name, key in SCANNER.items()}
    wrong = [name for name, value in cells.items() if isinstance(value, bool | list | dict)]
    doubts = [
        f"{name} not known: {SCANNER[name]} of the sidecar is neither a text nor a number" for name in wrong
    ]
    return {name: value for name, value in cells.items() if name not in wrong}, doubts


def _reason(message: str, image: StudyImage) -> str:
    """The message of a failed image without what the row says anyway."""
    text = message.removeprefix("error: ")
    return " ".join(text.removeprefix(f"{image.path}: ").removeprefix(f"{image.path.absolute()}: ").split())


def _remove_tables_of_others(output: Path, participants: set[str]) -> None:
    """Remove the rows of participants that are no longer in the study."""
    for folder in output.glob("sub-*"):
        if folder.name not in participants:
            ParticipantTables(output, folder.name).remove()


def _settings_text(settings: Mapping[str, Any]) -> str:
    """Settings of a record that differ from the defaults and change masks.

    >>> _settings_text({"threshold": 0.9, "window": [80, 75], "mirror": True, "precision": "float32"})
    'threshold 0.9, window 80 75, mirror'
    """
    other = {
        name: settings[name]
        for name, default in asdict(SegmentationConfig()).items()
        if name not in SAME_MASKS and settings.get(name, default) != default
    }
    texts = (" ".join(map(str, value)) if isinstance(value, list) else str(value) for value in other.values())
    return ", ".join(f"{name} {text}".removesuffix(" True") for name, text in zip(other, texts, strict=True))


def _spacing_text(spacing_mm: Sequence[float], orientation: str) -> str:
    """Voxel spacing right to left, posterior to anterior, inferior to superior, in whatever order the file has them.

    >>> _spacing_text([3.0, 0.5, 0.4], "SLA")
    '0.5 x 0.4 x 3'
    """
    of_letter = dict(zip(orientation, spacing_mm, strict=True))
    in_order = (of_letter[letter] for ends in ("RL", "PA", "IS") for letter in ends if letter in of_letter)
    return " x ".join(f"{spacing:.4g}" for spacing in in_order)
