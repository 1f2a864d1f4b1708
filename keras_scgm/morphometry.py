"""Cross-sectional areas of the gray matter, slice by slice."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class SliceArea:
    """Gray matter of one axial slice.

    Args:
        slice: index along the axial axis of the file, from 0.
        position_mm: distance of the slice from the most inferior one, along the slice normal.
        area_mm2: voxels of the mask times the voxel's area in the axial plane.
        soft_area_mm2: sum of the probabilities times the voxel's area.
        n_voxels: voxels of the mask.
        mean_probability: over the mask's voxels, NaN without any.
        warning: why this slice may be wrong, empty if nothing speaks against it.
    """

    slice: int
    position_mm: float
    area_mm2: float
    soft_area_mm2: float
    n_voxels: int
    mean_probability: float
    warning: str

    @property
    def equivalent_diameter_mm(self) -> float:
        """Diameter of the circle with the same area."""
        return 2 * math.sqrt(self.area_mm2 / math.pi)
