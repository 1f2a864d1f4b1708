"""The Dice coefficient that is predicted from the features of a slice: an additive logistic model.

It was fitted on synthetic subjects, sound images and damaged ones, once for networks that segment gray matter alone
and once for those that segment the cord, too; `benchmarks/quality.py` fits `model.json` or `model_with_cord.json` and
tests it on cases that were not used for the fit.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np

from keras_scgm.predict import UnknownContrast
from keras_scgm.quality.features import SliceFeatures

REASONS = {
    "agreement": "the outline is uncertain",
    "detached_fraction": "gray matter in several pieces",
    "removed_mm2": "gray matter was found away from the cord",
    "area_mm2": "unusual area",
    "width_mm": "unusual width",
    "depth_mm": "unusual depth from front to back",
    "compactness": "unusual shape",
    "symmetry": "left and right differ",
    "separation": "gray and white matter are hardly told apart",
    "contrast_to_noise": "low contrast to noise",
    "sharpness": "blurred outline",
    "voxel_mm": "coarse voxels",
    "neighbour_dice": "unlike its neighbours",
    "log_area_ratio": "the area jumps",
    "centroid_shift_mm": "its place jumps",
    "volume_separation": "gray and white matter are hardly told apart in the volume",
    "volume_sharpness": "the volume is blurred",
    "volume_neighbour_dice": "slices of the volume are unlike each other",
    "volume_agreement": "outlines in the volume are uncertain",
}
"""Feature -> message if it lowers the predicted Dice coefficient; features of the volume are medians of its slices."""

CORD_REASONS = {
    "cord_area_mm2": "unusual area of the cord",
    "cord_agreement": "the outline of the cord is uncertain",
    "cord_aspect": "unusual shape of the cord",
    "gm_cord_ratio": "unusual share of gray matter in the cord",
    "cord_offset": "gray matter beside the centre of the cord",
    "cord_balance": "more gray matter on one side of the cord",
    "volume_cord_agreement": "outlines of the cord in the volume are uncertain",
}
"""Likewise, for networks that segment the cord."""

MODEL_FILES = {False: "model.json", True: "model_with_cord.json"}
"""Whether the network segments the cord -> file of the model."""


def model_inputs(
    slices: Sequence[SliceFeatures], unknown_contrast: UnknownContrast = -1
) -> list[dict[str, float]]:
    """Inputs of the additive models for every slice, NaN where unknown.

    Args:
        slices: All slices of a volume, compared with their neighbours.
        unknown_contrast: Contrast that the network was not trained for. Unless it is that of dark gray matter, dark
            counts like bright.
    """
    names = [*REASONS, *CORD_REASONS]
    inputs = []
    for one in slices:
        separation, ratio = one.separation, one.contrast_to_noise
        if unknown_contrast != -1 and one.contrast < 0:
            separation, ratio = 1 - separation, -ratio
        read = {name: float(getattr(one, name)) for name in names if not name.startswith("volume_")}
        inputs.append(read | {"separation": separation, "contrast_to_noise": ratio})
    present = [read for read, one in zip(inputs, slices, strict=True) if one.area_mm2]
    of_volume = {
        name: _median_of_known([read[name.removeprefix("volume_")] for read in present])
        for name in names
        if name.startswith("volume_")
    }
    return [read | of_volume for read in inputs]


@dataclass(frozen=True)
class AdditiveModel:
    """Logit of the Dice coefficient as a sum of piecewise linear functions, one of each feature.

    Args:
        intercept: Logit of a slice whose features are those of sound images.
        terms: Feature -> knots and the function's values there, 0 on average in sound images; constant beyond
            the first and the last knot.
    """

    intercept: float
    terms: dict[str, tuple[list[float], list[float]]]

    def contributions(self, inputs: dict[str, float]) -> dict[str, float]:
        """Contribution of each feature to the logit, 0 for an unknown one."""
        return {
            name: 0.0 if math.isnan(inputs[name]) else float(np.interp(inputs[name], knots, values))
            for name, (knots, values) in self.terms.items()
        }

    def dsc(self, contributions: dict[str, float]) -> float:
        return 1 / (1 + math.exp(-self.intercept - sum(contributions.values())))


@cache
def fitted_model(with_cord: bool) -> AdditiveModel:
    """The model that `benchmarks/quality.py --fit` wrote.

    Args:
        with_cord: Whether the network segments the cord.
    """
    content = json.loads(
        files("keras_scgm.quality").joinpath(MODEL_FILES[with_cord]).read_text(encoding="utf-8")
    )
    return AdditiveModel(
        content["intercept"],
        {name: (term["knots"], term["values"]) for name, term in content["terms"].items()},
    )


def _median_of_known(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.median(known)) if known else math.nan
