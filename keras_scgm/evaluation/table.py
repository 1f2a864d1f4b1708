"""A table of results as text, CSV and LaTeX, and the format of its cells."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from keras_scgm.evaluation.summary import Summary
from keras_scgm.files import write_rows

UNITS = {"MSD": "mm", "HSD": "mm", "SHD": "mm", "SMD": "mm", "TPR": "%", "TNR": "%", "PPV": "%", "CC": "%"}
NOTHING = "-"


@dataclass(frozen=True)
class Table:
    """A table of text cells.

    Args:
        name: Stem of the names of its files.
        title: Content of the table, and what its means are taken over.
        columns: Headings; the first column names the rows.
        rows: Cells as text.
        notes: Lines below the table.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def text(self) -> str:
        """Aligned columns."""
        widths = [max(map(len, cells)) for cells in zip(self.columns, *self.rows, strict=True)]
        lines = [self.title, ""]
        for row in (self.columns, *self.rows):
            first, *others = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            lines.append("  ".join([first, *others]).rstrip())
        return "\n".join([*lines, *self.notes]) + "\n"

    def latex(self) -> str:
        """A tabular with the rules of booktabs."""
        head, *body = [" & ".join(map(_latex_escape, row)) + r" \\" for row in (self.columns, *self.rows)]
        rules = [rf"\begin{{tabular}}{{{'l' * len(self.columns)}}}", r"\toprule", head, r"\midrule"]
        comments = [f"% {line}" for line in (self.title, *self.notes)]
        return "\n".join([*comments, *rules, *body, r"\bottomrule", r"\end{tabular}"]) + "\n"

    def write_csv(self, path: Path) -> None:
        """Write the cells, with the headings in the first row."""
        write_rows(path, [dict(zip(self.columns, row, strict=True)) for row in self.rows], self.columns)


def mean_std(summary: Summary, decimals: int = 2) -> str:
    """`0.85 (0.04)`, as in the paper; the deviation has two decimals."""
    if not summary.n:
        return NOTHING
    return f"{summary.mean:.{decimals}f} ({NOTHING if math.isnan(summary.std) else f'{summary.std:.2f}'})"


def number(value: float, decimals: int = 2) -> str:
    """A number as a cell."""
    return NOTHING if math.isnan(value) else f"{value:.{decimals}f}"


def with_interval(value: float, interval: tuple[float, float]) -> str:
    if math.isnan(interval[0]):
        return number(value, 3)
    low, high = (number(bound, 3) for bound in interval)
    return f"{number(value, 3)} [{low}, {high}]"


def with_unit(metric: str) -> str:
    return f"{metric} ({UNITS[metric]})" if metric in UNITS else metric


def _latex_escape(text: str) -> str:
    for character in "&%_#$":
        text = text.replace(character, rf"\{character}")
    return text
