"""The ten metrics of the Spinal Cord Gray Matter Challenge (Table 2) and the seven of Table 3, of a pair of masks.

The definitions of the distances of the challenge were not available, so these are choices of this package: HSD and
MSD between 3-D contours, SHD and SMD between the skeletons of slices as the Spinal Cord Toolbox measures them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from keras_scgm import checks
from keras_scgm.errors import InputError
from keras_scgm.evaluation.overlap import Counts, overlap_metrics, table3_metrics
from keras_scgm.evaluation.skeleton import slice_skeletons
from keras_scgm.evaluation.summary import Summary
from keras_scgm.evaluation.surface import DirectedDistances, contour
from keras_scgm.volume import bounding_box

CHALLENGE_METRICS = ("DSC", "MSD", "HSD", "SHD", "SMD", "TPR", "TNR", "PPV", "JI", "CC")
"""In the order of Table 2."""

FCN_METRICS = ("dice", "mean_accuracy", "pixel_accuracy", "recall", "precision", "fw_iu", "mean_iu")
"""In the order of Table 3."""

LOWER_IS_BETTER = ("MSD", "HSD", "SHD", "SMD")

COUNTS = ("TP", "FP", "FN", "TN")
SLICE_COLUMNS = (
    "slice_from_inferior",
    *CHALLENGE_METRICS,
    *FCN_METRICS,
    *COUNTS,
    "area_prediction_mm2",
    "area_reference_mm2",
)
"""Measurements of a slice; HSD and MSD are those of its outlines in the plane."""


class MeasuredMask:
    """A mask with its contours and skeletons, computed at first use, for comparisons with other masks.

    Args:
        voxels: Boolean or 0 and 1, (rows, columns, slice), or (rows, columns) for a single slice whose
            contour is its outline in the plane.
        spacing_mm: Voxel spacing, one number per axis of `voxels`.

    Raises:
        InputError: another shape, values other than 0 and 1, or spacing that is not positive.
    """

    def __init__(self, voxels: np.ndarray, spacing_mm: Sequence[float]) -> None:
        voxels = _as_mask(voxels)
        if voxels.ndim not in (2, 3) or not voxels.size:
            raise InputError(f"a mask must have 2 or 3 axes and some voxels, received shape {voxels.shape}")
        wanted = f"{voxels.ndim} positive numbers in the order of the axes"
        positive = checks.several(checks.number(above=0), wanted, length=voxels.ndim)
        self.spacing_mm = np.array(positive("spacing_mm", spacing_mm), float)
        self._is_3d = voxels.ndim == 3
        self.voxels = voxels if self._is_3d else voxels[:, :, np.newaxis]

    @cached_property
    def box(self) -> tuple[slice, ...]:
        """Bounding box of the mask, (rows, columns, slice); of size 0 for an empty mask."""
        return bounding_box(self.voxels)

    @cached_property
    def contour_points(self) -> np.ndarray:
        """Centres of the contour's voxels (point, axis) in mm; of the slices' outlines for a 2-D mask."""
        if not self._is_3d:
            return self.slice_contours[0]
        return self._points(contour(self.voxels[self.box]), [part.start for part in self.box])

    @cached_property
    def slice_contours(self) -> list[np.ndarray]:
        """Centres of the pixels on the outline of each slice (point, 2) in mm."""
        rows, columns, _ = self.box
        return [
            self._points(contour(self.voxels[rows, columns, k]), [rows.start, columns.start])
            for k in range(self.voxels.shape[2])
        ]

    @cached_property
    def slice_skeletons(self) -> list[np.ndarray]:
        """Skeleton of each slice, see `slice_skeletons`."""
        return slice_skeletons(self.voxels, (float(self.spacing_mm[0]), float(self.spacing_mm[1])))

    def only(self, slices: np.ndarray) -> MeasuredMask:
        """The mask with all slices emptied that are False in `slices`, bool (slice,)."""
        if slices.all():
            return self
        voxels = self.voxels & slices
        return MeasuredMask(voxels if self._is_3d else voxels[:, :, 0], self.spacing_mm.tolist())

    def _points(self, mask: np.ndarray, start: Sequence[int]) -> np.ndarray:
        return (np.argwhere(mask) + start) * self.spacing_mm[: mask.ndim]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Counts and distances of a prediction and a reference, from which all metrics are computed.

    Args:
        slice_counts: Voxels of each slice, over the whole field.
        surface: Distances between the contours in 3-D.
        slice_surfaces: Distances between the outlines of each slice, in the plane.
        slice_skeletons: Distances between the skeletons of each slice, in the plane.
        compared: Bool (slice,), from the inferior end; the other attributes hold only these slices.
        voxel_mm: Edge lengths of a voxel.
    """

    slice_counts: Counts
    surface: DirectedDistances
    slice_surfaces: tuple[DirectedDistances, ...]
    slice_skeletons: tuple[DirectedDistances, ...]
    compared: np.ndarray
    voxel_mm: tuple[float, ...]

    @classmethod
    def of(
        cls, prediction: MeasuredMask, reference: MeasuredMask, compared: np.ndarray | None = None
    ) -> Comparison:
        """Compare two masks on the same grid.

        Args:
            prediction: Over the whole field of view.
            reference: Likewise.
            compared: Bool (slice,), the slices that count; None takes all.

        Raises:
            InputError: the grids differ.
        """
        _check_equal("shape", prediction.voxels.shape, reference.voxels.shape)
        _check_equal("spacing in mm", prediction.spacing_mm, reference.spacing_mm)

        if compared is None:
            compared = np.ones(reference.voxels.shape[2], bool)
        prediction, reference = prediction.only(compared), reference.only(compared)
        slices = np.flatnonzero(compared)

        def of_slices(found: list[np.ndarray], wanted: list[np.ndarray]) -> tuple[DirectedDistances, ...]:
            return tuple(DirectedDistances.between(found[k], wanted[k]) for k in slices)

        return cls(
            slice_counts=Counts.of_slices(prediction.voxels[..., slices], reference.voxels[..., slices]),
            surface=DirectedDistances.between(prediction.contour_points, reference.contour_points),
            slice_surfaces=of_slices(prediction.slice_contours, reference.slice_contours),
            slice_skeletons=of_slices(prediction.slice_skeletons, reference.slice_skeletons),
            compared=compared,
            voxel_mm=tuple(map(float, reference.spacing_mm)),
        )

    def challenge_metrics(self) -> dict[str, float]:
        """The ten of Table 2; see the function of this name."""
        values = overlap_metrics(self.slice_counts.total) | {
            "MSD": self.surface.mean,
            "HSD": self.surface.maximum,
            "SHD": Summary.of([distances.maximum for distances in self.slice_skeletons]).mean,
            "SMD": Summary.of([distances.larger_median for distances in self.slice_skeletons]).mean,
        }
        return {name: float(values[name]) for name in CHALLENGE_METRICS}

    def fcn_metrics(self) -> dict[str, float]:
        """The seven of Table 3 over all voxels; see the function of this name."""
        return {name: float(value) for name, value in table3_metrics(self.slice_counts.total).items()}

    def details(self) -> dict[str, float]:
        """Measurements from which metrics of other conventions can be derived.

        Returns:
            The counts TP, FP, FN and TN; HSD_2d and MSD_2d, the means over slices of the distances between
            outlines in the plane; the directed means and maxima of the 3-D contours; the slices compared and
            left out, those with gray matter in either mask, and those of them in which only one mask has
            something (surface) or either skeleton vanished (skeleton), which the means over slices leave out;
            volumes of both in mm3, and mean areas in mm2 over the slices in which each has something.
        """
        slice_counts, counts = self.slice_counts, self.slice_counts.total
        mean_to_reference, mean_to_prediction = self.surface.directed_means
        max_to_reference, max_to_prediction = self.surface.directed_maxima
        area_prediction_mm2, area_reference_mm2 = (
            Summary.of(areas_mm2[areas_mm2 > 0]).mean for areas_mm2 in self.areas_mm2.T
        )
        filled = np.asarray(slice_counts.TP + slice_counts.FP + slice_counts.FN > 0)
        return {
            **asdict(counts),
            "HSD_2d": Summary.of([distances.maximum for distances in self.slice_surfaces]).mean,
            "MSD_2d": Summary.of([distances.mean for distances in self.slice_surfaces]).mean,
            "MSD_prediction_to_reference": mean_to_reference,
            "MSD_reference_to_prediction": mean_to_prediction,
            "HSD_prediction_to_reference": max_to_reference,
            "HSD_reference_to_prediction": max_to_prediction,
            "n_slices_compared": int(self.compared.sum()),
            "n_slices_left_out": int((~self.compared).sum()),
            "n_slices": int(filled.sum()),
            "n_slices_without_surface_distance": _n_undefined(filled, self.slice_surfaces),
            "n_slices_without_skeleton_distance": _n_undefined(filled, self.slice_skeletons),
            "volume_prediction_mm3": (counts.TP + counts.FP) * math.prod(self.voxel_mm),
            "volume_reference_mm3": (counts.TP + counts.FN) * math.prod(self.voxel_mm),
            "mean_area_prediction_mm2": area_prediction_mm2,
            "mean_area_reference_mm2": area_reference_mm2,
        }

    @property
    def areas_mm2(self) -> np.ndarray:
        """(slice, 2): areas of prediction and reference."""
        counts = self.slice_counts
        n_voxels = np.stack([counts.TP + counts.FP, counts.TP + counts.FN], axis=1)
        return n_voxels * math.prod(self.voxel_mm[:2])

    def slices(self) -> list[dict[str, float]]:
        """The `SLICE_COLUMNS` of each slice compared, from the inferior end."""
        counts = self.slice_counts
        columns: dict[str, Any] = {
            "slice_from_inferior": np.flatnonzero(self.compared),
            **overlap_metrics(counts),
            **table3_metrics(counts),
            **asdict(counts),
            "area_prediction_mm2": self.areas_mm2[:, 0],
            "area_reference_mm2": self.areas_mm2[:, 1],
            "MSD": [distances.mean for distances in self.slice_surfaces],
            "HSD": [distances.maximum for distances in self.slice_surfaces],
            "SHD": [distances.maximum for distances in self.slice_skeletons],
            "SMD": [distances.larger_median for distances in self.slice_skeletons],
        }
        return [
            {name: float(columns[name][k]) for name in SLICE_COLUMNS}
            | {name: int(columns[name][k]) for name in ("slice_from_inferior", *COUNTS)}
            for k in range(len(self.slice_surfaces))
        ]


def challenge_metrics(
    prediction: np.ndarray, reference: np.ndarray, spacing_mm: Sequence[float]
) -> dict[str, float]:
    """The ten metrics of Table 2 for a prediction against one rater's mask.

    Args:
        prediction: Boolean (rows, columns, slice), over the whole field of view, which TNR depends on.
        reference: Boolean, same shape.
        spacing_mm: Voxel spacing in the order of the axes.

    Returns:
        DSC and JI (fractions); TPR, TNR, PPV and CC (percent, CC may be negative); in mm HSD and MSD (largest
        and mean distance between the 3-D contours, both directions pooled), SHD and SMD (largest, and larger
        directed median non-zero, distance between the skeletons of a slice at 0.1 mm, mean over slices). What
        is undefined, such as a distance from an empty mask, is NaN.

    Raises:
        InputError: shapes differ, values other than 0 and 1, or spacing that is not positive.

    Example:

    >>> import numpy as np
    >>> prediction, reference = np.zeros((2, 12, 12, 3), bool)
    >>> prediction[2:7, 2:7], reference[3:8, 2:7] = True, True
    >>> values = challenge_metrics(prediction, reference, spacing_mm=(0.5, 0.5, 5.0))
    >>> round(values["DSC"], 6), round(values["HSD"], 6)
    (0.8, 0.5)
    """
    return Comparison.of(
        MeasuredMask(prediction, spacing_mm), MeasuredMask(reference, spacing_mm)
    ).challenge_metrics()


def fcn_metrics(prediction: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """The metrics of Table 3, of a slice or of all voxels of a volume together.

    The paper gives the mean over slices: measure slice by slice for that.

    Args:
        prediction: Boolean, any shape.
        reference: Boolean, same shape.

    Returns:
        dice, mean_accuracy, pixel_accuracy, recall, precision, fw_iu (frequency weighted intersection over
        union) and mean_iu, as fractions; NaN where undefined.

    Raises:
        InputError: shapes differ, or values other than 0 and 1.
    """
    found, wanted = _as_mask(prediction), _as_mask(reference)
    _check_equal("shape", found.shape, wanted.shape)
    counts = Counts.of_slices(found.reshape(-1, 1), wanted.reshape(-1, 1)).total
    return {name: float(value) for name, value in table3_metrics(counts).items()}


def _as_mask(voxels: np.ndarray) -> np.ndarray:
    voxels = np.asarray(voxels)
    if voxels.dtype == bool:
        return voxels
    if voxels.dtype.kind not in "iuf" or not np.isin(voxels, (0, 1)).all():
        raise InputError("a mask must hold 0 and 1 only")
    return voxels == 1


def _check_equal(
    what: str, prediction: Sequence[float] | np.ndarray, reference: Sequence[float] | np.ndarray
) -> None:
    if len(prediction) != len(reference) or not np.allclose(prediction, reference, rtol=1e-4):
        raise InputError(
            f"prediction and reference must have the same {what}, received {prediction} and {reference}"
        )


def _n_undefined(filled: np.ndarray, distances: tuple[DirectedDistances, ...]) -> int:
    return sum(bool(some) and not pair.is_defined for some, pair in zip(filled, distances, strict=True))
