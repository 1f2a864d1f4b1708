"""Verdicts on slices and volumes, with their reasons: from the predicted Dice coefficients and from anatomy."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, get_args

import numpy as np

from keras_scgm import messages
from keras_scgm.predict import UnknownContrast
from keras_scgm.quality.features import SliceFeatures
from keras_scgm.quality.model import CORD_REASONS, REASONS, fitted_model, model_inputs

Verdict = Literal["pass", "review", "fail"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)

PASS_DSC, FAIL_DSC = 0.85, 0.6
"""Predicted Dice coefficient from which a slice or volume passes, and below which it fails."""

UNKNOWN_CONTRAST_DSC = 0.3
"""Upper limit of the prediction for a slice with a contrast for which the network was not trained."""

DSC_DIGITS = 9
"""Decimal places of a volume's predicted Dice coefficient: its slices often have the same bound, where rounding errors
of their mean must not choose."""

MIN_AREA_MM2, MAX_AREA_MM2 = 3.5, 24.0
"""Area of the gray matter in section that anatomy allows as the median of a volume: 5 mm2 at mid-thoracic levels, up to
23 mm2 at the cervical and lumbar enlargements of large cords."""
MAX_AREA_IN_CORD_MM2 = 30.0
"""The upper limit if the network segments the cord, whose own area tells a wrong voxel spacing, so that the lumbar
enlargement of a large cord may have more."""
MAX_WIDTH_MM = 11.8
"""Likewise for `SliceFeatures.width_mm`, which is 9 to 11 mm at the cervical enlargement."""
MAX_DEPTH_SKEWNESS = 0.1
"""Likewise for `SliceFeatures.depth_skewness`: the ventral horns are broad and the dorsal horns thin, so that it is
-1 to -0.1 at cervical and thoracic levels, and positive in an image turned over; at lumbar levels, where it is -0.5
to 0, not every image turned over is noticed."""

MIN_CORD_MM2, MAX_CORD_MM2 = 25.0, 130.0
"""Area of the cord in section that anatomy allows as the median of a volume: some 40 mm2 at mid-thoracic and low lumbar
levels, 60 to 100 mm2 at the cervical enlargement (transverse times sagittal diameter at C5 13.3 x 7.4 mm, at T8
8.3 x 6.3 mm: Frostell et al., Frontiers in Neurology 2016), less in atrophy."""
MIN_CORD_ASPECT, MAX_CORD_ASPECT = 0.85, 2.2
"""Likewise for `SliceFeatures.cord_aspect`: 1.3 at mid-thoracic levels, 1.85 at C6 (same source)."""
MIN_CORD_SHARE, MAX_CORD_SHARE = 0.08, 0.45
"""Likewise for `SliceFeatures.gm_cord_ratio`: 0.14 to 0.17 from C1 to C7 in the average of 72 people at 7 T (template
AMU7T, Taso et al., NeuroImage 2015), 0.13 to 0.22 in single slices of manual labels, 0.1 to 0.2 at mid-thoracic levels,
and up to 0.4 in the conus."""
MAX_CORD_OFFSET = 0.3
"""Likewise for `SliceFeatures.cord_offset`, which is below 0.2 in manual labels and in the drawn anatomy."""
MIN_CORD_AGREEMENT = 0.95
"""`SliceFeatures.cord_agreement` below which, as the median of a volume, its cord is doubted. Of 287 drawn volumes,
most of them damaged (`benchmarks/quality.py`), 161 of the 184 whose cord has a DSC below 0.9 are below it, and 18 of
the others."""
MIN_SEEN_SHARE = 0.5
"""Share of the slices with a cord in which gray matter should be found: images that do not show it have some by chance,
and at the ends of the cord it may be missing."""

NEAR_EDGE = "gray matter near the edge of the window or the field of view"
UNKNOWN_CONTRAST = {
    -1: "gray matter darker than its surroundings, a contrast that these weights do not know",
    1: "gray matter brighter than its surroundings, a contrast that these weights do not know",
}
"""Reason by the sign of the contrast, as in `UnknownContrast`."""
NOTHING = "no gray matter"
NOTHING_FOUND = "no gray matter was found"
CORD_NEAR_EDGE = "the cord near the edge of the window or the field of view"
CORD_ALONE = "the cord, but no gray matter in it"
NO_CORD = "no cord"
CORD_ALONE_FOUND = "no gray matter was found in what is marked as cord"
OF_VOLUME = "a doubt about the whole volume"
EXCHANGED = (
    "anterior and posterior seem to be exchanged: the broad horns lie behind; check the header's orientation"
)

IMPLAUSIBLE_SIZE = (
    f"gray matter of {{}} mm2 and {{}} mm width (medians): anatomy allows {MIN_AREA_MM2:g} to {{}} mm2 and up to "
    f"{MAX_WIDTH_MM:g} mm; check the voxel spacing"
)
IMPLAUSIBLE_AREA = (
    f"gray matter of {{}} mm2 (median): anatomy allows {MIN_AREA_MM2:g} to {{}} mm2; check the mask and the voxel "
    "spacing"
)
IMPLAUSIBLE_CORD = (
    f"a cord of {{}} mm2, {{}} times as wide as deep (medians): anatomy allows {MIN_CORD_MM2:g} to {MAX_CORD_MM2:g} "
    f"mm2 and {MIN_CORD_ASPECT:g} to {MAX_CORD_ASPECT:g} times; check the voxel spacing"
)
IMPLAUSIBLE_SHARE = (
    f"gray matter takes {{}} % of the cord (median): anatomy allows {100 * MIN_CORD_SHARE:g} to "
    f"{100 * MAX_CORD_SHARE:g} %"
)
UNCERTAIN_CORD = (
    "the outline of the cord is uncertain: mask and probabilities agree by {} (median), where "
    f"{MIN_CORD_AGREEMENT:g} and more is usual; look at it before you use its area"
)
OFF_CENTRE = (
    "gray matter lies {} radii of the cord beside its centre (median): anatomy allows up to "
    f"{MAX_CORD_OFFSET:g}"
)


@dataclass(frozen=True)
class SliceQuality:
    """Quality of one slice.

    Args:
        predicted_dsc: Predicted Dice coefficient between 0 and 1; NaN without gray matter.
        verdict: Whether to use the slice, to review it, or to discard it.
        reason: Main reason for a low predicted Dice coefficient, empty if the slice passes.
        features: Features from which it was predicted.
    """

    predicted_dsc: float
    verdict: Verdict
    reason: str
    features: SliceFeatures


@dataclass(frozen=True)
class Quality:
    """Quality of a volume.

    Args:
        predicted_dsc: Mean over the slices from the first to the last with gray matter, where a slice without it
            counts 0; 0 for an empty mask, NaN for masks that were edited by hand.
        verdict: Verdict on the mean; never "pass" if there is a doubt about the whole volume.
        reason: Reason why it does not pass, empty if it does.
        contrast: Mean contrast of the slices weighted by area, in the unit of the image; NaN for an empty mask.
        noise: Mean noise, weighted in the same way.
        slices: Quality of each slice, from the inferior end.
    """

    predicted_dsc: float
    verdict: Verdict
    reason: str
    contrast: float
    noise: float
    slices: tuple[SliceQuality, ...]

    def as_record(self, stored_index: Callable[[int], int]) -> dict[str, Any]:
        """Ready for JSON, which has no NaN.

        Args:
            stored_index: index in the file of the k-th slice from the inferior end.
        """
        of_verdict: dict[str, list[int]] = {verdict: [] for verdict in VERDICTS}
        of_reason: dict[str, list[int]] = {}
        for index, one in sorted(
            ((stored_index(k), one) for k, one in enumerate(self.slices)), key=lambda pair: pair[0]
        ):
            of_verdict[one.verdict].append(index)
            if one.reason:
                of_reason.setdefault(one.reason, []).append(index)
        return {
            "verdict": self.verdict,
            "predicted_dsc": _known(self.predicted_dsc),
            "reason": self.reason,
            "contrast": _known(self.contrast),
            "noise": _known(self.noise),
            "slices": of_verdict,
            "reasons": of_reason,
        }


def predict_quality(
    slices: Sequence[SliceFeatures], doubts: Sequence[str] = (), unknown_contrast: UnknownContrast = -1
) -> Quality:
    """Verdicts on all slices of a volume and on the volume.

    Some slices never pass: gray matter or a cord near an edge, which may be cut off, and gray matter of a
    contrast to its rim that the network was not trained for.

    Args:
        slices: Features from the inferior end, already compared with those of the neighbours.
        doubts: Doubts about the whole volume, which then never passes, nor does any of its slices.
        unknown_contrast: As in `model_inputs`.
    """
    present = [k for k, one in enumerate(slices) if one.area_mm2]
    if not present:
        empty = tuple(SliceQuality(math.nan, "fail", _reason_of_absence(one), one) for one in slices)
        reason = CORD_ALONE_FOUND if any(one.has_cord for one in slices) else NOTHING_FOUND
        return Quality(0.0, "fail", reason, math.nan, math.nan, empty)
    predicted = []
    for k, (one, inputs) in enumerate(zip(slices, model_inputs(slices, unknown_contrast), strict=True)):
        if one.area_mm2:
            predicted.append(_predict_slice(one, inputs, unknown_contrast))
        else:
            # Nothing tells whether a slice at the end of a volume should have gray matter.
            is_between = present[0] < k < present[-1]
            verdict: Verdict = "fail" if is_between else "review"
            predicted.append(SliceQuality(math.nan, verdict, _reason_of_absence(one), one))
    between = predicted[present[0] : present[-1] + 1]
    mean = round(float(np.nan_to_num([one.predicted_dsc for one in between]).mean()), DSC_DIGITS)
    verdict, reason = _verdict(mean), ""
    if verdict == "pass" and doubts:
        verdict, reason = "review", doubts[0]
    elif verdict != "pass":
        reason = Counter(one.reason for one in between if one.reason).most_common(1)[0][0]
    areas_mm2 = np.array([slices[k].area_mm2 for k in present])
    contrast, noise = (
        _weighted_mean(np.array([getattr(slices[k], name) for k in present]), areas_mm2)
        for name in ("contrast", "noise")
    )
    if doubts:
        predicted = [
            replace(one, verdict="review", reason=OF_VOLUME) if one.verdict == "pass" else one
            for one in predicted
        ]
    return Quality(mean, verdict, reason, contrast, noise, tuple(predicted))


def anatomical_doubts(slices: Sequence[SliceFeatures]) -> list[str]:
    """Measurements of a volume outside the limits of anatomy, one line each."""
    return [*_doubts_about_gray_matter(slices), *_doubts_about_cord(slices), *_uncertain_cord(slices)]


def _doubts_about_gray_matter(slices: Sequence[SliceFeatures]) -> list[str]:
    present = [one for one in slices if one.area_mm2]
    if not present:
        return []
    area_mm2, width_mm, skewness = (
        _median(present, name) for name in ("area_mm2", "width_mm", "depth_skewness")
    )
    max_area_mm2 = MAX_AREA_IN_CORD_MM2 if present[0].knows_cord else MAX_AREA_MM2
    doubts = []
    if not MIN_AREA_MM2 <= area_mm2 <= max_area_mm2 or width_mm > MAX_WIDTH_MM:
        doubts.append(IMPLAUSIBLE_SIZE.format(f"{area_mm2:.1f}", f"{width_mm:.1f}", f"{max_area_mm2:g}"))
    if skewness > MAX_DEPTH_SKEWNESS:
        doubts.append(EXCHANGED)
    return doubts


def _doubts_about_cord(slices: Sequence[SliceFeatures]) -> list[str]:
    in_cord = [one for one in slices if one.area_mm2 and one.has_cord]
    if not in_cord:
        return []
    names = ("cord_area_mm2", "cord_aspect", "gm_cord_ratio", "cord_offset")
    doubts = cord_doubts(*(_median(in_cord, name) for name in names))
    return doubts + rare_gray_matter(len(in_cord), sum(one.has_cord for one in slices))


def _uncertain_cord(slices: Sequence[SliceFeatures]) -> list[str]:
    """A doubt about the cord itself, also where no gray matter was found in it."""
    with_cord = [one for one in slices if one.has_cord]
    if not with_cord:
        return []
    agreement = _median(with_cord, "cord_agreement")
    return [UNCERTAIN_CORD.format(f"{agreement:.2f}")] if agreement < MIN_CORD_AGREEMENT else []


def cord_doubts(area_mm2: float, aspect: float, share: float, offset: float = 0.0) -> list[str]:
    """Medians of a cord and the gray matter in it outside the limits of anatomy, one line each.

    Args:
        area_mm2: Cord.
        aspect: Width divided by depth.
        share: Gray matter divided by cord; NaN if it is not known.
        offset: See `SliceFeatures.cord_offset`.
    """
    doubts = []
    if not MIN_CORD_MM2 <= area_mm2 <= MAX_CORD_MM2 or not MIN_CORD_ASPECT <= aspect <= MAX_CORD_ASPECT:
        doubts.append(IMPLAUSIBLE_CORD.format(f"{area_mm2:.1f}", f"{aspect:.2f}"))
    if share < MIN_CORD_SHARE or share > MAX_CORD_SHARE:
        doubts.append(IMPLAUSIBLE_SHARE.format(f"{100 * share:.1f}"))
    if offset > MAX_CORD_OFFSET:
        doubts.append(OFF_CENTRE.format(f"{offset:.2f}"))
    return doubts


class MeasuredSlice(Protocol):
    """Gray matter and cord of a slice, as `keras_scgm.morphometry` measures them; NaN if they are not known."""

    @property
    def area_mm2(self) -> float:
        """Gray matter."""

    @property
    def cord_area_mm2(self) -> float: ...

    @property
    def cord_aspect(self) -> float:
        """Width divided by depth."""

    @property
    def gm_cord_ratio(self) -> float: ...


def mask_doubts(slices: Sequence[MeasuredSlice]) -> list[str]:
    """Doubts about masks that are measured without what a network says of them, one line each.

    Slices without gray matter do not count, unless gray matter was not measured at all.
    """
    areas_mm2 = [one.area_mm2 for one in slices if one.area_mm2 > 0]
    in_cord = [
        (one.cord_area_mm2, one.cord_aspect, one.gm_cord_ratio)
        for one in slices
        if one.cord_area_mm2 > 0 and one.area_mm2 != 0
    ]
    doubts = []
    if areas_mm2:
        area_mm2 = float(np.median(areas_mm2))
        max_area_mm2 = MAX_AREA_IN_CORD_MM2 if in_cord else MAX_AREA_MM2
        if not MIN_AREA_MM2 <= area_mm2 <= max_area_mm2:
            doubts.append(IMPLAUSIBLE_AREA.format(f"{area_mm2:.1f}", f"{max_area_mm2:g}"))
    if in_cord:
        doubts += cord_doubts(*np.median(in_cord, axis=0))
    return doubts


def rare_gray_matter(n_slices: int, n_cord: int) -> list[str]:
    """A doubt where few of the slices with a cord have gray matter."""
    is_rare = n_slices < MIN_SEEN_SHARE * n_cord
    return [messages.RARE_GRAY_MATTER.format(n_slices, n_cord)] if is_rare else []


def _median(slices: Sequence[SliceFeatures], name: str) -> float:
    return float(np.median([getattr(one, name) for one in slices]))


def _reason_of_absence(one: SliceFeatures) -> str:
    """Reason of a slice without gray matter."""
    if not one.knows_cord:
        return NOTHING
    return CORD_ALONE if one.has_cord else NO_CORD


def _verdict(score: float) -> Verdict:
    if score >= PASS_DSC:
        return "pass"
    return "review" if score >= FAIL_DSC else "fail"


def _predict_slice(
    one: SliceFeatures, inputs: dict[str, float], unknown_contrast: UnknownContrast
) -> SliceQuality:
    model = fitted_model(one.knows_cord)
    contributions = model.contributions(inputs)
    score = model.dsc(contributions)
    reason = (REASONS | CORD_REASONS)[min(contributions, key=contributions.__getitem__)]
    if one.contrast * unknown_contrast > 0:
        score, reason = min(score, UNKNOWN_CONTRAST_DSC), UNKNOWN_CONTRAST[unknown_contrast]
    elif one.near_edge:
        score, reason = min(score, FAIL_DSC), NEAR_EDGE
    elif one.cord_near_edge:
        score, reason = min(score, FAIL_DSC), CORD_NEAR_EDGE
    verdict = _verdict(score)
    return SliceQuality(score, verdict, "" if verdict == "pass" else reason, one)


def _weighted_mean(values: np.ndarray, weights: np.ndarray) -> float:
    known = np.isfinite(values)
    return float(np.average(values[known], weights=weights[known])) if known.any() else math.nan


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
