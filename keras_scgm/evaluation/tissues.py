"""Which tissue a mask is of: the names of its file, and the values of its voxels."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from keras_scgm import checks
from keras_scgm.errors import InputError

Tissue = Literal["gm", "wm", "cord"]

GM: Tissue = "gm"
WM: Tissue = "wm"
CORD: Tissue = "cord"
TISSUES: tuple[Tissue, ...] = (GM, WM, CORD)

TISSUE_NAMES: Mapping[Tissue, str] = {GM: "gray matter", WM: "white matter", CORD: "cord"}

CHALLENGE_LABELS = (1, 2)
"""Gray and white matter in the challenge's masks."""

_NAMED = re.compile(
    r"(?:^|[_-])(?:label-(?P<label>gm|wm|sc|cord)_(?:seg|mask)|(?P<name>gmseg|wmseg|seg|gm|wm|cord))(?=$|[_\-.])",
    re.IGNORECASE,
)
_TISSUE_OF: Mapping[str, Tissue] = {
    "gm": GM,
    "gmseg": GM,
    "wm": WM,
    "wmseg": WM,
    "seg": CORD,
    "sc": CORD,
    "cord": CORD,
}


class MissingTissueError(InputError):
    """The files of an annotator hold no mask of a tissue."""


@dataclass(frozen=True)
class AnnotatorFiles:
    """The masks of one model or rater in one case.

    Args:
        by_tissue: Files whose names say the tissue.
        unnamed: File whose name does not, which may hold several labels.
        labels: Labels of gray and of white matter that the unnamed files of a model hold, in any case.
    """

    by_tissue: Mapping[Tissue, Path] = field(default_factory=dict)
    unnamed: Path | None = None
    labels: frozenset[int] = frozenset()

    @property
    def paths(self) -> list[Path]:
        """All files."""
        return [*self.by_tissue.values(), *([self.unnamed] if self.unnamed else [])]


def named_tissue(stem: str) -> tuple[Tissue | None, str]:
    """Tissue that a file name says, or a part of one, and the rest of the name; None if it says nothing.

    These are the names of the Spinal Cord Toolbox and of BIDS, both of which this package writes, too.

    >>> [named_tissue(name)[0] for name in ("a_gmseg-manual", "a_label-SC_mask", "a_wm", "a_T2star", "a_message")]
    ['gm', 'cord', 'wm', None, None]
    """
    matches = list(_NAMED.finditer(stem))
    if not matches:
        return None, stem
    last = matches[-1]
    return _TISSUE_OF[(last["label"] or last["name"]).lower()], stem[: last.start()] + stem[last.end() :]


def label_values(name: str, value: Any) -> tuple[int, ...] | None:
    """A rule for arguments: one label or two, as integers from 1 up."""
    if value is None:
        return None
    wanted = "a label, or those of gray and of white matter, integers from 1 up"
    single = not isinstance(value, Sequence)
    labels = checks.several(checks.integer(1), wanted)(name, [value] if single else value)
    if not 1 <= len(labels) <= 2 or len(set(labels)) < len(labels):
        checks.refuse(name, wanted, value)
    return tuple(labels)


def values_of(tissue: Tissue, labels: Iterable[int], single: Tissue) -> frozenset[int]:
    """Values of a tissue's voxels; empty if the labels do not say them.

    Args:
        tissue: The tissue.
        labels: One label, that of `single`, or those of gray and of white matter, which together are the cord.
        single: Tissue of a single label.

    >>> sorted(values_of("cord", (1, 2), "gm")), sorted(values_of("cord", (3,), "cord"))
    ([1, 2], [3])
    """
    labels = tuple(labels)
    if len(labels) == 1:
        return frozenset(labels if tissue == single else ())
    gray, white = labels
    return frozenset({GM: (gray,), WM: (white,), CORD: (gray, white)}[tissue])
