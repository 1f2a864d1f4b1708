"""Does the predicted quality tell good masks from bad ones? Tables on cases that were not used to fit it.

Cords with known truth are drawn at many resolutions and sites, each is damaged in every way of `damages.py`, and every
copy is segmented. Usage:

    python benchmarks/quality.py --fit TABLE.csv --weights synthetic
                                                   # draws FIT_SUBJECTS, SOUND_SUBJECTS; fits a model of quality/
    python benchmarks/quality.py --test TABLE.csv  # draws TEST_SUBJECTS, and damages the real volumes given by
                                                   # --real IMAGE MASK [CORD] (repeat); prints the tables

Weights that segment the cord and weights that do not have a model each, and a table for the fit of each. The table is
kept and added to, so that a run that was stopped goes on. Real volumes are for testing alone: nothing is fitted on
them.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from damages import KINDS, copies
from scipy.optimize import minimize
from scipy.stats import mannwhitneyu, spearmanr

import keras_scgm
from keras_scgm import SegmentationConfig, Segmenter
from keras_scgm.datasets.phantom import PhantomConfig, draw_subject
from keras_scgm.dice import dice, dice_of_counts
from keras_scgm.quality.model import CORD_REASONS, MODEL_FILES, REASONS, AdditiveModel, model_inputs
from keras_scgm.quality.verdicts import MIN_CORD_AGREEMENT

FIT_SUBJECTS, TEST_SUBJECTS = range(30), range(40, 52)
SOUND_SUBJECTS = range(100, 180)
"""Further subjects of the fit, not damaged, as clean as those of `keras_scgm.datasets.phantom.SITES`."""
SOUND_WEIGHT = 5
"""Of a slice that is not damaged, in the fit: most images of users are sound."""
N_SLICES = 5
WRONG_DSC, WRONG_AREA = 0.7, 0.2
"""A slice or volume is wrong below this Dice coefficient, or with an area off by more than this share."""

WRONG_CORD_DSC = 0.9
"""The cord of a volume is wrong below this Dice coefficient, the mean of its slices."""

N_KNOTS = 6
BEND, SHRINKAGE = 0.003, 0.0003
"""Penalties of the fit on changes of slope, and on the size of the functions."""
FALLING = {
    "detached_fraction",
    "removed_mm2",
    "log_area_ratio",
    "centroid_shift_mm",
    "voxel_mm",
    "cord_offset",
}
RISING = {
    "agreement",
    "symmetry",
    "sharpness",
    "separation",
    "contrast_to_noise",
    "neighbour_dice",
    "volume_separation",
    "volume_sharpness",
    "volume_neighbour_dice",
    "volume_agreement",
    "cord_agreement",
    "cord_balance",
    "volume_cord_agreement",
}
"""Features whose functions may only fall or rise; the others have their best values in between."""

Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fit", type=Path, metavar="TABLE", help="fit, with this table of slices")
    parser.add_argument("--test", type=Path, metavar="TABLE", help="test, with this table of slices")
    parser.add_argument("--weights", nargs="+", default=["synthetic"])
    parser.add_argument("--real", nargs="+", type=Path, action="append", default=[], metavar="FILE")
    parser.add_argument("--subjects", type=int, help="fewer of them, to try it out")
    options = parser.parse_args()
    if options.fit:
        cases = drawn_cases([*FIT_SUBJECTS[: options.subjects], *SOUND_SUBJECTS[: options.subjects]])
        rows = extended(options.fit, cases, options.weights)
        knows_cord = {not np.isnan(row["cord_area_mm2"]) for row in rows}
        if len(knows_cord) > 1:
            parser.error(
                f"{options.fit}: weights that segment the cord and weights that do not; fit them apart"
            )
        names = [*REASONS, *CORD_REASONS] if True in knows_cord else [*REASONS]
        model = fit(rows, names)
        target = Path(keras_scgm.__file__).parent / "quality" / MODEL_FILES[True in knows_cord]
        target.write_text(as_json(model), encoding="utf-8")
        print(f"{target}: fitted on {sum(row['area_mm2'] > 0 for row in rows)} slices")
    if options.test:
        cases = [*drawn_cases(TEST_SUBJECTS[: options.subjects]), *real_cases(options.real)]
        rows = extended(options.test, cases, options.weights)
        for source in ("drawn", "real"):
            for weights in options.weights:
                part = [r for r in rows if r["source"] == source and r["weights"] == Path(weights).name]
                if part:
                    print_tables(part, f"{source}, {Path(weights).name}")


def drawn_cases(subjects: Sequence[int]) -> Iterator[tuple[str, str, Callable[[], Any]]]:
    for subject in subjects:
        yield "drawn", str(subject), lambda subject=subject: draw_case(subject)


def real_cases(volumes: Sequence[Sequence[Path]]) -> Iterator[tuple[str, str, Callable[[], Any]]]:
    for image, *masks in volumes:
        yield "real", image.name, lambda image=image, masks=masks: (nib.load(image), _loaded(masks))


def _loaded(masks: Sequence[Path]) -> np.ndarray:
    """bool (x, y, slice, tissue)."""
    return np.stack([np.asarray(nib.load(mask).dataobj) > 0 for mask in masks], axis=-1)


def draw_case(subject: int) -> tuple[nib.Nifti1Image, np.ndarray]:
    """A cord anywhere between C1 and L1, mostly cervical, as sharp and as clean as real ones come, and its gray matter
    and cord, bool (x, y, slice, tissue)."""
    rng = np.random.default_rng((5, subject))
    spacing_mm = float(rng.choice([0.25, 0.35, 0.45, 0.5, 0.6, 0.7, 0.8]))
    thickness_mm = float(rng.choice([2.5, 3, 5, 5, 7.5]))
    lower = float(rng.uniform(3.5, 9) if rng.random() < 0.75 else rng.uniform(9, 20))
    is_clean = subject in SOUND_SUBJECTS
    config = PhantomConfig(
        spacing_mm=spacing_mm,
        slice_thickness_mm=thickness_mm,
        matrix_size=round(float(rng.uniform(52, 90)) / spacing_mm),
        n_slices=N_SLICES,
        levels=(lower, max(1.2, lower - N_SLICES * thickness_mm / 15)),
        gray_over_white=(1.25, 1.6) if is_clean else (1.2, 1.6),
        contrast_to_noise=(6.0, 14.0) if is_clean else (2.0, 12.0),
        zero_filling=(1.0, 1.8),
        off_centre_mm=float(rng.uniform(0, 12)),
        artefacts=float(rng.uniform(0, 1)),
    )
    drawn = draw_subject(config, 1000 + subject)
    truth = (np.asarray(drawn.mask.dataobj) > 0, np.asarray(drawn.cord.dataobj) > 0.5)
    return drawn.image, np.stack(truth, axis=-1)


def extended(table: Path, cases: Sequence[Any] | Iterator[Any], weights: Sequence[str]) -> list[Row]:
    """The rows of a table, with those of the cases that it lacks."""
    rows = []
    if table.exists():
        with open(table, newline="", encoding="utf-8") as file:
            rows = [{key: _value(text) for key, text in row.items()} for row in csv.DictReader(file)]
    known = {(row["source"], _name(row["subject"]), row["weights"]) for row in rows}
    segmenters = {Path(name).name: Segmenter(name, SegmentationConfig()) for name in weights}
    for source, subject, load in cases:
        missing = [name for name in segmenters if (source, subject, name) not in known]
        if not missing:
            continue
        new = []
        image, truth = load()
        kinds = () if subject in map(str, SOUND_SUBJECTS) else KINDS
        for damage, copy, copy_truth in copies(image, truth, (7, sum(map(ord, subject))), kinds):
            for name in missing:
                new += [
                    {"source": source, "subject": subject, "damage": damage, "weights": name} | row
                    for row in segmented(segmenters[name], copy, copy_truth, image, truth)
                ]
        with open(table, "a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, new[0])
            if not rows:
                writer.writeheader()
            writer.writerows(new)
        rows += [{key: _value(str(value)) for key, value in row.items()} for row in new]
        print(f"{source} {subject}", flush=True)
    return rows


def segmented(
    segmenter: Segmenter,
    image: nib.Nifti1Image,
    truth: np.ndarray,
    whole_image: nib.Nifti1Image,
    whole: np.ndarray,
) -> Iterator[Row]:
    """One row per slice of an image, compared with the truth of the whole cord in the undamaged one."""
    result = segmenter.segment(image)
    volume = result.volume
    found = np.asarray(result.mask_voxels) > 0
    cord = None if result.cord_voxels is None else np.asarray(result.cord_voxels) > 0
    (truth, *truth_of_cord), (whole, *_) = (np.moveaxis(each, -1, 0) for each in (truth, whole))
    voxel_mm2, whole_voxel_mm2 = (
        float(np.prod(np.linalg.norm(each.affine[:3, :2], axis=0))) for each in (image, whole_image)
    )
    of_half = truth.shape != whole.shape and np.isclose(voxel_mm2, whole_voxel_mm2)
    inputs = model_inputs(
        [one.features for one in result.quality.slices], segmenter.networks.unknown_contrast
    )
    for k, judged in enumerate(result.quality.slices):
        z = volume.stored_slice_index(k)
        n_truth = np.count_nonzero(whole[..., z] if of_half else truth[..., z])
        n_found, n_common = np.count_nonzero(found[..., z]), np.count_nonzero(found[..., z] & truth[..., z])
        truth_mm2 = np.count_nonzero(whole[..., z]) * whole_voxel_mm2
        yield {
            "slice": z,
            "dsc": dice_of_counts(n_common, n_found, n_truth),
            "cord_dsc": dice(cord[..., z], truth_of_cord[0][..., z])
            if cord is not None and truth_of_cord
            else np.nan,
            "found_mm2": n_found * voxel_mm2,
            "truth_mm2": truth_mm2,
            "score": np.nan_to_num(judged.predicted_dsc),
            "verdict": judged.verdict,
            "volume_score": result.quality.predicted_dsc,
            "volume_verdict": result.quality.verdict,
            **inputs[k],
        }


# --- the fit -------------------------------------------------------------------------------------------


def fit(rows: Sequence[Row], names: Sequence[str]) -> AdditiveModel:
    """Penalised logistic regression of the Dice coefficient on piecewise linear functions of the named features."""
    rows = [row for row in rows if row["area_mm2"] > 0 and not np.isnan(row["dsc"])]
    dsc = np.array([row["dsc"] for row in rows], float)
    shares = np.array([float(SOUND_WEIGHT) if row["damage"] == "none" else 1.0 for row in rows])
    shares /= shares.sum()
    sound = np.array([row["damage"] == "none" and row["dsc"] >= WRONG_DSC for row in rows])
    knots, blocks, bounds = {}, [], []
    for name in names:
        values = np.array([row[name] for row in rows], float)
        known = values[np.isfinite(values)]
        places = np.unique(np.round(np.quantile(known, np.linspace(0.01, 0.99, N_KNOTS)), 6))
        knots[name] = places
        hats = np.stack(
            [np.interp(values, places, np.eye(len(places))[i]) for i in range(len(places))], axis=1
        )
        hats[~np.isfinite(values)] = np.nan
        center = np.nanmean(hats[sound], axis=0)
        # Each function is a sum of steps from knot to knot, whose signs can be bounded.
        steps = np.tril(np.ones((len(places), len(places))), -1)[:, :-1]
        blocks.append(np.nan_to_num((hats - center) @ steps))
        sign = (0, None) if name in RISING else (None, 0) if name in FALLING else (None, None)
        bounds += [sign] * (len(places) - 1)
    design = np.concatenate(blocks, axis=1)
    sizes = [block.shape[1] for block in blocks]

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        logit = weights[0] + design @ weights[1:]
        error = shares * (1 / (1 + np.exp(-logit)) - dsc)
        value = float(shares @ (np.logaddexp(0, logit) - dsc * logit))
        gradient = np.r_[error.sum(), design.T @ error]
        start = 1
        for size in sizes:
            part = weights[start : start + size]
            value += SHRINKAGE * float(part @ part)
            gradient[start : start + size] += 2 * SHRINKAGE * part
            if size > 1:
                bend = np.diff(part)
                value += BEND * float(bend @ bend)
                gradient[start : start + size - 1] -= 2 * BEND * bend
                gradient[start + 1 : start + size] += 2 * BEND * bend
            start += size
        return value, gradient

    found = minimize(
        loss, np.zeros(1 + design.shape[1]), jac=True, method="L-BFGS-B", bounds=[(None, None), *bounds]
    ).x
    terms, start = {}, 1
    for name, size in zip(names, sizes, strict=True):
        values = np.r_[0.0, np.cumsum(found[start : start + size])]
        inputs = np.array([row[name] for row, good in zip(rows, sound, strict=True) if good], float)
        values -= np.nanmean(np.interp(inputs, knots[name], values))
        terms[name] = (knots[name].tolist(), np.round(values, 4).tolist())
        start += size
    return AdditiveModel(round(float(found[0]), 4), terms)


def as_json(model: AdditiveModel) -> str:
    terms = {name: {"knots": knots, "values": values} for name, (knots, values) in model.terms.items()}
    lines = [f"    {json.dumps(name)}: {json.dumps(term)}" for name, term in terms.items()]
    return f'{{\n  "intercept": {model.intercept},\n  "terms": {{\n' + ",\n".join(lines) + "\n  }\n}\n"


# --- the tables ----------------------------------------------------------------------------------------


def is_wrong(dsc: float, found_mm2: float, truth_mm2: float) -> bool:
    return bool(dsc < WRONG_DSC or abs(found_mm2 / truth_mm2 - 1) > WRONG_AREA)


def print_tables(rows: Sequence[Row], title: str) -> None:
    """What passes of every kind of damage, and how well the prediction agrees with the Dice coefficient."""
    rows = [row for row in rows if row["truth_mm2"] > 0]
    print(
        f"\n{title}\n{'damage':24}{'slices':>7}{'DSC':>6}{'pred.':>6}{'cord':>6}{'wrong':>7}{'passed':>8}",
        end="",
    )
    print(f"{'wrong and passed':>18}{'volumes wrong':>15}{'passed':>8}{'wrong and passed':>18}")
    totals, undamaged = np.zeros(6, int), np.zeros(6, int)
    for damage in dict.fromkeys(row["damage"] for row in rows):
        part = [row for row in rows if row["damage"] == damage]
        counts = np.array(_counts(part))
        if damage == "none":
            undamaged += counts
        else:
            totals += counts
        dsc, score, cord_dsc = (_mean_of_known(part, key) for key in ("dsc", "score", "cord_dsc"))
        print(
            f"{damage:24}{len(part):7d}{dsc:6.2f}{score:6.2f}{cord_dsc:6.2f}"
            f"{counts[0]:7d}{counts[1]:8d}{counts[2]:18d}",
            end="",
        )
        print(f"{counts[3]:15d}{counts[4]:8d}{counts[5]:18d}")
    n = sum(row["damage"] != "none" for row in rows)
    print(f"{'all damage':24}{n:7d}{'':18}{totals[0]:7d}{totals[1]:8d}{totals[2]:18d}", end="")
    print(f"{totals[3]:15d}{totals[4]:8d}{totals[5]:18d}")
    for damage, counts in (("none", undamaged), ("all damage", totals)):
        for name, (wrong, passed, both) in (("slices", counts[:3]), ("volumes", counts[3:])):
            print(f"{damage}, {name}: wrong among the passed {_share(both, passed)}, ", end="")
            print(f"passed among the wrong {_share(both, wrong)}")
    wrong, doubted, both = _cord_counts(rows)
    print(f"cords of volumes: wrong {wrong}, doubted {doubted}, wrong and doubted {both}")
    known = [row for row in rows if row["score"] > 0]
    dsc, score = (np.array([row[key] for row in known]) for key in ("dsc", "score"))
    sound = np.array([row["damage"] == "none" for row in known])
    for name, chosen in (("sound", sound), ("damaged", ~sound), ("all", np.ones_like(sound))):
        good = dsc[chosen] >= WRONG_DSC
        auc = np.nan
        if good.any() and not good.all():
            auc = mannwhitneyu(score[chosen][good], score[chosen][~good]).statistic
            auc /= good.sum() * (~good).sum()
        print(
            f"{name}: bias {np.mean(score[chosen] - dsc[chosen]):+.3f}, "
            f"Spearman {spearmanr(score[chosen], dsc[chosen]).statistic:.2f}, "
            f"AUC (DSC of at least {WRONG_DSC}) {auc:.3f}"
        )


def _share(part: int, whole: int) -> str:
    return f"{part} of {whole}" + (f" ({100 * part / whole:.1f} %)" if whole else "")


def _mean_of_known(rows: Sequence[Row], key: str) -> float:
    known = [row[key] for row in rows if not np.isnan(row[key])]
    return float(np.mean(known)) if known else np.nan


def _counts(rows: Sequence[Row]) -> tuple[int, ...]:
    """Slices wrong, passed, both; volumes likewise."""
    wrong = [is_wrong(np.nan_to_num(row["dsc"]), row["found_mm2"], row["truth_mm2"]) for row in rows]
    passed = [row["verdict"] == "pass" and row["found_mm2"] > 0 for row in rows]
    of_volumes = []
    for subject in dict.fromkeys(row["subject"] for row in rows):
        part = [row for row in rows if row["subject"] == subject]
        found, truth = (sum(row[key] for row in part) for key in ("found_mm2", "truth_mm2"))
        dsc = np.average(
            [np.nan_to_num(row["dsc"]) for row in part], weights=[row["truth_mm2"] for row in part]
        )
        of_volumes.append((is_wrong(dsc, found, truth), part[0]["volume_verdict"] == "pass"))
    pairs = [list(zip(wrong, passed, strict=True)), of_volumes]
    return tuple(
        n
        for each in pairs
        for n in (sum(w for w, _ in each), sum(p for _, p in each), sum(w and p for w, p in each))
    )


def _cord_counts(rows: Sequence[Row]) -> tuple[int, int, int]:
    """Volumes with a cord whose mean DSC is below WRONG_CORD_DSC, whose outline is doubted, and both."""
    of_volume: dict[tuple[Any, Any], list[Row]] = {}
    for row in rows:
        if not np.isnan(row["cord_dsc"]):
            of_volume.setdefault((row["subject"], row["damage"]), []).append(row)
    found = [part for part in of_volume.values() if any(row["cord_area_mm2"] > 0 for row in part)]
    wrong = [np.mean([row["cord_dsc"] for row in part]) < WRONG_CORD_DSC for part in found]
    doubted = [
        np.median([row["cord_agreement"] for row in part if row["cord_area_mm2"] > 0]) < MIN_CORD_AGREEMENT
        for part in found
    ]
    return sum(wrong), sum(doubted), sum(w and d for w, d in zip(wrong, doubted, strict=True))


def _name(subject: Any) -> str:
    return f"{subject:.0f}" if isinstance(subject, float) else subject


def _value(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


if __name__ == "__main__":
    main()
