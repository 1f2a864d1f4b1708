"""Reads `summary.tsv` into one table of values, without the images that are excluded."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from keras_scgm.errors import InputError, first_of
from keras_scgm.study.columns import KEYS, UNKNOWN
from keras_scgm.study.group.measures import (
    FURTHER,
    IN_SLICE,
    SHOWN,
    Measure,
    is_level,
    natural_key,
    ordered_regions,
)
from keras_scgm.study.pooling import missing_levels_of
from keras_scgm.study.tables import SUMMARY, image_name, read_study_table

NEEDED = ("image", "region", "status")
OF_IMAGES = ("verdict", "reason", "error", "warnings", "mask", "version", "weights", "settings")

SITE_COLUMNS = ("site", "site_id", "institution", "institution_id", "centre", "center")
"""Names that participants.tsv may give the place of a scan; the first that is there counts."""

COVARIATES = ("age", "sex", "group")
"""Columns of participants.tsv, in any case of letters, that comparisons are adjusted for."""

SEXES = {"m": "M", "male": "M", "f": "F", "female": "F", "o": "O", "other": "O"}
"""Spellings that BIDS allows, in any case of letters."""

ACQUISITION_TIME = "acq_time"
"""Column of sessions.tsv and scans.tsv, ISO 8601."""

_NAME_OF_IMAGE = re.compile(r"(?:.*/)?sub-[^_/]+((?:_[^_/]+)*)\.nii(?:\.gz)?")


@dataclass(frozen=True)
class CohortTable:
    """What is analysed.

    Args:
        values: One row per image, region and measure: `participant_id`, `session_id`, `run`, `image`, `acquisition`,
            `region` and `measure` (ordered categories), `value`, `site`, `vendor` and `scanner`. Texts that are not
            known are `n/a`.
        images: One row per image of the study, excluded ones too: `KEYS`, `has_image` (False for a participant or a
            session without an image), `acquisition`, `acq_time` (NaT if not known), `status`, `verdict`, `reason`,
            `error`, `warnings`, `mask`, `version`, `weights`, `settings`, and `excluded`: why it is left out, empty if
            it is not.
        participants: Those of `COVARIATES` that the study has, by participant; NaN if not known.
        measures: Measures with at least one value.
        sessions: Names of the sessions in their order.
        has_times: Whether that is the order in time; otherwise it is that of the names.
        unread_ages: Participants whose age is no number, and what they have.
        unread_times: Images of sessions whose `acq_time` is not ISO 8601, and what they have.
        incomplete: Image and region of the ranges of levels that lack a level, and are in no row of `values`.
    """

    values: pd.DataFrame
    images: pd.DataFrame
    participants: pd.DataFrame
    measures: tuple[Measure, ...]
    sessions: tuple[str, ...]
    has_times: bool
    unread_ages: tuple[tuple[str, str], ...]
    unread_times: tuple[tuple[str, str], ...]
    incomplete: tuple[tuple[str, str], ...]

    @property
    def shown(self) -> tuple[Measure, ...]:
        """Measures of the figures."""
        return tuple(measure for measure in self.measures if measure not in FURTHER)

    @property
    def used(self) -> pd.DataFrame:
        """The images that are analysed."""
        return self.images[(self.images["status"] == "segmented") & (self.images["excluded"] == "")]

    @property
    def session_order(self) -> dict[str, int]:
        """Name of a session -> its place in the order."""
        return {name: number for number, name in enumerate(self.sessions)}

    @property
    def regions(self) -> list[str]:
        """Regions in their order, from the whole image."""
        return list(self.values["region"].cat.categories)


def read_cohort(output: Path, excluded: Mapping[str, str] | None = None) -> CohortTable:
    """Read the summary of a study.

    Args:
        output: Folder of the derivatives, which has `summary.tsv`.
        excluded: Images, as the column `image` names them, that are not analysed, and why.

    Raises:
        InputError: There is no summary, it is broken, or nothing is left to analyse.
    """
    path = output / SUMMARY
    rows = _read_rows(path)
    rows["excluded"] = [(excluded or {}).get(image, "") for image in rows["image"]]
    images = rows.drop_duplicates(["image", "error"], ignore_index=True)
    images = images[[*KEYS, "has_image", *OF_IMAGES, "acquisition", ACQUISITION_TIME, "status", "excluded"]]
    rows = rows[(rows["status"] == "segmented") & (rows["excluded"] == "")].reset_index(drop=True)
    if rows.empty:
        raise InputError(f"{path}: has no segmented image that is not excluded; nothing to analyse")
    twice = rows.loc[rows.duplicated(["image", "region"]), "image"]
    if not twice.empty:
        raise InputError(f"{path}: {twice.iloc[0]} has a region twice; write the summary again")
    measures = _measures(rows, path)
    _add_scanners(rows)
    is_incomplete = np.array(
        [bool(missing_levels_of(*cells)) for cells in zip(rows["region"], rows["levels"], strict=True)]
    )
    incomplete = rows.loc[is_incomplete, ["image", "region"]].itertuples(index=False, name=None)
    once = rows.drop_duplicates("image")
    sessions, has_times = _ordered_sessions(once)
    is_unread = (once["unread_time"] != UNKNOWN) & (once["session_id"] != UNKNOWN)
    unread_times = once.loc[is_unread, ["image", "unread_time"]]
    participants, unread_ages = _covariates(rows)
    return CohortTable(
        _values(rows[~is_incomplete], measures),
        images,
        participants,
        measures,
        sessions,
        has_times,
        unread_ages,
        tuple(unread_times.itertuples(index=False, name=None)),
        tuple(incomplete),
    )


def _read_rows(path: Path) -> pd.DataFrame:
    """The summary with all columns that are used, names in their usual spelling and times as such."""
    rows = pd.DataFrame(read_study_table(path, *NEEDED), dtype=str)
    if rows.empty:
        raise InputError(f"{path}: has no image; nothing to analyse")
    # Names are as people write them, such as Age.
    lower = {name: name.lower() for name in rows if name.lower() in (*COVARIATES, *SITE_COLUMNS)}
    rows = rows.rename(columns={name: new for name, new in lower.items() if new not in rows})
    for name in (*KEYS, *OF_IMAGES, "levels", "manufacturer", "model", "field_strength_t", ACQUISITION_TIME):
        if name not in rows:
            rows[name] = UNKNOWN
    rows["has_image"] = rows["image"] != UNKNOWN
    rows["image"] = [image_name(row) for row in rows.to_dict("records")]
    rows["participant_id"] = rows["participant_id"].where(rows["participant_id"] != UNKNOWN, rows["image"])
    rows["acquisition"] = rows["image"].map(_acquisition)
    texts = rows[ACQUISITION_TIME]
    rows[ACQUISITION_TIME] = pd.to_datetime(texts, errors="coerce", format="ISO8601", utc=True)
    rows["unread_time"] = texts.where(rows[ACQUISITION_TIME].isna(), UNKNOWN)
    return rows


def _values(rows: pd.DataFrame, measures: Sequence[Measure]) -> pd.DataFrame:
    """`CohortTable.values` of one row per image and region."""
    names = [measure.column for measure in measures]
    keys = [*KEYS, "acquisition", "region", "site", "vendor", "scanner"]
    values = rows.melt(keys, names, "measure", "value").dropna(subset=["value"], ignore_index=True)
    values["measure"] = pd.Categorical(values["measure"], names, ordered=True)
    values["region"] = pd.Categorical(values["region"], ordered_regions(values["region"]), ordered=True)
    return values


def per_session(values: pd.DataFrame, *keys: str) -> pd.DataFrame:
    """Mean over the images of each participant and session, within `keys`, region and measure."""
    by = ["participant_id", "session_id", *keys, "region", "measure"]
    return values.groupby(by, observed=True, as_index=False)["value"].mean()


def per_participant(values: pd.DataFrame, *keys: str) -> pd.DataFrame:
    """Mean over the sessions of each participant, within `keys`, region and measure, of the means of each session.

    A participant with several images counts once in whatever is computed of the result.
    """
    by = ["participant_id", *keys, "region", "measure"]
    return per_session(values, *keys).groupby(by, observed=True, as_index=False)["value"].mean()


def overview_region(values: pd.DataFrame) -> str:
    """The region that a figure or a text reports where it shows only one.

    The vertebral level that most participants have, because whole images cover different parts of the cord; without
    levels the whole image.

    Args:
        values: Rows with `participant_id` and `region`.
    """
    counts = values.groupby(values["region"].astype(str))["participant_id"].nunique()
    levels = [region for region in ordered_regions(counts.index) if is_level(region)]
    return max(levels, key=counts.get) if levels else ordered_regions(counts.index)[0]


def _acquisition(image: str) -> str:
    """What sets images of a session apart, from a name as in BIDS: everything but participant, session and run.

    >>> _acquisition("sub-01/ses-1/anat/sub-01_ses-1_acq-hi_run-2_T2starw.nii.gz")
    'acq-hi_T2starw'
    """
    match = _NAME_OF_IMAGE.fullmatch(image)
    entities = match[1].split("_")[1:] if match else []
    return "_".join(entity for entity in entities if not entity.startswith(("ses-", "run-"))) or UNKNOWN


def _ordered_sessions(images: pd.DataFrame) -> tuple[tuple[str, ...], bool]:
    """Names of the sessions in the order in time if it is known of all images, otherwise by name.

    Times are compared within participants only: anonymized ones are shifted, each participant's by its own days.
    """
    with_session = images[images["session_id"] != UNKNOWN]
    names = sorted(with_session["session_id"].unique(), key=natural_key)
    if not names or with_session[ACQUISITION_TIME].isna().any():
        return tuple(names), False
    times = with_session.groupby(["participant_id", "session_id"])[ACQUISITION_TIME].min().unstack()
    later_than_others = {
        name: np.nansum([np.sign((times[name] - times[other]).dt.total_seconds()).mean() for other in names])
        for name in names
    }
    return tuple(sorted(names, key=later_than_others.__getitem__)), True


def _covariates(rows: pd.DataFrame) -> tuple[pd.DataFrame, tuple[tuple[str, str], ...]]:
    """Covariates of the participants, and the ages that are no numbers."""
    known = [name for name in COVARIATES if name in rows]
    people = rows.set_index("participant_id")[known].replace(UNKNOWN, np.nan).groupby(level=0).first()
    unread_ages: dict[str, str] = {}
    if "age" in known:
        # The oldest are anonymized as 89+.
        ages = pd.to_numeric(people["age"].str.removesuffix("+"), errors="coerce")
        unread_ages = people["age"][ages.isna() & people["age"].notna()].to_dict()
        people["age"] = ages
    if "sex" in known:
        people["sex"] = people["sex"].map(lambda text: SEXES.get(text.casefold(), text), na_action="ignore")
    if "group" in known:
        spellings = people["group"].value_counts(sort=True)
        usual: dict[str, str] = {}
        for text in spellings.index:
            usual.setdefault(text.casefold(), text)
        people["group"] = people["group"].map(lambda text: usual[text.casefold()], na_action="ignore")
    return people, tuple(unread_ages.items())


def _measures(rows: pd.DataFrame, path: Path) -> tuple[Measure, ...]:
    """Turn the columns of the measures into numbers, and tell which have any."""
    known = []
    for measure in (*SHOWN, IN_SLICE, *FURTHER):
        if measure.column not in rows:
            continue
        text = rows[measure.column]
        numbers = pd.to_numeric(text, errors="coerce").astype(float)
        wrong = text[(text != UNKNOWN) & ~np.isfinite(numbers)]
        if not wrong.empty:
            raise InputError(
                f"{path}: column {measure.column} has {first_of(list(wrong.unique()))}, not a number"
            )
        rows[measure.column] = numbers
        if numbers.notna().any():
            known.append(measure)
    if SHOWN[0] in known and IN_SLICE in known:
        known.remove(IN_SLICE)
    if not known:
        raise InputError(f"{path}: has no measurement of an image that is not excluded; nothing to analyse")
    return tuple(known)


def _add_scanners(rows: pd.DataFrame) -> None:
    """Add the columns `site`, `vendor` and `scanner`."""
    rows["site"] = _site(rows)
    rows["vendor"] = rows["manufacturer"].map(_vendor)
    field = rows["field_strength_t"].where(
        rows["field_strength_t"] == UNKNOWN, rows["field_strength_t"] + " T"
    )
    parts = [rows["site"], rows["vendor"], rows["model"], field]
    rows["scanner"] = [_joined(cells) for cells in zip(*parts, strict=True)]


def _site(rows: pd.DataFrame) -> pd.Series:
    for name in SITE_COLUMNS:
        if name in rows and (rows[name] != UNKNOWN).any():
            return rows[name]
    return pd.Series(UNKNOWN, index=rows.index)


def _vendor(manufacturer: str) -> str:
    """First word, since software versions of one vendor name it differently.

    >>> _vendor("SIEMENS"), _vendor("Siemens Healthineers"), _vendor("GE MEDICAL SYSTEMS")
    ('Siemens', 'Siemens', 'GE')
    """
    if manufacturer == UNKNOWN:
        return UNKNOWN
    first = manufacturer.split()[0]
    return first.upper() if len(first) <= 3 else first.capitalize()


def _joined(cells: Sequence[str]) -> str:
    return ", ".join(cell for cell in cells if cell != UNKNOWN) or UNKNOWN
