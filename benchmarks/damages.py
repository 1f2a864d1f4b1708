"""Twenty-four kinds of damage to an image, each of random strength, for `quality.py`.

Every function takes the voxels, float (x, y, slice) with x closest to right-left and y to anterior-posterior, the
gray matter mask of the same shape, the spacing (x, y) in mm and a generator, and returns the damaged voxels. Those in
`OF_GRID` also change the mask or the affine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import nibabel as nib
import numpy as np
from scipy.ndimage import binary_dilation, gaussian_filter, rotate, zoom

MOTION_SHOTS = 8

Damage = Callable[[np.ndarray, np.ndarray, np.ndarray, np.random.Generator], np.ndarray]


def noise(
    image: np.ndarray, mask: np.ndarray, spacing_mm: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Rician noise of one to four times the contrast between gray and white matter."""
    sigma = _contrast(image, mask, spacing_mm) * np.exp(rng.uniform(*np.log((1.0, 4.0))))
    return np.hypot(image + rng.normal(0, sigma, image.shape), rng.normal(0, sigma, image.shape))


def motion(
    image: np.ndarray, mask: np.ndarray, spacing_mm: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Every shot of k-space lines from another place, 0.6 to 2.5 mm away."""
    shift_mm = rng.uniform(0.6, 2.5)
    across, along = np.fft.fftfreq(image.shape[0])[:, None], np.fft.fftfreq(image.shape[1])
    result = np.empty_like(image)
    for z in range(image.shape[2]):
        spectrum = np.fft.fft2(image[..., z])
        for lines in np.array_split(np.argsort(along), MOTION_SHOTS):
            dx, dy = rng.normal(0, shift_mm, 2) / spacing_mm
            spectrum[:, lines] *= np.exp(-2j * np.pi * (across * dx + along[lines] * dy))
        result[..., z] = np.abs(np.fft.ifft2(spectrum))
    return result


def ghost(
    image: np.ndarray, mask: np.ndarray, spacing_mm: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """A copy shifted by 4 to 12 mm along y, 0.3 to 0.9 times as bright."""
    shift = round(rng.uniform(4, 12) / spacing_mm[1])
    return image + rng.uniform(0.3, 0.9) * np.roll(image, shift, axis=1)


def spike(
    image: np.ndarray, mask: np.ndarray, spacing_mm: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """A wave over each slice, 1 to 4 times as strong as the contrast, 2 to 6 mm long."""
    amplitude = _contrast(image, mask, spacing_mm) * rng.uniform(1, 4)
    x, y = (np.arange(n) * mm for n, mm in zip(image.shape[:2], spacing_mm, strict=True))
    result = image.copy()
    for z in range(image.shape[2]):
        angle, length_mm = rng.uniform(0, np.pi), rng.uniform(2, 6)
        phase = 2 * np.pi * (x[:, None] * np.cos(angle) + y * np.sin(angle)) / length_mm
        result[..., z] += amplitude * np.sin(phase + rng.uniform(0, 6))
    return np.maximum(result, 0)


def blurred(
    image: np.ndarray, mask: np.ndarray, spacing_mm: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """A Gaussian of 0.6 to 2 mm in the plane."""
    sigma = rng.uniform(0.6, 2.0) / spacing_mm
    return gaussian_filter(image, (*sigma, 0))


def blurred_along_one_axis(
    image: np.ndarray, mask: np.ndarray, spacing_mm: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """A Gaussian of 1 to 2.5 mm along x or y."""
    sigma = np.zeros(3)
    axis = rng.integers(2)
    sigma[axis] = rng.uniform(1.0, 2.5) / spacing_mm[axis]
    return gaussian_filter(image, sigma)


def upsampled(
    image: np.ndarray, mask: np.ndarray, spacing_mm: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Acquired at 1.2 to 2.2 mm and interpolated to this grid."""
    factors = spacing_mm / rng.uniform(1.2, 2.2)
    coarse = zoom(gaussian_filter(image, (*(0.4 / factors), 0)), (*factors, 1), order=1)
    back = np.divide(image.shape[:2], coarse.shape[:2])
    return zoom(coarse, (*back, 1), order=1)[: image.shape[0], : image.shape[1]]


def thick(
    image: np.ndarray, mask: np.ndarray, spacing_mm: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Each slice mixed with a copy that lies 1.5 to 4 mm beside it, as in a thick slice of an oblique cord."""
    angle, distance_mm = rng.uniform(0, 2 * np.pi), rng.uniform(1.5, 4)
    dx, dy = np.rint(distance_mm * np.array([np.cos(angle), np.sin(angle)]) / spacing_mm).astype(int)
    return (image + np.roll(image, (dx, dy), axis=(0, 1))) / 2


def inverted(
    image: np.ndarray, mask: np.ndarray, spacing_mm: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    brightest = np.percentile(image, 99.5)
    return brightest - np.minimum(image, brightest)


def no_gray_matter(
    image: np.ndarray, mask: np.ndarray, spacing_mm: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """The contrast between gray and white matter taken away by 75 to 100 %, as in T2-weighted images."""
    share = rng.uniform(0.75, 1.0)
    result = image.copy()
    soft = gaussian_filter(mask.astype(float), (*(0.4 / spacing_mm), 0))
    for z in range(image.shape[2]):
        if mask[..., z].any():
            rim = binary_dilation(mask[..., z], iterations=max(1, round(1 / spacing_mm[0]))) & ~mask[..., z]
            step = image[..., z][mask[..., z]].mean() - image[..., z][rim].mean()
            result[..., z] -= share * step * soft[..., z]
    return result


def saturated(
    image: np.ndarray, mask: np.ndarray, spacing_mm: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Everything brighter than dark white matter is clipped, so that gray and white matter are alike."""
    rim = _rim(mask, spacing_mm)
    return np.minimum(image, np.percentile(image[rim], rng.uniform(5, 40)))


def few_levels(
    image: np.ndarray, mask: np.ndarray, spacing_mm: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Three to six gray levels."""
    low, high = np.percentile(image, (1, 99))
    n = int(rng.integers(3, 7))
    return np.rint(np.clip((image - low) / (high - low), 0, 1) * (n - 1)) / (n - 1)


def two_levels(
    image: np.ndarray, mask: np.ndarray, spacing_mm: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Bright and dark, cut at the brightness of the cord, and a little noise, without which it is refused as labels."""
    level = np.percentile(image[mask | _rim(mask, spacing_mm)], rng.uniform(10, 90))
    return (image > level) + rng.normal(0, 0.01, image.shape)


def shaded(
    image: np.ndarray, mask: np.ndarray, spacing_mm: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Brightness that changes by 3 to 10 times within 20 mm, as beside a surface coil."""
    angle, rate = rng.uniform(0, 2 * np.pi), np.log(rng.uniform(3, 10)) / 20
    x, y = (np.arange(n) * mm for n, mm in zip(image.shape[:2], spacing_mm, strict=True))
    return image * np.exp(rate * (x[:, None] * np.cos(angle) + y * np.sin(angle)))[..., None]


def void(image: np.ndarray, mask: np.ndarray, spacing_mm: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A dark disc of 3 to 6 mm radius over part of the cord, as beside metal."""
    radius_mm, angle = rng.uniform(3, 6), rng.uniform(0, 2 * np.pi)
    x, y = (np.arange(n) * mm for n, mm in zip(image.shape[:2], spacing_mm, strict=True))
    result = image.copy()
    for z in range(image.shape[2]):
        if mask[..., z].any():
            center_mm = np.argwhere(mask[..., z]).mean(axis=0) * spacing_mm
            center_mm += 0.6 * radius_mm * np.array([np.cos(angle), np.sin(angle)])
            distance_mm = np.hypot(x[:, None] - center_mm[0], y - center_mm[1])
            result[..., z] *= 1 / (1 + np.exp((radius_mm - distance_mm) / 0.3))
    return result


def swapped_slices(
    image: np.ndarray, mask: np.ndarray, spacing_mm: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """One slice in three shows noise of the image's own brightness."""
    result = image.copy()
    for z in range(0, image.shape[2], 3):
        result[..., z] = gaussian_filter(rng.permutation(image[..., z].ravel()).reshape(image.shape[:2]), 1)
    return result


def warped(
    image: np.ndarray, mask: np.ndarray, spacing_mm: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Every line along x shifted by up to 2 to 4 mm, differently from slice to slice, as by pulsation."""
    result = np.empty_like(image)
    for z in range(image.shape[2]):
        shifts = gaussian_filter(rng.normal(size=image.shape[1]), 1.5 / spacing_mm[1])
        shifts *= rng.uniform(2, 4) / np.abs(shifts).max() / spacing_mm[0]
        for row, shift in enumerate(np.rint(shifts).astype(int)):
            result[:, row, z] = np.roll(image[:, row, z], shift)
    return result


OF_VOXELS: dict[str, Damage] = {
    function.__name__: function
    for function in (
        noise,
        motion,
        ghost,
        spike,
        blurred,
        blurred_along_one_axis,
        upsampled,
        thick,
        inverted,
        no_gray_matter,
        saturated,
        few_levels,
        two_levels,
        shaded,
        void,
        swapped_slices,
        warped,
    )
}

OF_GRID = ("half", "ap_flipped", "turned", "spacing_up", "spacing_down", "stretched", "coarse")

KINDS = (*OF_VOXELS, *OF_GRID)


def damaged(
    kind: str, image: nib.Nifti1Image, truth: np.ndarray, rng: np.random.Generator
) -> tuple[nib.Nifti1Image, np.ndarray]:
    """A damaged copy of an image, and the truth on its grid.

    The damage is the same whatever tissues the truth has beside gray matter.

    Args:
        kind: one of `KINDS`.
        image: axes (x, y, slice), see above.
        truth: bool (x, y, slice, tissue), gray matter and whatever else on its grid.
        rng: decides the strength.
    """
    values, affine = np.asarray(image.dataobj, float), image.affine.copy()
    spacing_mm = np.linalg.norm(affine[:3, :2], axis=0)
    if kind in OF_VOXELS:
        values = OF_VOXELS[kind](values, truth[..., 0], spacing_mm, rng)
    elif kind == "half":
        axis, upper = (int(rng.integers(2)) for _ in range(2))
        middle = round(np.argwhere(truth[..., 0])[:, axis].mean())
        kept: list[slice] = [slice(None)] * 3
        kept[axis] = slice(middle, None) if upper else slice(0, middle)
        affine[:3, 3] += affine[:3, axis] * (middle if upper else 0)
        values, truth = values[tuple(kept)], truth[tuple(kept)]
    elif kind == "ap_flipped":
        values, truth = values[:, ::-1], truth[:, ::-1]
    elif kind == "turned":
        angle = rng.choice([-1, 1]) * rng.uniform(40, 90)
        values = rotate(values, angle, reshape=False, order=1, mode="nearest")
        truth = rotate(truth.astype(float), angle, reshape=False, order=1) > 0.5
    elif kind == "coarse":
        factors = (*(spacing_mm / rng.uniform(1.3, 2.0)), 1)
        values, truth = zoom(values, factors, order=1), zoom(truth.astype(float), (*factors, 1), order=1)
        truth = truth > 0.5
        affine[:3, :2] *= np.divide(image.shape[:2], values.shape[:2])
    else:
        scales = {
            "spacing_up": (rng.uniform(1.4, 2.2),) * 2,
            "spacing_down": (1 / rng.uniform(1.5, 2.2),) * 2,
            "stretched": (rng.uniform(1.5, 2.0), 1.0)[:: int(rng.choice([-1, 1]))],
        }[kind]
        affine[:3, :2] *= scales
    return nib.Nifti1Image(values.astype(np.float32), affine), truth


def copies(
    image: nib.Nifti1Image, truth: np.ndarray, seed: tuple[int, ...], kinds: Sequence[str] = KINDS
) -> Iterator[tuple[str, nib.Nifti1Image, np.ndarray]]:
    """The image as it is ("none") and with every kind of damage, each with its truth."""
    yield "none", image, truth
    for number, kind in enumerate(kinds):
        yield kind, *damaged(kind, image, truth, np.random.default_rng((*seed, number)))


def _rim(mask: np.ndarray, spacing_mm: np.ndarray) -> np.ndarray:
    grown = binary_dilation(mask, np.ones((3, 3, 1), bool), iterations=max(1, round(1 / spacing_mm[0])))
    return grown & ~mask


def _contrast(image: np.ndarray, mask: np.ndarray, spacing_mm: np.ndarray) -> float:
    return float(abs(np.median(image[mask]) - np.median(image[_rim(mask, spacing_mm)])))
