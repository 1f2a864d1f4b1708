"""Does the predicted quality tell good masks from bad ones? AUC on cases that were not used to fit it.

Cords with known truth are drawn, each is damaged in four ways (noise, motion, inverted contrast, half of the cord
outside), and every copy is segmented. Half outside counts as bad even where the mask is right, because the area is
not: its truth is the whole cord. Good is an undamaged image with a Dice coefficient of at least 0.7. Usage:

    python benchmarks/quality.py [--weights synthetic challenge] [--mirror] [--image t2s.nii.gz --mask t2s_gm.nii.gz]
    python benchmarks/quality.py --fit      # draws other subjects and prints the constants of keras_scgm/quality.py
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from scipy.ndimage import binary_dilation
from scipy.optimize import minimize
from scipy.stats import mannwhitneyu

from keras_scgm import Segmentation, SegmentationSettings, Segmenter
from keras_scgm.datasets.phantom import PhantomSpec, draw_subject
from keras_scgm.quality import TERMS

FIT_SUBJECTS, TEST_SUBJECTS = range(48), range(48, 72)
DAMAGES = ("noise", "motion", "inverted", "half")
GOOD_DSC = 0.7
N_SLICES = 5
REAL_COPIES = 4
SHRINKAGE = 1e-3
"""Of the standardised weights towards 0."""

CONTRAST_TO_NOISE = {"fit": (0.25, 1.0), "test": (0.25, 0.5)}
SHIFT_MM = {"fit": (0.6, 2.5), "test": (1.5, 2.5)}
MOTION_SHOTS = 8


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", nargs="+", default=["synthetic", "challenge"])
    parser.add_argument("--mirror", action="store_true", help="average with the mirrored slice")
    parser.add_argument("--fit", action="store_true", help="fit the regression instead of testing it")
    parser.add_argument("--subjects", type=int, help="fewer of them, to try it out")
    parser.add_argument("--image", type=Path, help="a real volume, damaged and tested beside the drawn ones")
    parser.add_argument("--mask", type=Path, help="its gray matter")
    parser.add_argument(
        "--table", type=Path, help="CSV of all slices; read instead of segmenting if it exists"
    )
    options = parser.parse_args()
    if options.table and options.table.exists():
        with open(options.table, newline="", encoding="utf-8") as file:
            rows = [{key: _value(text) for key, text in row.items()} for row in csv.DictReader(file)]
    else:
        rows = list(segmented(options))
        if options.table:
            with open(options.table, "w", newline="", encoding="utf-8") as file:
                table = csv.DictWriter(file, rows[0])
                table.writeheader()
                table.writerows(rows)
    if options.fit:
        print_constants(rows)
    else:
        for source in dict.fromkeys(row["source"] for row in rows):
            for weights in options.weights:
                part = [row for row in rows if (row["source"], row["weights"]) == (source, weights)]
                print_auc(part, f"{source}, {weights}")


def segmented(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One row per slice of every image, of every copy and by every network."""
    use = "fit" if options.fit else "test"
    subjects = FIT_SUBJECTS if options.fit else TEST_SUBJECTS
    drawn, real = (
        [
            Segmenter(name, SegmentationSettings(window=window, mirror=options.mirror))
            for name in options.weights
        ]
        for window in ("center", "auto")
    )
    for subject in subjects[: options.subjects]:
        rng = np.random.default_rng((5, subject))
        case = draw_case(subject, rng)
        for damage, image, truth in copies(*case, rng, use):
            labels = {"source": "drawn", "subject": subject, "damage": damage}
            yield from _rows(drawn, image, truth, case[1], labels)
        print(f"subject {subject}", flush=True)
    if options.image:
        image, whole = nib.load(options.image), np.asarray(nib.load(options.mask).dataobj) > 0
        for copy in range(REAL_COPIES):
            rng = np.random.default_rng((7, copy))
            for damage, damaged, truth in copies(image, whole, rng, use):
                if copy == 0 or damage in ("noise", "motion", "half"):
                    labels = {"source": options.image.name, "subject": copy, "damage": damage}
                    yield from _rows(real, damaged, truth, whole, labels)


def draw_case(subject: int, rng: np.random.Generator) -> tuple[nib.Nifti1Image, np.ndarray]:
    """A cord anywhere between C1 and T12, mostly cervical, as sharp and as clean as it comes."""
    spacing_mm = float(rng.choice([0.3, 0.4, 0.5, 0.5]))
    thickness_mm = float(rng.choice([2.5, 5, 5, 7.5]))
    lower = float(rng.uniform(3.5, 9) if rng.random() < 0.8 else rng.uniform(9, 18))
    spec = PhantomSpec(
        spacing_mm=spacing_mm,
        slice_thickness_mm=thickness_mm,
        matrix_size=round(52 / spacing_mm),
        n_slices=N_SLICES,
        levels=(lower, max(1.5, lower - N_SLICES * thickness_mm / 15)),
        contrast_to_noise=(1.2, 6.0),
        zero_filling=(1.0, 1.8),
        artefacts=float(rng.uniform(0, 1)),
    )
    drawn = draw_subject(spec, 1000 + subject)
    return drawn.image, np.asarray(drawn.mask.dataobj) > 0


def copies(
    image: nib.Nifti1Image, truth: np.ndarray, rng: np.random.Generator, use: str
) -> Iterator[tuple[str, nib.Nifti1Image, np.ndarray]]:
    """The image as it is and damaged, each with its truth on its own grid, axes (x, y, slice)."""
    values = np.asarray(image.dataobj, float)
    affine = image.affine
    spacing_mm = float(image.header.get_zooms()[0])
    yield "none", _image(values, affine), truth
    yield "noise", _image(noisy(values, truth, spacing_mm, rng, CONTRAST_TO_NOISE[use]), affine), truth
    yield "motion", _image(moved(values, spacing_mm, rng.uniform(*SHIFT_MM[use]), rng), affine), truth
    brightest = np.percentile(values, 99.5)
    yield "inverted", _image(brightest - np.minimum(values, brightest), affine), truth
    axis, upper = (int(rng.integers(2)) for _ in range(2))
    middle = round(np.argwhere(truth)[:, axis].mean())
    kept: list[slice] = [slice(None)] * 3
    kept[axis] = slice(middle, None) if upper else slice(0, middle)
    shifted = affine.copy()
    shifted[:3, 3] += affine[:3, axis] * (middle if upper else 0)
    yield "half", _image(values[tuple(kept)], shifted), truth[tuple(kept)]


def noisy(
    image: np.ndarray, truth: np.ndarray, spacing_mm: float, rng: np.random.Generator, ratios: Sequence[float]
) -> np.ndarray:
    """Rician noise that leaves a contrast of gray to white matter of some of these ratios to it."""
    rim = binary_dilation(truth, np.ones((3, 3, 1), bool), iterations=max(1, round(1 / spacing_mm))) & ~truth
    contrast = abs(np.median(image[truth]) - np.median(image[rim]))
    sigma = contrast / np.exp(rng.uniform(*np.log(ratios)))
    return np.hypot(image + rng.normal(0, sigma, image.shape), rng.normal(0, sigma, image.shape))


def moved(image: np.ndarray, spacing_mm: float, shift_mm: float, rng: np.random.Generator) -> np.ndarray:
    """Every shot of k-space lines from another place, with this standard deviation."""
    result = np.empty_like(image)
    across, along = np.fft.fftfreq(image.shape[0])[:, None], np.fft.fftfreq(image.shape[1])
    for z in range(image.shape[2]):
        spectrum = np.fft.fft2(image[..., z])
        for lines in np.array_split(np.argsort(along), MOTION_SHOTS):
            dx, dy = rng.normal(0, shift_mm, 2) / spacing_mm
            spectrum[:, lines] *= np.exp(-2j * np.pi * (across * dx + along[lines] * dy))
        result[..., z] = np.abs(np.fft.ifft2(spectrum))
    return result


def _image(values: np.ndarray, affine: np.ndarray) -> nib.Nifti1Image:
    return nib.Nifti1Image(values.astype(np.float32), affine)


def _rows(
    segmenters: Sequence[Segmenter],
    image: nib.Nifti1Image,
    truth: np.ndarray,
    whole: np.ndarray,
    labels: dict[str, Any],
) -> Iterator[dict[str, Any]]:
    for segmenter in segmenters:
        result = segmenter.segment(image)
        (card,) = segmenter.networks.cards
        for k, (dsc, judged) in enumerate(
            zip(_dsc(result, truth, whole), result.quality.slices, strict=True)
        ):
            evidence = judged.evidence
            known = evidence.features if evidence.area_mm2 else dict.fromkeys(TERMS, np.nan)
            yield labels | {
                "weights": card.name,
                "slice": k,
                "dsc": dsc,
                "score": np.nan_to_num(judged.predicted_dsc),
                "verdict": judged.verdict,
                "area_mm2": evidence.area_mm2,
                "contrast_to_noise": evidence.contrast_to_noise,
                **known,
            }


def _dsc(result: Segmentation, truth: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Dice coefficient of every slice with the truth of the whole cord, from the inferior end."""
    found, truth = (result.volume.axial_view(a.astype(bool)) for a in (result.mask_voxels, truth))
    in_order = [result.volume.stored_slice_index(k) for k in range(result.volume.n_slices)]
    totals = whole.sum(axis=(0, 1))[in_order]
    hits = (found & truth).sum(axis=(0, 1))
    return 2 * hits / np.maximum(found.sum(axis=(0, 1)) + totals, 1)


def print_auc(rows: Sequence[dict[str, Any]], title: str) -> None:
    """AUC of the predicted quality, by slice and by volume."""
    good = [row for row in rows if row["damage"] == "none" and row["dsc"] >= GOOD_DSC]
    print(f"\n{title}: {len(good)} good slices")
    if not good:
        return
    by_volume: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        by_volume.setdefault((row["subject"], row["damage"]), []).append(row)
    means = {
        key: tuple(float(np.mean([row[name] for row in members])) for name in ("dsc", "score"))
        for key, members in by_volume.items()
    }
    good_volumes = [
        score for (_, damage), (dsc, score) in means.items() if damage == "none" and dsc >= GOOD_DSC
    ]
    print(f"{'damage':10}{'slices':>7}{'DSC':>6}{'AUC':>7}{'passed':>8}{'volumes':>9}{'AUC':>7}")
    for damage in ("none", *DAMAGES, "any"):
        bad = [
            row for row in rows if row["damage"] == damage or (damage == "any" and row["damage"] != "none")
        ]
        bad_volumes = [
            score
            for (_, kind), (_, score) in means.items()
            if kind == damage or (damage == "any" and kind != "none")
        ]
        passed = np.mean([row["verdict"] == "pass" for row in bad])
        aucs = [
            _auc([row["score"] for row in good], [row["score"] for row in bad]),
            _auc(good_volumes, bad_volumes),
        ]
        print(
            f"{damage:10}{len(bad):7d}{np.mean([row['dsc'] for row in bad]):6.2f}{_shown(aucs[0], damage)}"
            f"{passed:8.0%}{len(bad_volumes):9d}{_shown(aucs[1], damage)}"
        )
    above = [row["score"] for row in rows if row["dsc"] >= GOOD_DSC and row["damage"] != "inverted"]
    below = [row["score"] for row in rows if row["dsc"] < GOOD_DSC and row["damage"] != "inverted"]
    print(f"DSC of at least {GOOD_DSC} against less, inverted images left out: AUC {_auc(above, below):.3f}")


def _shown(auc: float, damage: str) -> str:
    return f"{'':>7}" if damage == "none" else f"{auc:7.3f}"


def _auc(higher: Sequence[float], lower: Sequence[float]) -> float:
    if not higher or not lower:
        return float("nan")
    return float(mannwhitneyu(higher, lower).statistic) / (len(higher) * len(lower))


def print_constants(rows: Sequence[dict[str, Any]]) -> None:
    """Logistic regression of the Dice coefficient, centred on what good slices look like."""
    rows = [row for row in rows if row["area_mm2"]]
    features = np.array([[row[name] for name in TERMS] for row in rows], float)
    dsc = np.array([row["dsc"] for row in rows], float)
    good = (dsc >= GOOD_DSC) & np.array([row["damage"] == "none" for row in rows])
    typical = np.nanmean(features[good], axis=0)
    centered = np.nan_to_num(features - typical)
    scale = centered.std(axis=0)
    design = np.column_stack([np.ones(len(dsc)), centered / scale])

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        logit = design @ weights
        pull = np.r_[0.0, weights[1:]]
        gradient = design.T @ (1 / (1 + np.exp(-logit)) - dsc) / len(dsc) + 2 * SHRINKAGE * pull
        return float(np.mean(np.logaddexp(0, logit) - dsc * logit) + SHRINKAGE * pull @ pull), gradient

    weights = minimize(loss, np.zeros(design.shape[1]), jac=True).x
    print(f"INTERCEPT = {weights[0]:.3f}")
    for name, value, weight in zip(TERMS, typical, weights[1:] / scale, strict=True):
        print(f'"{name}": ({value:.3f}, {weight:.3f}, "{TERMS[name][2]}"),')


def _value(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


if __name__ == "__main__":
    main()
