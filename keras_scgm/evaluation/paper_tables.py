"""The values of Tables 1 to 3 as printed in the paper."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from keras_scgm.evaluation.table import NOTHING, Table

PUBLISHED = "published"
PUBLISHED_NOTE = (
    "published: as printed in the paper, on the challenge's hidden test set (Table 2) or its ex vivo test slices "
    "(Table 3), not on these cases; its distances may be defined otherwise"
)


@cache
def published() -> Mapping[str, Any]:
    """Tables 1 to 3 as printed in the paper: `table1` (columns and rows), `table2` and `table3` (method,
    metric, mean and standard deviation)."""
    return json.loads(files("keras_scgm.evaluation").joinpath("published.json").read_text(encoding="utf-8"))


def table1() -> Table:
    """Table 1 of the paper: set-up of the compared methods."""
    content = published()["table1"]
    return Table(
        "table1",
        f"Table 1 ({PUBLISHED}): parameters of each compared method",
        tuple(content["columns"]),
        tuple(map(tuple, content["rows"])),
    )


def marked(methods: Iterable[str]) -> list[str]:
    return [f"{method} ({PUBLISHED})" for method in methods]


def published_cell(values: Mapping[str, Any], metric: str, digits: int = 2) -> str:
    """Mean (standard deviation) of a published method, and `NOTHING` for a metric that the paper does not have.

    Args:
        values: Published values of the method, by metric.
        metric: Name of the metric.
        digits: Number of decimals of the mean.
    """
    if metric not in values:
        return NOTHING
    mean, deviation = values[metric]
    return f"{mean:.{digits}f} ({deviation:.2f})"
