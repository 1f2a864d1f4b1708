"""Warnings about an image that only the others of the study show."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from keras_scgm.errors import InputError
from keras_scgm.morphometry.regions import ALL
from keras_scgm.study.columns import UNKNOWN
from keras_scgm.study.derivatives import DerivativePaths
from keras_scgm.study.images import sidecar
from keras_scgm.study.tsv import Row, number

NEEDED = ("region", "status", "warnings", "mask", "spacing_mm", "contrast")
"""Columns of `summary.tsv` that say what fits."""

Found = Iterator[tuple[str, str]]
"""Images, and what to say of each."""


def warn_of_others(summary: Sequence[Row], output: Path) -> None:
    """Add to `warnings` of all rows of an image what does not fit the other images.

    Args:
        summary: Rows of `summary.tsv`.
        output: Folder of the results.
    """
    whole = [row for row in summary if row["region"] == ALL and row["status"] == "segmented"]
    texts: dict[str, list[str]] = defaultdict(list)
    for image, text in [
        *_other_spacings(whole),
        *_other_contrasts(whole),
        *_same_files(whole, output),
        *_echoes(whole),
    ]:
        texts[image].append(text)
    for row in summary:
        if new := texts.get(row["image"]):
            row["warnings"] = "; ".join([row["warnings"]] * (row["warnings"] != UNKNOWN) + new)


def _other_spacings(rows: Sequence[Row]) -> Found:
    usual = Counter(row["spacing_mm"] for row in rows).most_common(1)
    for row in rows:
        if row["spacing_mm"] != usual[0][0]:
            yield row["image"], f"voxels of {row['spacing_mm']} mm, others have {usual[0][0]} mm"


def _other_contrasts(rows: Sequence[Row]) -> Found:
    is_bright = {row["image"]: number(row["contrast"]) > 0 for row in rows if row["contrast"] != UNKNOWN}
    is_usually_bright = 2 * sum(is_bright.values()) >= len(is_bright)
    here, elsewhere = ("darker", "brighter") if is_usually_bright else ("brighter", "darker")
    for image, is_bright_here in is_bright.items():
        if is_bright_here != is_usually_bright:
            yield (
                image,
                f"gray matter is {here} than white matter, in others {elsewhere}; is it another contrast?",
            )


def _same_files(rows: Sequence[Row], output: Path) -> Found:
    def hash_of(row: Row) -> str:
        try:
            return str(sidecar(DerivativePaths(output / row["mask"]).record).get("input_sha256", ""))
        except InputError:
            return ""

    for others in _several(rows, hash_of):
        for row in others:
            twins = ", ".join(other["image"] for other in others if other is not row)
            yield row["image"], f"the same file as {twins}"


def _echoes(rows: Sequence[Row]) -> Found:
    def without_echo(row: Row) -> str:
        return re.sub(r"_echo-[^_/]+", "", row["image"]) if "_echo-" in row["image"] else ""

    for echoes in _several(rows, without_echo):
        for row in echoes:
            yield (
                row["image"],
                f"one of {len(echoes)} echoes, of which group takes the mean; better combine them before, or leave "
                "the others out with --exclude",
            )


def _several(rows: Sequence[Row], key: Callable[[Row], str]) -> Iterator[list[Row]]:
    """Rows with the same key, if that is not empty, where there are more than one."""
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[key(row)].append(row)
    return (same for name, same in found.items() if name and len(same) > 1)
