"""Checks an answer of the server and writes it as the files that `keras-scgm segment` writes."""

from __future__ import annotations

import gzip
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from keras_scgm_client.answer import (
    VERDICTS,
    Answer,
    Findings,
    Kind,
    check_answer,
    check_measurements,
    white_matter,
)
from keras_scgm_client.errors import ImageError
from keras_scgm_client.grid import Grid
from keras_scgm_client.outputs import OutputPaths, Tissues, write_outputs
from keras_scgm_client.picture import save_picture

GZIP_LEVEL = 6


@dataclass(frozen=True)
class Result:
    """Result of one image, before it is written.

    Args:
        image: Input file.
        paths: Paths of the result's files.
        grid: Geometry of the input.
        kind: Content of the files.
        tissues: Tissues to write, "gm" for gray matter alone or "all".
        answer: Answer of the server.
        record: Entries of the record that the client adds.
        with_picture: Whether to draw a picture, which needs the findings of the server.
    """

    image: Path
    paths: OutputPaths
    grid: Grid
    kind: Kind
    tissues: Tissues
    answer: Answer
    record: Mapping[str, Any]
    with_picture: bool

    @property
    def verdict(self) -> str | None:
        """ "pass", "review" or "fail"; None if the server gives none."""
        return self.answer.findings.verdict if self.answer.findings else None

    def check(self) -> None:
        """Check that the answer fits the image that was sent.

        Raises:
            ServerError: The answer does not fit.
        """
        answer, grid = self.answer, self.grid
        kinds: dict[Kind, tuple[bytes | None, ...]] = {
            "mask": (answer.mask, answer.cord),
            "probabilities": (answer.probabilities, answer.cord_probabilities),
        }
        for kind, files in kinds.items():
            for file in files:
                if file is not None:
                    check_answer(file, grid, kind)
        check_measurements(answer, grid)
        _ = self.images

    def check_paths(self) -> None:
        """Check that no other program has written white matter or cord before.

        Raises:
            ImageError: A file exists.
        """
        for path in self.images:
            if os.path.lexists(path):
                raise ImageError(f"{path}: exists; replace it with --force, or leave it with --tissues gm")

    def write(self) -> None:
        """Write every file of the result, or none.

        Raises:
            ImageError: A file cannot be written.
        """
        images = {path: gzip.compress(file, GZIP_LEVEL, mtime=0) for path, file in self.images.items()}
        record = self._record()
        draw = None
        if self.with_picture and self.answer.findings and self.answer.mask:
            draw = partial(save_picture, self.image, self.answer, self.answer.findings, record)
        write_outputs(self.paths, images, self.answer.rows, record, draw)

    @cached_property
    def images(self) -> dict[Path, bytes]:
        """Path and content of each image to write.

        Raises:
            ServerError: Gray matter is not in the cord.
        """
        files, paths = self.answer.files, self.paths
        if len(files) == 1 or self.tissues == "gm":
            return {paths.mask: files[0]}
        gray_matter, cord = files
        rest = white_matter(gray_matter, cord, self.kind)
        return {paths.mask: gray_matter, paths.white_matter: rest, paths.cord: cord}

    def _record(self) -> dict[str, Any]:
        findings, grid = self.answer.findings, self.grid
        record: dict[str, Any] = {}
        if findings:
            n_voxels = sum(row.n_voxels or 0 for row in self.answer.rows)
            gray_matter_mm3 = n_voxels * grid.voxel_area_mm2 * grid.slice_spacing_mm
            record = {
                **findings.provenance,
                "input": str(self.image),
                "shape": list(grid.shape),
                "spacing_mm": grid.spacing_mm,
                "orientation": grid.orientation,
                "axial_axis": grid.axial_axis,
                "window_moved": findings.window_moved,
                "intensity_mean": findings.intensity_mean,
                "intensity_std": findings.intensity_std,
                "gray_matter_volume_mm3": gray_matter_mm3,
                "removed_away_from_cord_mm3": findings.removed_away_from_cord_mm3,
                "quality": self._quality(findings),
            }
            if self.answer.cord is not None:
                cord_mm3 = sum(row.cord_area_mm2 for row in self.answer.rows) * grid.slice_spacing_mm
                record["white_matter_volume_mm3"] = cord_mm3 - gray_matter_mm3
                record["cord_volume_mm3"] = cord_mm3
        return {**record, "input": str(self.image), **self.record, "warnings": list(self.answer.warnings)}

    def _quality(self, findings: Findings) -> dict[str, Any]:
        of_verdict: dict[str, list[int]] = {verdict: [] for verdict in VERDICTS}
        of_reason: dict[str, list[int]] = {}
        for k, row in enumerate(self.answer.rows):
            of_verdict[row.verdict].append(k)
            if row.reason:
                of_reason.setdefault(row.reason, []).append(k)
        return {
            "verdict": findings.verdict,
            "predicted_dsc": findings.predicted_dsc,
            "reason": findings.reason,
            "contrast": None if math.isnan(findings.contrast) else findings.contrast,
            "noise": None if math.isnan(findings.noise) else findings.noise,
            "slices": of_verdict,
            "reasons": of_reason,
        }
