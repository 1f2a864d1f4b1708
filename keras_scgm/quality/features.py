"""Features of the mask of a slice that tell, without a reference, how good it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.ndimage import binary_dilation, binary_erosion, label

from keras_scgm.dice import dice
from keras_scgm.slices import ROUNDING_TOLERANCE, Region

RIM_MM = 1.0
"""Width of the rim around the gray matter whose brightness stands for white matter."""
BORDER_MM = 0.5
"""Width of the strips on both sides of the outline whose difference tells how sharp it is."""

NOISE_LAG_MM = 0.5
"""Distance of the voxels compared for the noise: neighbours in a finer grid are often interpolated."""
NOISE_MARGIN_MM = 5.0
"""How far around the gray matter the noise is measured."""
NOISE_VOXELS = 2**13
"""Lines of so many voxels along each axis are enough for the noise to be within 1.5 %."""

MIN_CONTRAST = 1e-6
"""In standard deviations of the volume: no more is no contrast, and no ratio is formed with it."""


@dataclass(frozen=True)
class SliceFeatures:
    """Features of the mask of one slice that need no reference.

    Args:
        area_mm2: Area of the mask on the network's grid; the other features are NaN where it is 0.
        near_edge: Whether the mask is close to the edge of the window or the field of view.
        agreement: Dice coefficient of the mask with the probabilities, which lie between 0 and 1 where the
            network is unsure, or where mirrored passes or members of an ensemble disagree.
        detached_fraction: Share of the mask outside its largest piece.
        removed_mm2: Area that was removed because it lies away from the cord.
        width_mm: Four standard deviations of the mask's pixels along the axis closest to right-left.
        depth_mm: The same perpendicular to it.
        depth_skewness: Skewness of the mask's pixels from posterior to anterior.
        compactness: 4 pi times the area divided by the squared perimeter, 1 for a disc.
        symmetry: Share of the mask that its left-right mirror image covers.
        contrast: Brightness of the gray matter minus that of its rim, in the unit of the image.
        noise: Standard deviation of the noise around the gray matter, in the unit of the image.
        separation: Probability that a pixel of the gray matter is brighter than one of its rim.
        sharpness: Difference of brightness across the outline, divided by the contrast of gray matter to its rim.
        voxel_mm: Square root of the voxel's area in the axial plane.
        neighbour_dice: Dice coefficient with the mask of a neighbouring slice after both are centred, the larger
            of the two; NaN without neighbours that have gray matter.
        log_area_ratio: Absolute logarithm of the ratio of areas with a neighbour, the smaller of the two.
        centroid_shift_mm: Distance of the centroid from that of a neighbour in the slice plane, the smaller of
            the two.
        cord_area_mm2: Area of the cord on the network's grid, 0 where no cord was found; this and all other features
            of the cord, from `keras_scgm.quality.cord_features`, are NaN if the network does not segment it.
        cord_near_edge: Whether the cord is close to the edge of the window or the field of view.
        cord_agreement: Dice coefficient of the cord's mask with the probabilities in and around it, as `agreement`.
        cord_aspect: Width of the cord divided by its depth, each measured as `width_mm` and `depth_mm`.
        gm_cord_ratio: Area of the gray matter divided by that of the cord.
        cord_offset: Distance of the gray matter's centroid from that of the cord, divided by the radius of a disc
            with the cord's area.
        cord_balance: 1 less the difference between the gray matter on the right and on the left of the cord's
            centroid, as a share of both: 1 if they are equal, 0 if one side has none.
        pixels: (n, 2) pixels of the mask on the resampled grid; None once the next slice has been compared.
    """

    area_mm2: float
    near_edge: bool = False
    agreement: float = math.nan
    detached_fraction: float = math.nan
    removed_mm2: float = 0.0
    width_mm: float = math.nan
    depth_mm: float = math.nan
    depth_skewness: float = math.nan
    compactness: float = math.nan
    symmetry: float = math.nan
    contrast: float = math.nan
    noise: float = math.nan
    separation: float = math.nan
    sharpness: float = math.nan
    voxel_mm: float = math.nan
    neighbour_dice: float = math.nan
    log_area_ratio: float = math.nan
    centroid_shift_mm: float = math.nan
    cord_area_mm2: float = math.nan
    cord_near_edge: bool = False
    cord_agreement: float = math.nan
    cord_aspect: float = math.nan
    gm_cord_ratio: float = math.nan
    cord_offset: float = math.nan
    cord_balance: float = math.nan
    pixels: np.ndarray | None = field(default=None, repr=False, compare=False)

    @property
    def contrast_to_noise(self) -> float:
        return self.contrast / self.noise if self.noise else math.nan

    @property
    def knows_cord(self) -> bool:
        """Whether the network segments the cord, which may not be found in this slice."""
        return not math.isnan(self.cord_area_mm2)

    @property
    def has_cord(self) -> bool:
        return self.cord_area_mm2 > 0


def slice_features(
    image: np.ndarray,
    probabilities: np.ndarray,
    spacing_mm: float,
    *,
    threshold: float = 0.5,
    origin: Sequence[int] = (0, 0),
    unit: float = 1.0,
    near_edge: bool = False,
    noise: float = math.nan,
    voxel_mm: float = math.nan,
    removed_mm2: float = 0.0,
    within: np.ndarray | None = None,
) -> SliceFeatures:
    """Features of one slice, without the comparison with its neighbours.

    Args:
        image: Window of the network, (rows, columns).
        probabilities: Gray matter probabilities in [0, 1], (rows, columns).
        spacing_mm: Pixel spacing of the window, mm.
        threshold: Probability above which a pixel is in the mask.
        origin: First pixel of the window on the grid that all slices share.
        unit: Factor from the brightness of the window to that of the image.
        near_edge: Whether the mask is near an edge.
        noise: Result of `noise_level`.
        voxel_mm: Square root of the area of the image's own voxel.
        removed_mm2: Area of gray matter removed from the slice.
        within: Bool (rows, columns), the cord, which holds the mask; None if the network does not segment it.
    """
    mask = probabilities > threshold
    if within is not None:
        mask &= within
    n = int(np.count_nonzero(mask))
    if not n:
        return SliceFeatures(area_mm2=0.0, removed_mm2=removed_mm2)
    pixels = np.argwhere(mask)
    rim_px, border_px = (max(1, round(mm / spacing_mm)) for mm in (RIM_MM, BORDER_MM))
    box = tuple(
        slice(max(low - rim_px, 0), high + rim_px + 1)
        for low, high in zip(pixels.min(axis=0), pixels.max(axis=0), strict=True)
    )
    gray_matter, crop = mask[box], image[box].astype(np.float64)
    pieces, _ = label(gray_matter, np.ones((3, 3)))
    width_px, depth_px, symmetry = principal_extents(pixels)
    padded = np.pad(gray_matter, 1)
    n_edges = sum(int(np.count_nonzero(np.diff(padded, axis=axis))) for axis in (0, 1))
    # An outline of pixel edges is 4 / pi times as long as the curve that it follows.
    perimeter_px = math.pi / 4 * n_edges
    contrast, separation, sharpness = _brightness(gray_matter, crop, rim_px, border_px)
    return SliceFeatures(
        area_mm2=n * spacing_mm**2,
        near_edge=near_edge,
        agreement=float(
            2 * probabilities[mask].sum(dtype=np.float64) / (probabilities.sum(dtype=np.float64) + n)
        ),
        detached_fraction=1 - float(np.bincount(pieces.ravel())[1:].max()) / n,
        removed_mm2=removed_mm2,
        width_mm=width_px * spacing_mm,
        depth_mm=depth_px * spacing_mm,
        depth_skewness=_skewness(pixels[:, 1]),
        compactness=4 * math.pi * n / perimeter_px**2,
        symmetry=symmetry,
        contrast=unit * contrast,
        noise=noise,
        separation=separation,
        sharpness=sharpness,
        voxel_mm=voxel_mm,
        pixels=pixels + np.array(origin),
    )


def principal_extents(pixels: np.ndarray) -> tuple[float, float, float]:
    """Width and depth of a mask, (n, 2) pixels, and its symmetry, along its own axes."""
    n, sums, mean = len(pixels), pixels.sum(axis=0), pixels.mean(axis=0)
    # Whole numbers, n^2 times the covariances: rounding errors must not choose the axes of a round mask.
    moments = n * (pixels.T @ pixels) - np.outer(sums, sums)
    total, difference, mixed = (
        float(each)
        for each in (moments[0, 0] + moments[1, 1], moments[0, 0] - moments[1, 1], 2 * moments[0, 1])
    )
    sign = 1.0 if difference >= 0 else -1.0
    root = math.sqrt(difference * difference + mixed * mixed)
    width, depth = (4 * math.sqrt(max(total + side * root, 0) / 2) / n for side in (sign, -sign))
    # Of twice the angle between right-left and the axis closest to it.
    cosine, sine = (abs(difference) / root, sign * mixed / root) if root else (1.0, 0.0)
    mirrored = mean + (pixels - mean) @ np.array([[-cosine, -sine], [-sine, cosine]])
    mirrored = np.rint(mirrored + ROUNDING_TOLERANCE).astype(int)
    lowest = np.minimum(pixels.min(axis=0), mirrored.min(axis=0))
    mask = np.zeros(np.maximum(pixels.max(axis=0), mirrored.max(axis=0)) - lowest + 1, bool)
    mask[tuple((pixels - lowest).T)] = True
    return width, depth, float(mask[tuple((mirrored - lowest).T)].mean())


def _skewness(values: np.ndarray) -> float:
    deviations = values - values.mean()
    variance = float(np.mean(deviations**2))
    return float(np.mean(deviations**3)) / variance**1.5 if variance else 0.0


def _brightness(
    mask: np.ndarray, image: np.ndarray, rim_px: int, border_px: int
) -> tuple[float, float, float]:
    """Contrast, separation and sharpness of a mask."""
    grown = binary_dilation(mask, iterations=border_px)
    rim = binary_dilation(mask, iterations=rim_px) & ~mask
    if not rim.any():
        return math.nan, math.nan, math.nan
    contrast = float(image[mask].mean() - image[rim].mean())
    if abs(contrast) <= MIN_CONTRAST:
        contrast = 0.0
    of_rim = np.sort(image[rim])
    darker, not_brighter = (np.searchsorted(of_rim, image[mask], side) for side in ("left", "right"))
    separation = float(np.mean(darker + not_brighter)) / (2 * len(of_rim))
    inner, outer, beyond = mask & ~binary_erosion(mask, iterations=border_px), grown & ~mask, rim & ~grown
    sharpness = math.nan
    if beyond.any():
        whole = float(image[mask].mean() - image[beyond].mean())
        if abs(whole) > MIN_CONTRAST:
            sharpness = float(image[inner].mean() - image[outer].mean()) / whole
    return contrast, separation, sharpness


def compare_with_neighbours(slices: list[SliceFeatures], start: int, stop: int, spacing_mm: float) -> None:
    """Add the features that compare neighbours, where both have gray matter; `slices` changes in place.

    Args:
        slices: Slices from the inferior end, measured up to `stop` and compared up to `start`.
        start: First slice that has not been compared with the one below it.
        stop: One past the last such slice.
        spacing_mm: Pixel spacing of the grid that the slices share, mm.
    """
    for k in range(max(start, 1), stop):
        lower, upper = slices[k - 1], slices[k]
        if lower.pixels is not None and upper.pixels is not None:
            step = upper.pixels.mean(axis=0) - lower.pixels.mean(axis=0)
            points = [_centered(each) for each in (lower.pixels, upper.pixels)]
            found = {
                "neighbour_dice": _dice_of_pixels(*points),
                "log_area_ratio": abs(math.log(upper.area_mm2 / lower.area_mm2)),
                "centroid_shift_mm": float(np.linalg.norm(step)) * spacing_mm,
            }
            slices[k] = _better(upper, **found)
            lower = _better(lower, **found)
        # Nothing asks for them again, and a long volume has many.
        slices[k - 1] = replace(lower, pixels=None)


def noise_level(image: np.ndarray, region: Region, spacing_mm: tuple[float, float]) -> float:
    """Standard deviation of the noise around the gray matter.

    It is computed from the median absolute second difference along both axes, which smooth structure hardly changes.
    Edges of the anatomy add to it, the more the larger the voxels.

    Args:
        image: Slice as acquired, (right-left, anterior-posterior).
        region: Part of it with gray matter.
        spacing_mm: Voxel spacing in the order of the axes, mm.

    Returns:
        Noise in the unit of the image; NaN for an empty region.
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


def _better(
    one: SliceFeatures, neighbour_dice: float, log_area_ratio: float, centroid_shift_mm: float
) -> SliceFeatures:
    return replace(
        one,
        neighbour_dice=float(np.fmax(one.neighbour_dice, neighbour_dice)),
        log_area_ratio=float(np.fmin(one.log_area_ratio, log_area_ratio)),
        centroid_shift_mm=float(np.fmin(one.centroid_shift_mm, centroid_shift_mm)),
    )


def _centered(pixels: np.ndarray) -> np.ndarray:
    return pixels - np.rint(pixels.mean(axis=0) - ROUNDING_TOLERANCE).astype(int)


def _dice_of_pixels(one: np.ndarray, other: np.ndarray) -> float:
    """Dice coefficient of two sets of pixels, (n, 2) integers around 0."""
    reach = max(int(np.abs(points).max()) for points in (one, other))
    masks = np.zeros((2, 2 * reach + 1, 2 * reach + 1), bool)
    for mask, points in zip(masks, (one, other), strict=True):
        mask[points[:, 0] + reach, points[:, 1] + reach] = True
    return dice(*masks)
