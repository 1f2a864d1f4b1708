"""One table over scanners and weights: overlap, areas, distances and repeatability, of gray matter and cord.

You have volumes of several scanners, with masks of gray matter or cord, or scanned twice, and want to know what each
of the known weights makes of them:

    python examples/multisite.py volumes/ --weights synthetic --weights challenge --weights large --output table/

The folder holds NAME_scan.nii.gz (or .nii) and, as far as there are any, NAME_rescan.nii.gz (the same person, scanned
again), NAME_gm.nii.gz and NAME_cord.nii.gz (masks of the scan). A CSV or JSON list with columns volume, rescan, gm,
cord and note takes its place where files have other names; paths are relative to the list, columns and cells may be
missing, and the note is repeated in the table, such as which masks were made with which network. Without either, two
synthetic subjects are drawn. Prints Markdown, and writes volumes.csv and summary.csv.

Slices without label in a mask do not count. DSC and area bias are over all voxels of the others together, the worst
slice is that with the lowest DSC, HSD is the largest distance between the contours in 3-D, and beside it is the share
of slices in which that in the plane is under 2 mm, which is not the case where nothing was found. The coefficient of
variation (CoV) is that of the mean areas of scan and rescan, standard deviation over mean; the summary has the root
of its mean square. Its note says which measures are of fewer volumes than all.
"""

import argparse
import csv
import json
import math
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from io import StringIO
from pathlib import Path

import nibabel as nib
import numpy as np

from keras_scgm import DilatedGMNet, InputError, Segmenter
from keras_scgm.datasets.phantom import PhantomConfig, draw_subject
from keras_scgm.evaluation import Comparison, MeasuredMask
from keras_scgm.files import is_nifti, nifti_stem, write_rows
from keras_scgm.grids import grid_difference
from keras_scgm.nifti import read_volume
from keras_scgm.pretrained import CORD, GRAY_MATTER
from keras_scgm.pretrained.card import distinct_names
from keras_scgm.segmentation import Segmentation

FILES = ("volume", "rescan", "gm", "cord")
TISSUES = {GRAY_MATTER: "gm", CORD: "cord"}


@dataclass(frozen=True)
class Case:
    """A volume and what is known of it."""

    name: str
    volume: Path
    rescan: Path | None = None
    gm: Path | None = None
    cord: Path | None = None
    note: str = ""


@dataclass(frozen=True)
class Row:
    """Scores of one tissue of one volume, or of all volumes; NaN where there is no mask or no rescan."""

    volume: str
    tissue: str
    weights: str
    dsc: float = math.nan
    area_bias_percent: float = math.nan
    worst_slice: float = math.nan
    hsd_mm: float = math.nan
    slices_under_2_mm_percent: float = math.nan
    outside_cord: float = math.nan
    area_mm2: float = math.nan
    cov_percent: float = math.nan
    note: str = ""


HSD_LIMIT_MM = 2.0
HEADINGS = {
    "volume": "volume",
    "tissue": "tissue",
    "weights": "weights",
    "dsc": "DSC",
    "area_bias_percent": "area bias (%)",
    "worst_slice": "worst slice",
    "hsd_mm": "HSD (mm)",
    "slices_under_2_mm_percent": "slices under 2 mm (%)",
    "outside_cord": "voxels outside the cord",
    "area_mm2": "mean area (mm2)",
    "cov_percent": "CoV (%)",
    "note": "note",
}
DIGITS = {"dsc": 3, "worst_slice": 3, "outside_cord": 0, "hsd_mm": 2}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "files", type=Path, nargs="?", help="folder, CSV or JSON list; drawn subjects if not given"
    )
    parser.add_argument("--weights", action="append", help="known name or file; repeat to compare")
    parser.add_argument("--output", type=Path, help="folder for the tables")
    parser.add_argument("--quick", action="store_true", help="a tiny untrained network, to try it out")
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as temporary:
            run(options, options.output or Path(temporary))
    except InputError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


def run(options: argparse.Namespace, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    cases = read_cases(options.files) if options.files else draw_cases(folder)
    names = [tiny_weights(folder)] if options.quick else options.weights or ["synthetic"]
    rows = []
    for name, weights in zip(distinct_names(names), names, strict=True):
        segmenter = Segmenter(weights)
        for case in cases:
            rows += case_rows(case, name, segmenter)
    # The weights of a volume stand below each other, to be compared.
    rows.sort(key=lambda row: ([case.name for case in cases].index(row.volume), row.tissue != GRAY_MATTER))
    summary = summary_rows(rows)
    for name, table in (("volumes", rows), ("summary", summary)):
        write_rows(folder / f"{name}.csv", [as_cells(row) for row in table])
        print(markdown(table), end="\n\n")


def read_cases(files: Path) -> list[Case]:
    if files.is_dir():
        found = {nifti_stem(path): path.name for path in sorted(files.iterdir()) if is_nifti(path)}
        scans = [stem.removesuffix("scan") for stem in found if stem.endswith("_scan")]
        parts = dict(zip(("scan", *FILES[1:]), FILES, strict=True))
        entries = [
            {column: found[one + part] for part, column in parts.items() if one + part in found}
            for one in scans
        ]
    else:
        entries = read_list(files)
    if not entries:
        raise InputError(f"{files}: no volumes; a folder needs NAME_scan.nii.gz, a list the column volume")
    return [case_of(entry, files if files.is_dir() else files.parent) for entry in entries]


def read_list(path: Path) -> list[Mapping[str, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        entries = json.loads(text) if path.suffix == ".json" else list(csv.DictReader(StringIO(text)))
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(
            f"{path}: neither a folder nor a CSV or JSON list that can be read: {error}"
        ) from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InputError(f"{path}: give a list of objects, one of each volume")
    return entries


def case_of(entry: Mapping[str, str], folder: Path) -> Case:
    unknown = set(entry) - {item.name for item in fields(Case)}
    if unknown or not entry.get("volume"):
        raise InputError(
            f"an entry has volume, and may have rescan, gm, cord, name and note, received {entry}"
        )
    paths = {name: folder / entry[name] for name in FILES if entry.get(name)}
    name = entry.get("name") or nifti_stem(paths["volume"]).removesuffix("_scan")
    return Case(name=name, note=entry.get("note") or "", **paths)


def case_rows(case: Case, weights: str, segmenter: Segmenter) -> list[Row]:
    result = segmenter.segment(case.volume)
    again = segmenter.segment(case.rescan) if case.rescan else None
    masks = {GRAY_MATTER: result.mask_voxels, CORD: result.cord_voxels}
    rows = []
    for tissue, voxels in masks.items():
        if voxels is None:
            continue
        found = in_slices(result, voxels)
        row = Row(case.name, tissue, weights, area_mm2=mean_area(result, tissue), note=case.note)
        if again:
            row = replace(row, cov_percent=cov_percent(row.area_mm2, mean_area(again, tissue)))
        label = getattr(case, TISSUES[tissue])
        if label:
            row = replace(row, **overlap(found, read_mask(label, result), result))
        if tissue == GRAY_MATTER and case.cord:
            cord = read_mask(case.cord, result)
            row = replace(row, outside_cord=np.count_nonzero(found & ~cord & cord.any(axis=(0, 1))))
        rows.append(row)
    return rows


def in_slices(result: Segmentation, voxels: np.ndarray) -> np.ndarray:
    """Boolean, (right-left, posterior-anterior, slice)."""
    return result.volume.axial_view(voxels) > 0.5


def read_mask(path: Path, result: Segmentation) -> np.ndarray:
    label = read_volume(path)
    grids = [(volume.voxels.shape, volume.affine) for volume in (label, result.volume)]
    if difference := grid_difference(*grids[0], *grids[1]):
        raise InputError(f"{path}: not on the grid of {result.volume.source}, {difference}")
    marked = label.read_slices(0, label.n_slices)[0] > 0.5
    if not marked.any():
        raise InputError(f"{path}: no voxel is marked; mend the mask, or take it away")
    return np.moveaxis(marked, 0, 2)


def overlap(found: np.ndarray, label: np.ndarray, result: Segmentation) -> dict[str, float]:
    volume = result.volume
    spacing_mm = (*volume.in_plane_spacing_mm, volume.slice_spacing_mm)
    labelled = label.any(axis=(0, 1))
    comparison = Comparison.of(MeasuredMask(found, spacing_mm), MeasuredMask(label, spacing_mm), labelled)
    metrics, slices = comparison.challenge_metrics(), comparison.slices()
    n_found, n_label = (np.count_nonzero(mask[..., labelled]) for mask in (found, label))
    return {
        "dsc": metrics["DSC"],
        "area_bias_percent": 100 * (n_found / n_label - 1),
        "worst_slice": min(values["DSC"] for values in slices),
        "hsd_mm": metrics["HSD"],
        "slices_under_2_mm_percent": 100
        * float(np.mean([values["HSD"] < HSD_LIMIT_MM for values in slices])),
    }


def mean_area(result: Segmentation, tissue: str) -> float:
    """Mean over the slices that have some, mm2."""
    areas = [row.area_mm2 if tissue == GRAY_MATTER else row.cord_area_mm2 for row in result.areas]
    return mean(area or math.nan for area in areas)


def cov_percent(one_mm2: float, other_mm2: float) -> float:
    return 100 * math.sqrt(2) * abs(one_mm2 - other_mm2) / (one_mm2 + other_mm2)


def summary_rows(rows: Sequence[Row]) -> list[Row]:
    summary = []
    for tissue, weights in dict.fromkeys((row.tissue, row.weights) for row in rows):
        of_both = [row for row in rows if (row.tissue, row.weights) == (tissue, weights)]
        columns = {item.name: [getattr(row, item.name) for row in of_both] for item in fields(Row)}
        summary.append(
            Row(
                f"all {len(of_both)}",
                tissue,
                weights,
                dsc=mean(columns["dsc"]),
                area_bias_percent=mean(columns["area_bias_percent"]),
                worst_slice=min(known(columns["worst_slice"]), default=math.nan),
                hsd_mm=mean(columns["hsd_mm"]),
                slices_under_2_mm_percent=mean(columns["slices_under_2_mm_percent"]),
                outside_cord=sum(outside) if (outside := known(columns["outside_cord"])) else math.nan,
                area_mm2=mean(columns["area_mm2"]),
                cov_percent=math.sqrt(mean(cov**2 for cov in columns["cov_percent"])),
                note=numbers_of_volumes(columns),
            )
        )
    return summary


def numbers_of_volumes(columns: Mapping[str, Sequence[str | float]]) -> str:
    """`of 3: DSC, CoV (%)` for measures that are known in 3 volumes and not in all; empty if there are none."""
    n_known = {name: len(known(values)) for name, values in columns.items() if not isinstance(values[0], str)}
    fewer = sorted({n for n in n_known.values() if 0 < n < len(columns["volume"])}, reverse=True)
    return "; ".join(
        f"of {n}: " + ", ".join(HEADINGS[name] for name in n_known if n_known[name] == n) for n in fewer
    )


def known(values: Iterable[float]) -> list[float]:
    return [value for value in values if not math.isnan(value)]


def mean(values: Iterable[float]) -> float:
    return float(np.mean(kept)) if (kept := known(values)) else math.nan


def markdown(rows: Sequence[Row]) -> str:
    lines = [list(HEADINGS.values()), ["---"] * len(HEADINGS)]
    lines += [[cell(name, value) for name, value in asdict(row).items()] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def as_cells(row: Row) -> dict[str, str | float]:
    return {name: "" if value != value else value for name, value in asdict(row).items()}


def cell(name: str, value: str | float) -> str:
    if isinstance(value, str):
        return value
    return "" if math.isnan(value) else f"{value:.{DIGITS.get(name, 1)}f}"


def draw_cases(folder: Path) -> list[Case]:
    config = PhantomConfig(spacing_mm=0.5, matrix_size=100, n_slices=3)
    drawn = folder / "drawn"
    drawn.mkdir(exist_ok=True)
    for seed in (1, 2):
        subject = draw_subject(config, seed)
        cord = nib.Nifti1Image(np.uint8(np.asarray(subject.cord.dataobj) > 0.5), subject.cord.affine)
        noise = np.random.default_rng(seed).normal(0, 0.02, subject.image.shape)
        rescan = np.asarray(subject.image.dataobj) * (1 + noise)
        images = {
            "scan": subject.image,
            "rescan": nib.Nifti1Image(rescan.astype(np.float32), subject.image.affine),
            "gm": subject.mask,
            "cord": cord,
        }
        for name, image in images.items():
            nib.save(image, drawn / f"{seed}_{name}.nii.gz")
    return read_cases(drawn)


def tiny_weights(folder: Path) -> str:
    path = folder / "tiny.weights.h5"
    DilatedGMNet(filters=2).save_weights(path)
    return str(path)


if __name__ == "__main__":
    main()
