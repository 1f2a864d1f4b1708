"""How far a mask can be trusted, from the mask and the image alone.

Every slice with gray matter gets a predicted Dice coefficient: a logistic regression on seven figures that cost
next to nothing to compute, fitted on drawn cords whose truth is known, good images and damaged ones
(`benchmarks/quality.py` fits it and holds it against cases it has not seen).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
from scipy.ndimage import binary_dilation, label

from keras_scgm.slices import Region

Verdict = Literal["pass", "review", "fail"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)

PASS_DSC, FAIL_DSC = 0.6, 0.4
"""Predicted Dice coefficient from which a slice or volume passes, and below which it fails."""

RIM_MM = 1.0
"""Width of the rim around the gray matter whose brightness stands for white matter."""

NOISE_LAG_MM = 0.5
"""Distance of the voxels compared for the noise: neighbours in a finer grid are often interpolated."""
NOISE_MARGIN_MM = 5.0
"""How far around the gray matter the noise is measured."""
NOISE_VOXELS = 2**13
"""Lines of so many voxels along each axis are enough for the noise to be within 1.5 %."""

TINY_AREA_MM2, SMALL_AREA_MM2 = 0.5, 10.0
MAX_STEP_MM = 4.0
MAX_JUMP = 2.0

INTERCEPT = 1.002
TERMS = {
    "agreement": (0.922, 0.558, "the outline is uncertain"),
    "rest": (0.037, -0.663, "gray matter in several pieces"),
    "near_edge": (0.000, -0.723, "gray matter near the edge"),
    "small_area": (-0.039, 1.232, "little gray matter"),
    "likeness": (0.742, 0.754, "unlike its neighbours"),
    "jump": (0.089, -0.118, "the area jumps"),
    "step_mm": (0.448, -0.405, "beside its neighbours"),
}
"""Per figure: its mean in good slices, its weight in the logit, and what it says where it speaks against one."""


@dataclass(frozen=True)
class SliceEvidence:
    """What can be told of the mask of one slice without a reference.

    Args:
        area_mm2: of the mask on the network's grid; the other figures are NaN where it is 0.
        agreement: Dice coefficient of the mask with the probabilities, which lie between 0 and 1 where the
            network is unsure or mirrored passes or the members of an ensemble disagree.
        rest: share of the mask outside its largest piece.
        near_edge: whether the mask comes close to the edge of the window or the field of view.
        contrast: brightness of the gray matter minus that of its rim, in the image's unit.
        noise: standard deviation of the noise around the gray matter, in the image's unit.
        likeness: Dice coefficient with the mask of a neighbouring slice once their centres are brought
            together, the better of the two; NaN without neighbours that have gray matter.
        jump: natural logarithm of the ratio of areas with a neighbour, without sign, the smaller of the two.
        step_mm: from centre to centre of a neighbour in the slice plane, the smaller of the two.
        pixels: (n, 2) pixels of the mask on the resampled grid, until it has been compared.
    """

    area_mm2: float
    near_edge: bool = False
    agreement: float = math.nan
    rest: float = math.nan
    contrast: float = math.nan
    noise: float = math.nan
    likeness: float = math.nan
    jump: float = math.nan
    step_mm: float = math.nan
    pixels: np.ndarray | None = field(default=None, repr=False, compare=False)

    @property
    def contrast_to_noise(self) -> float:
        return self.contrast / self.noise if self.noise else math.nan

    @property
    def features(self) -> dict[str, float]:
        """The figures as the regression takes them, NaN where a slice has no neighbour."""
        return {
            "agreement": self.agreement,
            "rest": self.rest,
            "near_edge": float(self.near_edge),
            "small_area": math.log(min(max(self.area_mm2, TINY_AREA_MM2) / SMALL_AREA_MM2, 1.0)),
            "likeness": self.likeness,
            "jump": min(self.jump, MAX_JUMP) if not math.isnan(self.jump) else self.jump,
            "step_mm": min(self.step_mm, MAX_STEP_MM) if not math.isnan(self.step_mm) else self.step_mm,
        }


@dataclass(frozen=True)
class SliceQuality:
    """Judgement of one slice.

    Args:
        predicted_dsc: between 0 and 1; NaN without gray matter.
        verdict: what to do with the slice: use it, look at it, or leave it.
        reason: what speaks most against the slice, empty if it passes.
        evidence: what the judgement rests on.
    """

    predicted_dsc: float
    verdict: Verdict
    reason: str
    evidence: SliceEvidence


@dataclass(frozen=True)
class Quality:
    """Judgement of a volume.

    Args:
        predicted_dsc: mean over the slices from the first to the last with gray matter, one without it
            counting 0; 0 for an empty mask.
        verdict: of the mean, and never "pass" when a slice fails.
        contrast: mean over the slices by area, in the image's unit; NaN for an empty mask.
        noise: likewise.
        slices: one for each slice, from the inferior end.
    """

    predicted_dsc: float
    verdict: Verdict
    contrast: float
    noise: float
    slices: tuple[SliceQuality, ...]

    def as_record(self, stored_index: Callable[[int], int]) -> dict[str, Any]:
        """Ready for JSON, which has no NaN.

        Args:
            stored_index: index in the file of the k-th slice from the inferior end.
        """
        return {
            "verdict": self.verdict,
            "predicted_dsc": self.predicted_dsc,
            "contrast": None if math.isnan(self.contrast) else self.contrast,
            "noise": None if math.isnan(self.noise) else self.noise,
            "slices": {
                verdict: sorted(
                    stored_index(k) for k, one in enumerate(self.slices) if one.verdict == verdict
                )
                for verdict in VERDICTS
            },
        }


def examine(
    image: np.ndarray,
    probabilities: np.ndarray,
    spacing_mm: float,
    *,
    origin: Sequence[int] = (0, 0),
    unit: float = 1.0,
    near_edge: bool = False,
    noise: float = math.nan,
) -> SliceEvidence:
    """Evidence of one slice, as yet without its neighbours.

    Args:
        image: (rows, columns) the network's window.
        probabilities: (rows, columns) of gray matter in [0, 1]; more than 0.5 is in the mask.
        spacing_mm: pixel spacing of the window.
        origin: first pixel of the window on a grid that all slices share.
        unit: of the image's brightness in the window's.
        near_edge: whether the mask is near an edge.
        noise: from `noise_level`.
    """
    mask = probabilities > 0.5
    n = int(np.count_nonzero(mask))
    if not n:
        return SliceEvidence(area_mm2=0.0)
    pixels = np.argwhere(mask)
    margin = max(1, round(RIM_MM / spacing_mm))
    box = tuple(
        slice(max(low - margin, 0), high + margin + 1)
        for low, high in zip(pixels.min(axis=0), pixels.max(axis=0), strict=True)
    )
    gray_matter, crop = mask[box], image[box]
    rim = binary_dilation(gray_matter, iterations=margin) & ~gray_matter
    pieces, _ = label(gray_matter, np.ones((3, 3)))
    return SliceEvidence(
        area_mm2=n * spacing_mm**2,
        near_edge=near_edge,
        agreement=float(2 * probabilities[mask].sum() / (probabilities.sum() + n)),
        rest=1 - float(np.bincount(pieces.ravel())[1:].max()) / n,
        contrast=unit * float(crop[gray_matter].mean() - crop[rim].mean()) if rim.any() else math.nan,
        noise=noise,
        pixels=pixels + np.array(origin),
    )


def compare_with_neighbours(slices: list[SliceEvidence], start: int, stop: int, spacing_mm: float) -> None:
    """Complete the evidence of neighbours that both have gray matter; `slices` changes in place.

    Args:
        slices: from the inferior end, examined up to `stop`, and compared up to `start`.
        start: first slice that has not been compared with the one below it.
        stop: one past the last such slice.
        spacing_mm: pixel spacing of the grid that the slices share.
    """
    for k in range(max(start, 1), stop):
        lower, upper = slices[k - 1], slices[k]
        if lower.pixels is not None and upper.pixels is not None:
            step = upper.pixels.mean(axis=0) - lower.pixels.mean(axis=0)
            found = {
                "likeness": _likeness(lower.pixels, upper.pixels),
                "jump": abs(math.log(upper.area_mm2 / lower.area_mm2)),
                "step_mm": float(np.linalg.norm(step)) * spacing_mm,
            }
            slices[k] = _better(upper, **found)
            lower = _better(lower, **found)
        # Nothing asks for them again, and a long volume has many.
        slices[k - 1] = replace(lower, pixels=None)


def noise_level(image: np.ndarray, region: Region, spacing_mm: tuple[float, float]) -> float:
    """Standard deviation of the noise around the gray matter, whatever smooth structure there is.

    From the median absolute second difference along both axes, which edges hardly touch.

    Args:
        image: (right-left, anterior-posterior) as acquired.
        region: the part of it that the gray matter takes.
        spacing_mm: of the voxels, in the order of the axes.

    Returns:
        In the unit of the image; NaN for an empty region.
    """
    if any(along.start == along.stop for along in region):
        return math.nan
    margins = (round(NOISE_MARGIN_MM / mm) for mm in spacing_mm)
    rows, columns = (
        slice(max(along.start - margin, 0), along.stop + margin)
        for along, margin in zip(region, margins, strict=True)
    )
    values = image[rows, columns]
    step = math.ceil(values.size / NOISE_VOXELS)
    differences = []
    for along, mm in zip((values[:, ::step], values[::step].T), spacing_mm, strict=True):
        lag = max(1, round(NOISE_LAG_MM / mm))
        if len(along) > 2 * lag:
            lines = along.astype(np.float64)
            difference = lines[lag:-lag] - (lines[: -2 * lag] + lines[2 * lag :]) / 2
            differences.append(np.abs(difference).ravel("K"))
    if not differences:
        return math.nan
    median = np.median(np.concatenate(differences))
    # Of a normal distribution, the median absolute value is 0.6745 sigma; the difference has 1.5 times the
    # variance of a voxel.
    return float(median / 0.6745 / math.sqrt(1.5))


def predicted_dsc(evidence: SliceEvidence) -> float:
    """Dice coefficient to be expected of a slice with gray matter, between 0 and 1."""
    return 1 / (1 + math.exp(-INTERCEPT - sum(_contributions(evidence).values())))


def judge(slices: Sequence[SliceEvidence]) -> Quality:
    """Verdicts on all slices of a volume and on the volume.

    Two kinds of slice are never passed, whatever else speaks for them, and their predicted Dice coefficient
    is at most `FAIL_DSC`: gray matter near an edge, behind which there may be more of it, and gray matter
    darker than its rim, which the networks for T2*-weighted images do not know.

    Args:
        slices: from the inferior end, already compared with their neighbours.
    """
    present = [k for k, evidence in enumerate(slices) if evidence.area_mm2]
    if not present:
        return Quality(0.0, "fail", math.nan, math.nan, tuple(_without(one, "fail") for one in slices))
    judged = [
        _judge_slice(evidence)
        if evidence.area_mm2
        # Nothing tells whether a slice at the end of a volume should have gray matter.
        else _without(evidence, "fail" if present[0] < k < present[-1] else "review")
        for k, evidence in enumerate(slices)
    ]
    between = judged[present[0] : present[-1] + 1]
    mean = float(np.nan_to_num([one.predicted_dsc for one in between]).mean())
    verdict = _verdict(mean)
    if verdict == "pass" and any(one.verdict == "fail" for one in between):
        verdict = "review"
    areas_mm2 = np.array([slices[k].area_mm2 for k in present])
    contrast, noise = (
        _weighted_mean(np.array([getattr(slices[k], name) for k in present]), areas_mm2)
        for name in ("contrast", "noise")
    )
    return Quality(mean, verdict, contrast, noise, tuple(judged))


def _judge_slice(evidence: SliceEvidence) -> SliceQuality:
    score = predicted_dsc(evidence)
    contributions = _contributions(evidence)
    reason = TERMS[min(contributions, key=contributions.__getitem__)][2]
    if evidence.near_edge or evidence.contrast < 0:
        score = min(score, FAIL_DSC)
        reason = TERMS["near_edge"][2] if evidence.near_edge else "gray matter darker than its surroundings"
    verdict = _verdict(score)
    return SliceQuality(score, verdict, "" if verdict == "pass" else reason, evidence)


def _without(evidence: SliceEvidence, verdict: Verdict) -> SliceQuality:
    return SliceQuality(math.nan, verdict, "no gray matter", evidence)


def _verdict(score: float) -> Verdict:
    if score >= PASS_DSC:
        return "pass"
    return "review" if score >= FAIL_DSC else "fail"


def _contributions(evidence: SliceEvidence) -> dict[str, float]:
    """What every figure adds to the logit, 0 for one that is as in a good slice or not known."""
    features = evidence.features
    return {
        name: 0.0 if math.isnan(features[name]) else weight * (features[name] - typical)
        for name, (typical, weight, _) in TERMS.items()
    }


def _better(evidence: SliceEvidence, likeness: float, jump: float, step_mm: float) -> SliceEvidence:
    return replace(
        evidence,
        likeness=float(np.fmax(evidence.likeness, likeness)),
        jump=float(np.fmin(evidence.jump, jump)),
        step_mm=float(np.fmin(evidence.step_mm, step_mm)),
    )


def _likeness(one: np.ndarray, other: np.ndarray) -> float:
    points = [np.rint(pixels - pixels.mean(axis=0)).astype(int) for pixels in (one, other)]
    reach = max(int(np.abs(part).max()) for part in points)
    masks = np.zeros((2, 2 * reach + 1, 2 * reach + 1), bool)
    for mask, part in zip(masks, points, strict=True):
        mask[part[:, 0] + reach, part[:, 1] + reach] = True
    return 2 * float(np.count_nonzero(masks[0] & masks[1])) / (len(one) + len(other))


def _weighted_mean(values: np.ndarray, weights: np.ndarray) -> float:
    known = np.isfinite(values)
    return float(np.average(values[known], weights=weights[known])) if known.any() else math.nan
