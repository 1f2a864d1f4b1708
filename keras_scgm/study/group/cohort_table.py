"""Reads `summary.tsv` into one table of values, without the images that are excluded."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from keras_scgm.errors import InputError, first_of
from keras_scgm.study.columns import KEYS, UNKNOWN
from keras_scgm.study.group.measures import FURTHER, IN_SLICE, SHOWN, Measure, natural_key, ordered_regions
from keras_scgm.study.tables import SUMMARY, read_study_table

NEEDED = ("image", "region", "status")

SITE_COLUMNS = ("site", "site_id", "institution", "institution_id", "centre", "center")
"""Names that participants.tsv may give the place of a scan; the first that is there counts."""

COVARIATES = ("age", "sex", "group")
"""Columns of participants.tsv that a comparison of sites is adjusted for."""


@dataclass(frozen=True)
class CohortTable:
    """What is analysed.

    Args:
        values: One row per image, region and measure: `participant_id`, `session_id`, `run`, `image`, `region` and
            `measure` (ordered categories), `value`, `site`, `vendor`, `scanner`, and those of `COVARIATES` that the
            study has. Texts that are not known are `n/a`.
        images: One row per image of the study, excluded ones too: `KEYS`, `status`, `verdict`, `error` and
            `excluded` (boolean).
        measures: Measures with at least one value.
        covariates: Those of `COVARIATES` that the study has.
    """

    values: pd.DataFrame
    images: pd.DataFrame
    measures: tuple[Measure, ...]
    covariates: tuple[str, ...]

    @property
    def shown(self) -> tuple[Measure, ...]:
        """Measures of the figures."""
        return tuple(measure for measure in self.measures if measure not in FURTHER)

    @property
    def regions(self) -> list[str]:
        """Regions in their order, from the whole image."""
        return list(self.values["region"].cat.categories)


def read_cohort(output: Path, excluded: Collection[str] = ()) -> CohortTable:
    """Read the summary of a study.

    Args:
        output: Folder of the derivatives, which has `summary.tsv`.
        excluded: Images, as the column `image` names them, that are not analysed.

    Raises:
        InputError: There is no summary, it is broken, or nothing is left to analyse.
    """
    path = output / SUMMARY
    rows = pd.DataFrame(read_study_table(path, *NEEDED), dtype=str)
    if rows.empty:
        raise InputError(f"{path}: has no image; nothing to analyse")
    for name in (
        *KEYS,
        "verdict",
        "error",
        "reason",
        "mask",
        "manufacturer",
        "model",
        "field_strength_t",
    ):
        if name not in rows:
            rows[name] = UNKNOWN
    rows["participant_id"] = rows["participant_id"].where(rows["participant_id"] != UNKNOWN, rows["image"])
    rows["excluded"] = rows["image"].isin(excluded)
    images = rows.drop_duplicates("image")[[*KEYS, "status", "verdict", "error", "excluded"]].reset_index(
        drop=True
    )
    rows = rows[(rows["status"] == "segmented") & ~rows["excluded"]].reset_index(drop=True)
    if rows.empty:
        raise InputError(f"{path}: has no segmented image that is not excluded; nothing to analyse")
    twice = rows.loc[rows.duplicated(["image", "region"]), "image"]
    if not twice.empty:
        raise InputError(f"{path}: {twice.iloc[0]} has a region twice; write the summary again")
    measures = _measures(rows, path)
    rows["site"] = _site(rows)
    rows["vendor"] = rows["manufacturer"].map(_vendor)
    field = rows["field_strength_t"].where(
        rows["field_strength_t"] == UNKNOWN, rows["field_strength_t"] + " T"
    )
    parts = [rows["site"], rows["vendor"], rows["model"], field]
    rows["scanner"] = [_joined(cells) for cells in zip(*parts, strict=True)]
    covariates = tuple(name for name in COVARIATES if name in rows)
    if "age" in covariates:
        rows["age"] = pd.to_numeric(rows["age"], errors="coerce")
    values = rows.melt(
        [*KEYS, "region", "site", "vendor", "scanner", *covariates],
        [measure.column for measure in measures],
        "measure",
        "value",
    ).dropna(subset=["value"], ignore_index=True)
    values["measure"] = pd.Categorical(
        values["measure"], [measure.column for measure in measures], ordered=True
    )
    values["region"] = pd.Categorical(values["region"], ordered_regions(values["region"]), ordered=True)
    return CohortTable(values, images, measures, covariates)


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


def sorted_sessions(sessions: Sequence[str]) -> list[str]:
    """Names of sessions in their order; numbers count by their value."""
    return sorted(set(sessions), key=natural_key)


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


def _site(rows: pd.DataFrame) -> pd.Series:
    columns = {name.lower(): name for name in rows}
    for name in SITE_COLUMNS:
        if name in columns and (rows[columns[name]] != UNKNOWN).any():
            return rows[columns[name]]
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
