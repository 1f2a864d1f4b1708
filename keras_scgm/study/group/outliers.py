"""Images that differ from others of the same scanner and level, by robust z-scores."""

from __future__ import annotations

import numpy as np
from statsmodels.robust.scale import mad

from keras_scgm.study.columns import UNKNOWN
from keras_scgm.study.group.cohort_table import CohortTable
from keras_scgm.study.group.tables import (
    MEASURE,
    OF_MEASURE,
    PARTICIPANT,
    REGION,
    SESSION,
    UNIT,
    Column,
    GroupTable,
    with_units,
    yes_no,
)

LIMIT_Z = 3.5
"""Absolute robust z-score of an outlier (Iglewicz and Hoaglin, How to Detect and Handle Outliers, 1993)."""

MIN_PARTICIPANTS = 10
"""Participants that a scanner needs for z-scores. Of normal values 1.7 % are outliers among 10, and 3 % among 6."""

ROUNDING = 1e-9
"""A deviation below this share of the median is that of equal values."""

COLUMNS = (
    PARTICIPANT,
    SESSION,
    Column("run", "Run."),
    Column("image", "Image, relative to the input folder."),
    Column("scanner", "Site, vendor, model and field strength, as far as known."),
    REGION,
    MEASURE,
    UNIT,
    Column("value", "Value of the image.", OF_MEASURE),
    Column("n_participants", "Number of participants of this scanner with a value in this region."),
    Column("median", "Median of the images of this scanner.", OF_MEASURE),
    Column(
        "robust_sd",
        "Their median absolute deviation, times 1.4826: the standard deviation if normal.",
        OF_MEASURE,
    ),
    Column(
        "z",
        f"Value minus median, divided by robust_sd; n/a below {MIN_PARTICIPANTS} participants or without spread.",
    ),
    Column("outlier", f"yes: z is at least {LIMIT_Z} or at most -{LIMIT_Z}; no; n/a without z."),
    Column("verdict", "Verdict of the image."),
)


def outliers(cohort: CohortTable) -> GroupTable:
    """Robust z-scores of every image, region and measure within the same scanner, the most extreme first.

    Median and deviation are those of images, not of participants, because one image is judged: its value has the noise
    of one image.
    """
    keys = ["scanner", "region", "measure"]
    groups = cohort.values.groupby(keys, observed=True)
    peers = groups["value"].agg(median="median", robust_sd=mad)
    peers["n_participants"] = groups["participant_id"].nunique()
    peers = peers.reset_index()
    rows = cohort.values.merge(peers, on=keys, how="left")
    has_spread = rows["robust_sd"] > ROUNDING * rows["median"].abs()
    is_known = (rows["n_participants"] >= MIN_PARTICIPANTS) & has_spread
    rows["z"] = ((rows["value"] - rows["median"]) / rows["robust_sd"].where(is_known)).astype(float)
    rows["outlier"] = np.where(is_known, yes_no(rows["z"].abs() >= LIMIT_Z), UNKNOWN)
    rows = rows.merge(cohort.images[["image", "verdict"]], on="image", how="left")
    rows = rows.sort_values("z", key=np.abs, ascending=False, kind="stable", ignore_index=True)
    return GroupTable("outliers", COLUMNS, with_units(rows, cohort.measures))
