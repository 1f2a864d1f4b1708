"""Measurements of one segmented slice."""

from __future__ import annotations

import math
from dataclasses import dataclass

from keras_scgm.morphometry.tissue_areas import TissueAreas


@dataclass(frozen=True)
class SliceArea(TissueAreas):
    """Measurements of one segmented axial slice: of the gray matter, and of all tissues as `TissueAreas` has them.

    Args:
        slice: Index along the axial axis of the file, from 0.
        position_mm: Distance of the slice from the most inferior one, along the slice normal.
        area_mm2: Number of voxels of the mask times the area of a voxel in the axial plane.
        soft_area_mm2: Sum of the probabilities times the area of a voxel; this and what else networks say of their own
            masks is NaN for masks that were edited by hand.
        n_voxels: Number of voxels of the mask.
        mean_probability: Mean probability of the voxels of the mask, NaN without any.
        warning: Reason of a verdict other than "pass", empty if none.
        contrast: Brightness of the gray matter minus that of its rim, in the unit of the image; NaN without
            gray matter.
        noise: Standard deviation of the noise around the gray matter, in the same unit.
        predicted_dsc: Predicted Dice coefficient with a reference (`keras_scgm.quality`); NaN without gray
            matter.
        verdict: "pass", "review" or "fail".
        area_sd_mm2: Standard deviation (n - 1) of the soft area over the passes of `keras_scgm.uncertainty`;
            NaN without passes.
        uncertainty: Sum of the slice's uncertainty map divided by that of its probabilities, 0 where all passes
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
