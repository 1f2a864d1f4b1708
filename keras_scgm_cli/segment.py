"""`keras-scgm segment`: images in, masks, areas, pictures and records out."""

from __future__ import annotations

import glob
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from keras_scgm_cli.quiet import import_keras_scgm

if TYPE_CHECKING:
    from keras_scgm.outputs import OutputPaths
    from keras_scgm.segmentation import Segmentation, Segmenter


def segment(
    inputs: Annotated[
        list[str], typer.Argument(help="NIfTI files, folders (searched through) or quoted patterns.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for the results, or a .nii.gz file for one input."),
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            "--weights", "-w", help="Known name (see `keras-scgm weights`) or file; repeat for an ensemble."
        ),
    ] = None,
    binarize: Annotated[
        str,
        typer.Option(help="native: cut the probabilities on the image's grid; paper: as SCT, at 0.25 mm."),
    ] = "native",
    threshold: Annotated[
        float | None,
        typer.Option(help="Probability above which a voxel is gray matter, if not the weights' own."),
    ] = None,
    window: Annotated[
        str,
        typer.Option(
            help="auto: find the cord; center: of the field; X,Y: centre in mm from the right posterior "
            "corner."
        ),
    ] = "auto",
    soft: Annotated[bool, typer.Option("--soft", help="Write probabilities (float32), not a mask.")] = False,
    mirror: Annotated[
        bool, typer.Option("--mirror", help="Average with the mirrored slice; twice the time.")
    ] = False,
    uncertainty: Annotated[
        int, typer.Option(help="Write an uncertainty map from this many dropout passes (at least 2).")
    ] = 0,
    frame: Annotated[int | None, typer.Option(help="Frame of a 4-D image, from 0.")] = None,
    orientation: Annotated[
        str | None, typer.Option(help="Axis codes, such as LAS, for images whose header has no orientation.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace results that exist.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Skip images whose results exist and were made the same way.")
    ] = False,
) -> None:
    """Segment the gray matter of one or many images.

    For NAME.nii.gz this writes NAME_gmseg.nii.gz (mask), NAME_gmseg_area.csv (area per slice),
    NAME_gmseg_qc.png (picture) and NAME_gmseg.json (how it was made). A bad image does not stop the others;
    the exit code is 2 if any failed.
    """
    images = list(_expand(inputs))
    if not images:
        _fail("no .nii or .nii.gz file among the inputs (results named *_gmseg are left out)")
    import_keras_scgm()
    from keras_scgm.outputs import OutputPaths
    from keras_scgm.segmentation import SegmentationSettings, Segmenter

    if output is not None and output.name.endswith((".nii", ".nii.gz")):
        if len(images) > 1:
            _fail(f"{output}: one file cannot hold the results of {len(images)} images; give a folder")
        jobs = [(images[0][0], OutputPaths(output))]
    else:
        jobs = [
            (image, OutputPaths.for_input(image, output and output / image.parent.relative_to(root)))
            for image, root in images
        ]
    _refuse_collisions(jobs)
    settings = SegmentationSettings(
        binarize=binarize,  # type: ignore[arg-type]
        threshold=threshold,
        window=_parse_window(window),  # type: ignore[arg-type]
        mirror=mirror,
        dropout_passes=uncertainty,
        frame=frame,
        orientation=orientation,
        keep_probabilities=soft,
    )
    segmenter = Segmenter(weights or None, settings)
    failed = skipped = 0
    for image, paths in jobs:
        try:
            done = _segment_one(segmenter, image, paths, soft=soft, force=force, resume=resume)
            skipped += not done
        # One image must not stop a cohort, whatever is wrong with it or with us.
        except Exception as error:
            failed += 1
            if type(error).__name__ == "InputError":
                typer.echo(f"error: {error}", err=True)
            else:
                typer.echo(f"error: {image}: {type(error).__name__}: {error}; please report it", err=True)
    if len(jobs) > 1:
        typer.echo(f"{len(jobs) - failed - skipped} segmented, {skipped} skipped, {failed} failed")
    if failed:
        raise typer.Exit(2)


def _segment_one(
    segmenter: Segmenter, image: Path, paths: OutputPaths, *, soft: bool, force: bool, resume: bool
) -> bool:
    from keras_scgm.errors import InputError
    from keras_scgm.outputs import check_writable, is_finished, output_kind, write_outputs
    from keras_scgm.pretrained import sha256_of

    existing = [path for path in paths.all if path.exists()]
    if resume and existing and image.is_file():
        like = {**segmenter.provenance, "input_sha256": sha256_of(image), "output": output_kind(soft)}
        if is_finished(paths, like):
            typer.echo(f"{image}: finished before, skipped")
            return False
    if existing and not force:
        made = " and was made in another way" if resume else ""
        raise InputError(f"{existing[0]}: exists{made}; replace it with --force")
    check_writable(paths.mask.parent)
    result = _with_progress(segmenter, image)
    write_outputs(result, paths, soft=soft)
    volume_mm3 = result.record["gray_matter_volume_mm3"]
    with_some = [area.area_mm2 for area in result.areas if area.n_voxels]
    mean = sum(with_some) / len(with_some) if with_some else 0.0
    typer.echo(
        f"{paths.mask}: {len(with_some)} of {len(result.areas)} slices, mean area {mean:.1f} mm2, "
        f"volume {volume_mm3:.0f} mm3, {result.record['seconds']:.1f} s"
    )
    for warning in result.warnings:
        typer.echo(f"warning: {image}: {warning}", err=True)
    return True


def _with_progress(segmenter: Segmenter, image: Path) -> Segmentation:
    from tqdm import tqdm

    with tqdm(desc=image.name, unit="slice", leave=False, delay=2.0, disable=not sys.stderr.isatty()) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        return segmenter.segment(image, progress)


def _expand(inputs: list[str]) -> Iterator[tuple[Path, Path]]:
    """Each image with the folder its place is kept relative to under --output."""
    from_folder = [".nii", ".nii.gz"]
    for text in inputs:
        path = Path(text)
        if path.is_dir():
            found = sorted(file for file in path.rglob("*") if file.name.endswith(tuple(from_folder)))
            yield from ((file, path) for file in found if not _is_result(file))
        elif not path.exists() and glob.has_magic(text):
            matches = sorted(Path(match) for match in glob.glob(text, recursive=True))
            yield from ((file, file.parent) for file in matches if file.is_file() and not _is_result(file))
        else:
            yield path, path.parent


def _is_result(path: Path) -> bool:
    stem = path.name.removesuffix(".gz").removesuffix(".nii")
    return path.name.startswith(".") or stem.endswith(("_gmseg", "_gmseg_uncertainty"))


def _refuse_collisions(jobs: list[tuple[Path, OutputPaths]]) -> None:
    owners: dict[Path, Path] = {}
    for image, paths in jobs:
        if paths.mask in owners and owners[paths.mask] != image:
            _fail(f"{owners[paths.mask]} and {image} would both become {paths.mask}; segment them one by one")
        owners[paths.mask] = image


def _parse_window(text: str) -> str | tuple[float, float]:
    if "," not in text:
        return text
    try:
        x, y = map(float, text.split(","))
    except ValueError:
        _fail(f"--window {text}: give auto, center, or two numbers in mm such as 80,75")
    return x, y


def _fail(message: str) -> None:
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(2)
