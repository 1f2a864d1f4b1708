"""Images that differ from others of the same scanner, group and level, by robust z-scores."""

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
MIN_IN_GROUP = 3
"""Participants that a group of the scanner needs; from the median of fewer, deviations are too small."""

ROUNDING = 1e-9
"""A deviation below this share of the median is that of equal values."""

COLUMNS = (
    PARTICIPANT,
    SESSION,
    Column("run", "Run."),
    Column("image", "Image, relative to the input folder."),
    Column("scanner", "Site, vendor, model and field strength, as far as known."),
    Column("group", "Group of the participant."),
    REGION,
    MEASURE,
    UNIT,
    Column("value", "Value of the image.", OF_MEASURE),
    Column(
        "n_participants",
        f"Number of participants of this scanner with a value in this region, in groups of at least {MIN_IN_GROUP}.",
    ),
    Column("median", "Median of the images of this scanner and group.", OF_MEASURE),
    Column(
        "robust_sd",
        "Median absolute deviation of the images of these participants from the medians of their groups, times 1.4826: "
        "the standard deviation if normal.",
        OF_MEASURE,
    ),
    Column(
        "z",
        f"Value minus median, divided by robust_sd; n/a below {MIN_PARTICIPANTS} participants of the scanner or "
        f"{MIN_IN_GROUP} of the group, or without spread.",
    ),
    Column("outlier", f"yes: z is at least {LIMIT_Z} or at most -{LIMIT_Z}; no; n/a without z."),
    Column("verdict", "Verdict of the image."),
)


def outliers(cohort: CohortTable) -> GroupTable:
    """Robust z-scores of every image, region and measure within the same scanner, the most extreme first.

    Deviations are from the median of the participant's own group on the scanner; their spread is that of all groups
    that are large enough.
    Both are those of images, not of participants, because one image is judged: its value has the noise of one image.
    """
    known = cohort.participants["group"].dropna() if "group" in cohort.participants else {}
    rows = cohort.values.assign(group=[known.get(name, UNKNOWN) for name in cohort.values["participant_id"]])
    on_scanner = ["scanner", "region", "measure"]
    of_group = rows.groupby([*on_scanner, "group"], observed=True)
    rows["n_in_group"] = of_group["participant_id"].transform("nunique")
    rows["median"] = of_group["value"].transform("median")
    in_group = rows["n_in_group"] >= MIN_IN_GROUP
    deviation = (rows["value"] - rows["median"]).where(in_group)
    judged = rows.assign(deviation=deviation, participant=rows["participant_id"].where(in_group))
    of_scanner = judged.groupby(on_scanner, observed=True)
    rows["n_participants"] = of_scanner["participant"].transform("nunique")
    rows["robust_sd"] = of_scanner["deviation"].transform(lambda known: mad(known.dropna(), center=0))
    has_spread = rows["robust_sd"] > ROUNDING * rows["median"].abs()
    is_known = in_group & (rows["n_participants"] >= MIN_PARTICIPANTS) & has_spread
    rows["z"] = (deviation / rows["robust_sd"].where(is_known)).astype(float)
    rows["outlier"] = np.where(is_known, yes_no(rows["z"].abs() >= LIMIT_Z), UNKNOWN)
    rows = rows.merge(cohort.images[["image", "verdict"]], on="image", how="left")
    rows = rows.sort_values("z", key=np.abs, ascending=False, kind="stable", ignore_index=True)
    return GroupTable("outliers", COLUMNS, with_units(rows, cohort.measures))
