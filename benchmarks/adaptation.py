"""What an adaptation without labels brings: on real scans, after a shift of synthetic data, and with few labels.

    python benchmarks/adaptation.py real RESULTS.jsonl --reference FOLDER
    python benchmarks/adaptation.py shift RESULTS.jsonl
    python benchmarks/adaptation.py labels RESULTS.jsonl --reference FOLDER
    python benchmarks/adaptation.py tables RESULTS.jsonl

`real` adapts the default weights on scans without labels and scores other scans of the same scanners, before and
after; labels choose nothing. `shift` trains a small network on one contrast, adapts it on synthetic subjects of another
contrast, resolution and noise, and scores further subjects of both. `labels` compares four labelled slices of a volume
alone with the same four beside its other slices without labels. Each result is a line of RESULTS as soon as it is
there; what is in the file is not computed again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib

from keras_scgm.adaptation import AdaptationConfig, Scans, adapt
from keras_scgm.augmentation import AugmentationConfig
from keras_scgm.datasets import AnnotatedVolume, evenly_spaced_split
from keras_scgm.datasets.phantom import DomainConfig, PhantomConfig, draw_subject
from keras_scgm.nifti import read_volume
from keras_scgm.prediction import Weights
from keras_scgm.segmentation import Segmenter
from keras_scgm.training import PRESETS, SyntheticBatches, train
from keras_scgm.training.validation import volume_dice

STUDENT = AdaptationConfig().augmentation
INTENSITY = replace(
    STUDENT, rotation_degrees=0.0, shift_px=0.0, scaling=0.0, flip_left_right=0.0, elastic_px=0.0
)
WEAK = AugmentationConfig(
    flip_left_right=0.5, shift_px=4.0, channel_shift=0.1, noise=0.1, contrast=0.1, mask_interpolation="linear"
)
STRONG = replace(
    STUDENT, rotation_degrees=20.0, scaling=0.25, elastic_px=2.0, blur_px=1.5, low_resolution=3.0
)
VARIANTS: Mapping[str, AdaptationConfig] = {
    "default": AdaptationConfig(),
    "statistics only": AdaptationConfig(statistics_only=True),
    "statistics of the weights": AdaptationConfig(statistics_share=0.0),
    "half of the statistics": AdaptationConfig(statistics_share=0.5),
    "weak augmentation": AdaptationConfig(augmentation=WEAK),
    "strong augmentation": AdaptationConfig(augmentation=STRONG),
    "intensities only": AdaptationConfig(augmentation=INTENSITY),
    "consistency weight 10": AdaptationConfig(consistency_weight=10.0),
    "no consistency": AdaptationConfig(consistency_weight=0.0),
    "learning rate 1e-4": AdaptationConfig(learning_rate=1e-4),
    "least change": AdaptationConfig(learning_rate=1e-4, statistics_share=0.0, augmentation=WEAK),
}
"""Settings that were tried."""

NARROW = DomainConfig(
    spacing_mm=(0.25, 0.5),
    contrast_to_noise=(8.0, 25.0),
    contrast_weights=(1.0, 0.0, 0.0, 0.0, 0.0),
    region_weights=(1.0, 0.0, 0.0),
)
"""What the network of `shift` was trained on: sharp T2*-weighted images."""
SOURCE = PhantomConfig(
    spacing_mm=0.4, matrix_size=100, n_slices=6, contrast_to_noise=(8.0, 14.0), gray_over_white=(1.2, 1.5)
)
SHIFTS: Mapping[str, PhantomConfig] = {
    "noisy MT": replace(
        SOURCE,
        contrast="mt",
        gray_over_white=None,
        spacing_mm=0.5,
        matrix_size=80,
        contrast_to_noise=(1.8, 2.2),
    ),
    "low contrast": replace(
        SOURCE, gray_over_white=(1.06, 1.1), spacing_mm=0.6, matrix_size=72, contrast_to_noise=(4.0, 6.0)
    ),
}
"""Synthetic scanners of another contrast, resolution and noise."""


@dataclass(frozen=True)
class Results:
    """A file of results, one JSON object a line, each known by its key.

    Args:
        path: The file.
    """

    path: Path

    def rows(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]

    def once(self, key: Mapping[str, Any], measure: Callable[[], Mapping[str, Any]]) -> None:
        """Measures unless the file has a row with this key."""
        if any(all(row.get(name) == value for name, value in key.items()) for row in self.rows()):
            return
        started = time.time()
        row = {**key, **measure(), "seconds": round(time.time() - started, 1)}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("real", "shift", "labels", "tables"))
    parser.add_argument("results", type=Path)
    parser.add_argument("--reference", type=Path, help="folder of the reference data")
    parser.add_argument("--folder", type=Path, help="folder that keeps the runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=["default"])
    parser.add_argument("--shifts", nargs="+", choices=SHIFTS, default=list(SHIFTS))
    parser.add_argument("--epochs", type=int, help="in place of the settings'")
    parser.add_argument("--steps", type=int, help="in place of the settings'")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        options.folder = options.folder or Path(temporary)
        {"real": real, "shift": shift, "labels": labels, "tables": tables}[options.what](
            options, Results(options.results)
        )


def settings(options: argparse.Namespace) -> Iterator[tuple[dict[str, Any], AdaptationConfig]]:
    """Keys and settings of the runs that were asked for."""
    changes = {"epochs": options.epochs, "steps_per_epoch": options.steps}
    changes = {name: value for name, value in changes.items() if value is not None}
    for variant in options.variants:
        for seed in options.seeds:
            key = {"what": options.what, "variant": variant, "seed": seed, **changes}
            yield key, replace(VARIANTS[variant], seed=seed, **changes)


def real(options: argparse.Namespace, results: Results) -> None:
    """Rescans and one further volume without labels; scored on the scans of the same persons."""
    places, invivo = options.reference / "multisite", options.reference / "invivo"
    names = ("9584", "10063", "9709")
    rescans = [places / f"{name}_rescan.nii.gz" for name in names]
    pairs = tuple((places / f"{name}_scan.nii.gz", path) for name, path in zip(names, rescans, strict=True))
    scans = Scans((*rescans, invivo / "unf01_T2star.nii.gz"), rescans=pairs)
    tests = [(places / f"{name}_scan.nii.gz", places / f"{name}_gm.nii.gz") for name in names]
    tests.append((invivo / "t2s_uncropped.nii.gz", invivo / "t2s_uncropped_gmseg_manual.nii.gz"))
    volumes = [AnnotatedVolume(image, (mask,), image.name) for image, mask in tests]
    results.once({"what": "real", "variant": "before"}, lambda: {"dsc": scores("synthetic", volumes)})

    def measure(config: AdaptationConfig, folder: Path) -> dict[str, Any]:
        result = adapt(scans, folder, config=config, resume=True)
        return {"dsc": scores(result.last, volumes), **verdict(result)}

    for key, config in settings(options):
        results.once(key, partial(measure, config, options.folder / "real" / place_of(key)))


def shift(options: argparse.Namespace, results: Results) -> None:
    """A network of one contrast, adapted on unlabelled synthetic subjects of another one."""
    folder = options.folder / "shift"
    source = str(small_network(folder / "source"))
    at_home = subjects(folder / "home", SOURCE, range(900, 904))
    results.once({"what": "shift", "shift": "none"}, lambda: {"dsc": scores(source, at_home)})
    for name in options.shifts:
        place = options.folder / "shift" / name.replace(" ", "_")
        scans = Scans(tuple(one.image for one in subjects(place / "seen", SHIFTS[name], range(12))))
        unseen = subjects(place / "unseen", SHIFTS[name], range(900, 906))
        results.once(
            {"what": "shift", "shift": name, "variant": "before"},
            partial(lambda volumes: {"dsc": scores(source, volumes)}, unseen),
        )
        for key, config in settings(options):

            def measure(
                scans: Scans, unseen: list[AnnotatedVolume], config: AdaptationConfig, folder: Path
            ) -> dict[str, Any]:
                result = adapt(scans, folder, source, config, domain=NARROW, resume=True)
                dsc, home = scores(result.last, unseen), scores(result.last, at_home)
                return {"dsc": dsc, "home": home, **verdict(result)}

            results.once(
                {**key, "shift": name}, partial(measure, scans, unseen, config, place / place_of(key))
            )


def labels(options: argparse.Namespace, results: Results) -> None:
    """Four labelled slices of a volume, alone and beside its other slices without labels."""
    invivo = options.reference / "invivo"
    image, mask = invivo / "t2s_uncropped.nii.gz", invivo / "t2s_uncropped_gmseg_manual.nii.gz"
    n_slices = read_volume(image).n_slices
    split = evenly_spaced_split(n_slices, 4, 0, n_slices - 4)
    volume = AnnotatedVolume(image, (mask,), image.name)
    labelled, others = (replace(volume, labelled_slices=part) for part in (split.train, split.test))
    results.once({"what": "labels", "variant": "before"}, lambda: {"dsc": scores("synthetic", [others])})

    def measure(config: AdaptationConfig, folder: Path) -> dict[str, Any]:
        result = adapt(Scans((image,), (labelled,)), folder, config=config, resume=True)
        return {"dsc": scores(result.last, [others]), **verdict(result)}

    for key, config in settings(options):
        for weight in (0.0, config.consistency_weight):
            own = {**key, "consistency": weight}
            weighted = replace(config, consistency_weight=weight)
            results.once(own, partial(measure, weighted, options.folder / "labels" / place_of(own)))


def tables(options: argparse.Namespace, results: Results) -> None:
    """The results as Markdown tables."""
    rows = results.rows()
    for what in ("real", "shift", "labels"):
        chosen = [row for row in rows if row["what"] == what]
        if not chosen:
            continue
        names = (
            list(dict.fromkeys(name for row in chosen for name in row["dsc"])) if what == "real" else ["DSC"]
        )
        measures = list(dict.fromkeys(name for row in chosen for name in row.get("guard", {})))
        print(f"\n{what}\n\n| settings | seed | {' | '.join([*names, 'home', *measures, 'guard'])} |")
        print("|---" * (len(names) + len(measures) + 4) + "|")
        for row in chosen:
            dsc = [row["dsc"].get(name) for name in names] if what == "real" else [mean(row["dsc"])]
            home = mean(row["home"]) if "home" in row else None
            guard = [" to ".join(map(_text, row.get("guard", {}).get(name, ()))) for name in measures]
            settings = " ".join(str(row[name]) for name in ("shift", "variant", "consistency") if name in row)
            accepted = {True: "accepted", False: "refused"}.get(row.get("accepted"), "")  # type: ignore[arg-type]
            cells = [settings, str(row.get("seed", "")), *map(_text, [*dsc, home]), *guard, accepted]
            print(f"| {' | '.join(cells)} |")


def mean(dsc: Mapping[str, float]) -> float:
    return sum(dsc.values()) / len(dsc)


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def scores(weights: Weights, volumes: list[AnnotatedVolume]) -> dict[str, float]:
    segmenter = Segmenter(weights)
    return {volume.image.name: round(volume_dice(segmenter, volume), 4) for volume in volumes}


def verdict(result: Any) -> dict[str, Any]:
    return {
        "accepted": result.judgement.accepted,
        "guard": {
            check.name: [None if value != value else round(value, 4) for value in (check.before, check.after)]
            for check in result.judgement.checks
        },
    }


def place_of(key: Mapping[str, Any]) -> str:
    return "_".join(str(value).replace(" ", "-") for name, value in key.items() if name != "what")


def small_network(folder: Path) -> Path:
    """A network of 12 filters, trained on `NARROW`."""
    config = replace(
        PRESETS["synthetic"],
        model_kwargs={"filters": 12, "dropout": 0.0, "batch_norm_momentum": 0.99},
        window_px=144,
        epochs=12,
        seed=0,
    )
    batches = SyntheticBatches(144, domain=NARROW, small_windows=((112, 4.0),), inverted=0.0)
    return train(config, batches, folder, resume=True).last


def subjects(folder: Path, config: PhantomConfig, seeds: range) -> list[AnnotatedVolume]:
    """Synthetic subjects with masks that an adaptation does not see."""
    volumes = []
    for seed in seeds:
        image, mask = folder / f"{seed:03d}.nii.gz", folder / "masks" / f"{seed:03d}_gmseg.nii.gz"
        if not mask.exists():
            mask.parent.mkdir(parents=True, exist_ok=True)
            subject = draw_subject(config, seed)
            nib.save(subject.image, image)
            nib.save(subject.mask, mask)
        volumes.append(AnnotatedVolume(image, (mask,), f"{seed:03d}"))
    return volumes


if __name__ == "__main__":
    main()
