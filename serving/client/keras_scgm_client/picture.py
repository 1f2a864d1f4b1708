"""Draws the quality control picture of `keras-scgm segment`; needs the extra `picture`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from keras_scgm_client.answer import Answer, Findings
from keras_scgm_client.errors import ImageError


@dataclass(frozen=True)
class _Served:
    """Answer with the attributes that `keras_scgm.picture.save_mosaic` expects of a result."""

    volume: Any
    mask_voxels: Any
    cord_voxels: Any
    probability_voxels: Any
    uncertainty_voxels: None
    areas: Any
    quality: Any
    warnings: tuple[str, ...]
    record: Mapping[str, Any]


def can_draw() -> bool:
    """Whether the extra `picture` is installed."""
    return find_spec("keras_scgm") is not None


def save_picture(
    image: Path, answer: Answer, findings: Findings, record: Mapping[str, Any], path: Path
) -> None:
    """Draw the slices of an image with the masks of the server.

    Args:
        image: File that was sent.
        answer: Answer of the server, with a mask.
        findings: Findings of the answer.
        record: Record of the result.
        path: PNG file to write.

    Raises:
        ImageError: The image cannot be read.
    """
    # These need NumPy, nibabel, SciPy and Pillow, but import neither Keras nor TensorFlow.
    from keras_scgm.errors import InputError
    from keras_scgm.nifti import read_volume
    from keras_scgm.picture import save_mosaic

    try:
        volume = read_volume(image)
        result = _Served(
            volume=volume,
            mask_voxels=_voxels(answer.mask, "u1", volume),
            cord_voxels=_voxels(answer.cord, "u1", volume),
            probability_voxels=_voxels(answer.probabilities, "f4", volume),
            uncertainty_voxels=None,
            areas=_areas(answer),
            quality=_quality(answer, findings, volume),
            warnings=answer.warnings,
            record=record,
        )
        save_mosaic(result, path, soft=answer.probabilities is not None)
    except InputError as error:
        raise ImageError(f"no picture can be drawn: {error}") from error


def _voxels(file: bytes | None, dtype: str, volume: Any) -> Any:
    import numpy as np

    if file is None:
        return None
    kind = np.dtype(dtype).newbyteorder(volume.header.endianness)
    start = len(file) - kind.itemsize * int(np.prod(volume.voxels.shape))
    return np.frombuffer(file, kind, offset=start).reshape(volume.voxels.shape, order="F")


def _areas(answer: Answer) -> Any:
    from keras_scgm.morphometry import SliceArea

    return tuple(
        SliceArea(
            slice=k,
            position_mm=row.position_mm,
            area_mm2=row.area_mm2,
            soft_area_mm2=row.soft_area_mm2,
            n_voxels=row.n_voxels or 0,
            mean_probability=row.mean_probability,
            warning=row.reason,
            contrast=row.contrast,
            noise=row.noise,
            predicted_dsc=row.predicted_dsc,
            verdict=row.verdict,
            cord_area_mm2=row.cord_area_mm2,
            wm_area_mm2=row.wm_area_mm2,
            gm_cord_ratio=row.gm_cord_ratio,
        )
        for k, row in enumerate(answer.rows)
    )


def _quality(answer: Answer, findings: Findings, volume: Any) -> Any:
    from keras_scgm.quality.features import SliceFeatures
    from keras_scgm.quality.verdicts import Quality, SliceQuality

    from_below = (answer.rows[volume.stored_slice_index(k)] for k in range(volume.n_slices))
    return Quality(
        predicted_dsc=findings.predicted_dsc,
        verdict=findings.verdict,  # type: ignore[arg-type]
        reason=findings.reason,
        contrast=findings.contrast,
        noise=findings.noise,
        slices=tuple(
            SliceQuality(
                row.predicted_dsc,
                row.verdict,
                row.reason,
                SliceFeatures(area_mm2=row.area_mm2, contrast=row.contrast, noise=row.noise),
            )
            for row in from_below
        ),
    )
