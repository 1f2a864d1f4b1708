"""The guard: whether an adapted network may take the place of the one it started from, told without labels."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from keras_scgm import checks
from keras_scgm.adaptation.config import GuardConfig
from keras_scgm.adaptation.scans import pairs_of_paths
from keras_scgm.datasets import AnnotatedVolume, annotated_volumes
from keras_scgm.dice import dice
from keras_scgm.prediction import Weights
from keras_scgm.segmentation import Segmentation, SegmentationConfig, Segmenter
from keras_scgm.training.validation import volume_dice

PREDICTED, WORST, AGREEMENT, REPEATABILITY, SYNTHETIC, GAIN = (
    "predicted DSC of held-back scans, mean",
    "predicted DSC of held-back scans, largest fall",
    "DSC of the masks before and after",
    "CoV of the area between scan and rescan, %",
    "DSC on synthetic subjects",
    "required gain in predicted DSC",
)


@dataclass(frozen=True)
class Check:
    """One question of the guard.

    Args:
        name: What is measured.
        before: Value of the network that was started from; NaN where there is none.
        after: Value of the adapted network.
        limit: Lowest or highest value that passes.
        passed: Whether it does.
    """

    name: str
    before: float
    after: float
    limit: float
    passed: bool


@dataclass(frozen=True)
class Judgement:
    """Verdict of the guard.

    Args:
        checks: All questions.
    """

    checks: tuple[Check, ...]

    @property
    def accepted(self) -> bool:
        """Whether all passed."""
        return all(check.passed for check in self.checks)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the network is refused, one line each; empty if it is accepted."""
        return tuple(
            f"{check.name}: {check.after:.4f}, limit {check.limit:.4f}"
            for check in self.checks
            if not check.passed
        )

    def to_json(self) -> str:
        """Ready for a file; what is not known is null."""
        rows = [
            {
                name: None if isinstance(value, float) and not math.isfinite(value) else value
                for name, value in asdict(check).items()
            }
            for check in self.checks
        ]
        return json.dumps({"accepted": self.accepted, "checks": rows}, indent=2) + "\n"

    def table(self) -> str:
        """The questions as lines of text."""
        width = max(len(check.name) for check in self.checks)
        head = f"{'':{width}}  {'before':>8} {'after':>8} {'limit':>8}"
        rows = [
            f"{check.name:{width}}  {_cell(check.before)} {_cell(check.after)} {_cell(check.limit)}  "
            f"{'passed' if check.passed else 'refused'}"
            for check in self.checks
        ]
        return "\n".join([head, *rows])


@dataclass(frozen=True)
class Compared:
    """An image segmented by both networks.

    Args:
        before: Result of the network that was started from.
        after: Result of the adapted network.
    """

    before: Segmentation
    after: Segmentation

    @property
    def agreement(self) -> float:
        """Dice coefficient of the two masks of gray matter; NaN if both are empty."""
        return dice(*(np.asarray(one.mask_voxels) > 0 for one in (self.before, self.after)))


def compare(
    before: Weights,
    after: Weights,
    held_back: Sequence[Path],
    rescans: Sequence[tuple[Path, Path]] = (),
    synthetic: Sequence[AnnotatedVolume] = (),
    config: GuardConfig | None = None,
) -> tuple[Judgement, tuple[Compared, ...]]:
    """Segment the scans of the guard with two networks, and judge one by the other.

    Args:
        before: Weights that were started from.
        after: Adapted weights.
        held_back: Scans that the adaptation did not see.
        rescans: Pairs of scans of the same person.
        synthetic: Synthetic subjects.
        config: Limits; None for the defaults.

    Returns:
        The verdict, and the results on the scans that were held back.

    Raises:
        keras_scgm.errors.InputError: Weights or an image cannot be used.
    """
    held_back = checks.several(checks.path, "paths of images")("held_back", held_back)
    if not held_back:
        checks.refuse("held_back", "at least one image", held_back)
    rescans, synthetic = pairs_of_paths("rescans", rescans), annotated_volumes("synthetic", synthetic)
    config = checks.settings(GuardConfig)("config", config)

    def measured(weights: Weights) -> tuple[dict[Path, Segmentation], float, float]:
        segmenter = Segmenter(weights, SegmentationConfig(keep_probabilities=False))
        results = {path: segmenter.segment(path) for path in held_back}
        areas_mm2 = [
            tuple(mean_area_mm2(results.get(path) or segmenter.segment(path)) for path in pair)
            for pair in rescans
        ]
        dsc = [volume_dice(segmenter, volume) for volume in synthetic]
        return results, coefficient_of_variation(areas_mm2), float(np.mean(dsc)) if dsc else math.nan

    (old, old_cov, old_dsc), (new, new_cov, new_dsc) = measured(before), measured(after)
    compared = tuple(Compared(old[path], new[path]) for path in held_back)
    return judge(compared, (old_cov, new_cov), (old_dsc, new_dsc), config), compared


def judge(
    compared: Sequence[Compared],
    cov_percent: tuple[float, float],
    synthetic_dsc: tuple[float, float],
    config: GuardConfig,
) -> Judgement:
    """Holds what was measured before and after against the limits.

    Args:
        compared: Results on the scans that were held back.
        cov_percent: Coefficient of variation between scan and rescan; NaN where there are none.
        synthetic_dsc: Dice coefficient on synthetic subjects; NaN where there are none.
        config: Limits.
    """
    predicted = np.array(
        [[one.quality.predicted_dsc for one in (pair.before, pair.after)] for pair in compared]
    )
    (before, after), changes = predicted.mean(axis=0), predicted[:, 1] - predicted[:, 0]
    worst = int(changes.argmin())
    # Two empty masks are no agreement: nothing was found.
    agreement = float(np.mean(np.nan_to_num([pair.agreement for pair in compared])))
    rows = [
        _least(PREDICTED, before, after, before - config.predicted_drop),
        _least(WORST, predicted[worst, 0], predicted[worst, 1], predicted[worst, 0] - config.scan_drop),
        _least(AGREEMENT, math.nan, agreement, min(config.least_agreement, before)),
    ]
    if not math.isnan(synthetic_dsc[0]):
        rows.append(_least(SYNTHETIC, *synthetic_dsc, synthetic_dsc[0] - config.synthetic_drop))
    if not math.isnan(cov_percent[0]):
        limit = cov_percent[0] + config.cov_rise
        rows.append(Check(REPEATABILITY, *cov_percent, limit, bool(cov_percent[1] <= limit)))
    if config.required_gain:
        rows.append(_least(GAIN, before, after, before + config.required_gain))
    return Judgement(tuple(rows))


def mean_area_mm2(result: Segmentation) -> float:
    """Mean area of the gray matter over the slices that have some, mm2; 0 if none has."""
    areas_mm2 = [row.area_mm2 for row in result.areas if row.area_mm2]
    return float(np.mean(areas_mm2)) if areas_mm2 else 0.0


def coefficient_of_variation(pairs: Sequence[tuple[float, ...]]) -> float:
    """Root mean square over pairs of standard deviation (n - 1) over mean, %; NaN without pairs."""
    if not pairs:
        return math.nan
    values = np.array(pairs)
    if not values.all():
        return math.inf
    return float(100 * np.sqrt(np.mean((values.std(axis=1, ddof=1) / values.mean(axis=1)) ** 2)))


def _least(name: str, before: float, after: float, limit: float) -> Check:
    return Check(name, float(before), float(after), float(limit), bool(after >= limit))


def _cell(value: float) -> str:
    return f"{'' if value != value else f'{value:.4f}':>8}"
