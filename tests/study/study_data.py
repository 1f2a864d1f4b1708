"""Small studies in BIDS for tests."""

import csv
import json
from collections.abc import Callable, Iterable
from pathlib import Path

import nibabel as nib
import numpy as np

from keras_scgm.cohort import OutputConfig, SegmentationJob, run_here
from keras_scgm.segmentation import SegmentationConfig, Segmenter

SPACING_MM = (0.5, 0.5, 4.0)


def write_bids(folder: Path, images: Iterable[str], **description: str) -> Path:
    """Files with a few bytes at these places, and the description of a data set."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"Name": "test", "BIDSVersion": "1.10.0", **description})
    (folder / "dataset_description.json").write_text(text)
    for image in images:
        path = folder / image
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"an image")
    return folder


def read(path: Path) -> list[dict[str, str]]:
    """Rows of a table."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def save(image: nib.Nifti1Image, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return path


def engine(network: object, force: bool = False) -> Callable[[list[SegmentationJob]], Iterable]:
    """Segments with a stand-in network in this process."""
    segmenter = Segmenter(network, SegmentationConfig(window="center", keep_probabilities=False))
    return lambda jobs: run_here(segmenter, jobs, OutputConfig(force=force, resume=not force))


def level_map(shape: tuple[int, ...], levels: list[int]) -> np.ndarray:
    return np.broadcast_to(np.array(levels, np.uint8), shape).copy()
