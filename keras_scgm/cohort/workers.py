"""Workers, which do jobs in processes of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from keras_scgm import checks
from keras_scgm.cohort.jobs import Outcome, OutputConfig, SegmentationJob, do_job
from keras_scgm.errors import InputError
from keras_scgm.pretrained import ensemble_members, resolve_weights
from keras_scgm.segmentation import SegmentationConfig, Segmenter

RETRIES = 3
"""How often an image is tried again after its worker was lost; an image may be what kills them."""

# More threads than cores only get in each other's way.
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


class Worker:
    """Segments images in its process; networks are loaded with the first job, where errors have a place."""

    def __init__(
        self, weights: Sequence[str | Path] | None, settings: SegmentationConfig, output: OutputConfig
    ) -> None:
        self._weights = weights
        self._settings = settings
        self._output = output
        self._segmenter: Segmenter | None = None

    def do(self, job: SegmentationJob) -> Outcome:
        try:
            self._segmenter = self._segmenter or Segmenter(self._weights, self._settings)
        except InputError as error:
            return Outcome(job, "failed", f"error: {error}")
        return do_job(self._segmenter, job, self._output)


def found_weights(weights: Sequence[str | Path] | None) -> list[str | Path] | None:
    """Weights of all members, whose files have been found; None for the default."""
    found: list[str | Path] = []
    for member in (member for item in weights or () for member in ensemble_members(item)):
        resolve_weights(member)
        place = checks.path("weights", member)
        found.append(place.resolve() if place.is_file() else member)
    return found or None
