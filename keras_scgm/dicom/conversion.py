"""Converts DICOM series to NIfTI files with dcm2niix, several echoes to one image."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dcm2niix
import nibabel as nib
import numpy as np
from pydicom import dcmread

from keras_scgm.dicom.folders import SeriesFiles
from keras_scgm.dicom.series import Series, SeriesError, quiet, read_series
from keras_scgm.errors import InputError
from keras_scgm.files import staged, temporary_space
from keras_scgm.grids import grid_difference


@dataclass(frozen=True)
class ConvertedSeries:
    """A series as a NIfTI file.

    Args:
        image: NIfTI file; the JSON file beside it has what the headers say of the acquisition, without patient data.
        files: DICOM images on the grid of the file, those of the first echo if there are several.
    """

    image: Path
    files: tuple[Path, ...]


def convert(series: SeriesFiles, output: Path, force: bool = False) -> ConvertedSeries:
    """Convert a series to NAME.nii.gz and NAME.json.

    Several echoes become the root mean square of their intensities, as the Spinal Cord Toolbox combines them before it
    segments gray matter (`sct_maths -rms t` in the pipeline of the spine generic protocol).

    Args:
        series: Files of the series.
        output: Folder of the new files, created if missing.
        force: Whether to replace other files of these names; equal ones are kept.

    Raises:
        SeriesError: The images are not one volume of evenly spaced slices, or cannot be converted.
        keras_scgm.errors.InputError: A file exists or cannot be written.
    """
    if series.fault:
        raise SeriesError(series.fault)
    with quiet():
        echoes = _by_echo(series.files)
        volumes = [read_series(files) for files in echoes]
        for volume in volumes[1:]:
            if difference := _difference(volume, volumes[0]):
                raise SeriesError(f"its echoes lie on several grids: {difference}")
        content = _converted(series.files, volumes)
    image = output / f"{series.name}.nii.gz"
    new = {image: content[0], output / f"{series.name}.json": content[1]}
    changed = [path for path, data in new.items() if not path.is_file() or path.read_bytes() != data]
    existing = [path for path in changed if path.exists()]
    if existing and not force:
        raise InputError(f"{existing[0]}: exists and is not this series; replace it with --force")
    if changed:
        with staged(output) as staging:
            for path in changed:
                (staging / path.name).write_bytes(new[path])
    return ConvertedSeries(image, tuple(echoes[0]))


def _by_echo(files: Sequence[Path]) -> list[list[Path]]:
    """Files of each echo, in the order of the echo times."""
    echoes: dict[float, list[Path]] = defaultdict(list)
    for path in files:
        header = dcmread(path, stop_before_pixels=True, specific_tags=["EchoTime"])
        echoes[float(header.get("EchoTime") or 0)].append(path)
    return [echoes[echo_ms] for echo_ms in sorted(echoes)]


def _converted(files: Sequence[Path], echoes: Sequence[Series]) -> tuple[bytes, bytes]:
    """Content of the NIfTI and the JSON file."""
    with temporary_space(), tempfile.TemporaryDirectory(prefix="keras_scgm_") as folder:
        # Copies with plain names: dcm2niix reads all files of a folder, of other series, too.
        source, target = Path(folder, "in"), Path(folder, "out")
        source.mkdir()
        target.mkdir()
        for number, path in enumerate(files):
            shutil.copyfile(path, source / f"{number}.dcm")
        options = ["-b", "y", "-ba", "y", "-z", "n", "-w", "1", "-f", "image", "-o", str(target)]
        done = subprocess.run([dcm2niix.bin, *options, str(source)], capture_output=True, check=False)
        images = sorted(target.glob("*.nii"))
        if done.returncode or len(images) != len(echoes):
            raise SeriesError(
                f"dcm2niix made {len(images)} images of its {len(echoes)} echoes (exit code {done.returncode}); "
                "convert it by hand"
            )
        read = [(nib.Nifti1Image.from_filename(path), _sidecar(path)) for path in images]
        for image, _ in read:
            of_series = echoes[0].volume
            if difference := grid_difference(
                image.shape, image.affine, of_series.spatial_shape, of_series.get_affine("RAS")
            ):
                raise SeriesError(f"dcm2niix reads another grid than its headers have: {difference}")
        if len(read) == 1:
            return gzip.compress(images[0].read_bytes(), mtime=0), _as_json(read[0][1])
        read.sort(key=lambda pair: pair[1].get("EchoTime", 0))
        combined = _root_mean_square([image for image, _ in read])
        sidecar = {key: value for key, value in read[0][1].items() if key not in ("EchoTime", "EchoNumber")}
        sidecar["EchoTimes"] = [echo.get("EchoTime") for _, echo in read]
        sidecar["EchoCombination"] = "root mean square"
        return gzip.compress(combined.to_bytes(), mtime=0), _as_json(sidecar)


def _root_mean_square(images: Sequence[nib.Nifti1Image]) -> nib.Nifti1Image:
    squares = np.mean([np.square(image.get_fdata()) for image in images], axis=0)
    header = images[0].header.copy()
    header.set_data_dtype(np.float32)
    header["descrip"] = f"root mean square of {len(images)} echoes".encode()
    return nib.Nifti1Image(np.sqrt(squares).astype(np.float32), images[0].affine, header)


def _difference(series: Series, other: Series) -> str:
    one, two = series.volume, other.volume
    return grid_difference(one.spatial_shape, one.get_affine("RAS"), two.spatial_shape, two.get_affine("RAS"))


def _sidecar(image: Path) -> dict[str, Any]:
    return json.loads(image.with_suffix(".json").read_text(encoding="utf-8"))


def _as_json(sidecar: dict[str, Any]) -> bytes:
    return (json.dumps(sidecar, indent=2) + "\n").encode()
