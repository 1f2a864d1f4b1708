"""Measurements of one segmented slice."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class SliceArea:
    """Gray matter of one axial slice, as segmented.

    Args:
        slice: index along the axial axis of the file, from 0.
        position_mm: distance of the slice from the most inferior one, along the slice normal.
        area_mm2: voxels of the mask times the voxel's area in the axial plane.
        soft_area_mm2: sum of the probabilities times the voxel's area.
        n_voxels: voxels of the mask.
        mean_probability: over the mask's voxels, NaN without any.
        warning: reason of a verdict other than "pass", empty if none.
        contrast: brightness of the gray matter minus that of its rim, in the image's own unit; NaN without
            gray matter.
        noise: standard deviation of the noise around the gray matter, in the same unit.
        predicted_dsc: what agreement with a reference is to be expected (`keras_scgm.quality`); NaN without
            gray matter.
        verdict: "pass", "review" or "fail".
        area_sd_mm2: standard deviation (n - 1) of the soft area over the passes of `keras_scgm.uncertainty`;
            NaN without passes.
        uncertainty: sum of the slice's uncertainty map divided by that of its probabilities, 0 where all passes
            agree; NaN without passes or gray matter.
    """

    slice: int
    position_mm: float
    area_mm2: float
    soft_area_mm2: float
    n_voxels: int
    mean_probability: float
    warning: str
    contrast: float = math.nan
    noise: float = math.nan
    predicted_dsc: float = math.nan
    verdict: str = ""
    area_sd_mm2: float = math.nan
    uncertainty: float = math.nan

    @property
    def equivalent_diameter_mm(self) -> float:
        """Diameter of the circle with the same area."""
        return 2 * math.sqrt(self.area_mm2 / math.pi)
