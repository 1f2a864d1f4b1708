"""`keras-scgm areas`: gray matter, white matter and cord of masks, by slice and by region."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keras_scgm_cli.help import MEASURES, RESULTS
from keras_scgm_cli.region_options import LevelRanges, SliceRange, parse_ranges
from keras_scgm_cli.say import say, warn
from keras_scgm_cli.stderr import import_keras_scgm

if TYPE_CHECKING:
    from keras_scgm.morphometry import CrossSection
    from keras_scgm.morphometry.regions import Range


def areas(
    mask: Annotated[
        Path | None,
        typer.Argument(help="Gray matter: a mask, or probabilities; or the cord alone, named NAME_seg."),
    ] = None,
    cord: Annotated[
        Path | None,
        typer.Option(
            help="Mask of the whole cord, for white matter, angles, diameters and halves.",
            rich_help_panel=MEASURES,
        ),
    ] = None,
    centreline: Annotated[
        Path | None,
        typer.Option(
            help="Mask of the middle of the cord; used for the angle instead of the cord mask.",
            rich_help_panel=MEASURES,
        ),
    ] = None,
    levels: Annotated[
        Path | None,
        typer.Option(help="Vertebral level of every voxel, for means per level.", rich_help_panel=MEASURES),
    ] = None,
    discs: Annotated[
        Path | None,
        typer.Option(
            help="In place of --levels, labels of the discs, each with the number of the vertebra below it.",
            rich_help_panel=MEASURES,
        ),
    ] = None,
    level_range: LevelRanges = None,
    slices: SliceRange = None,
    sample: Annotated[
        list[Path] | None,
        typer.Option(
            help="The same gray matter by another rater, network or pass, for a prediction interval; give 2 or more.",
            rich_help_panel=MEASURES,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="CSV file, by default NAME_sections.csv beside the mask.",
            rich_help_panel=RESULTS,
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace tables that exist.", rich_help_panel=RESULTS)
    ] = False,
) -> None:
    """Measure areas in mm2, in the slices and perpendicular to the cord.

    Writes one row per axial slice, and a second table, named *_regions.csv, with means over all slices, over each
    vertebral level, and over the ranges that are asked for. All volumes must be on the grid of the mask, the labels
    of discs apart. With a cord mask, the table has the columns of the
    cord and the white matter that segment writes; with a centreline alone, those of its angle; with the cord
    alone, those of the cord.

    \b
    Examples:
      keras-scgm areas t2s_gmseg.nii.gz --cord t2s_seg.nii.gz
      keras-scgm areas t2s_seg.nii.gz
      keras-scgm areas t2s_gmseg.nii.gz --cord t2s_seg.nii.gz --levels levels.nii.gz --level-range 2:3
    """
    import_keras_scgm()
    from keras_scgm.errors import InputError
    from keras_scgm.files import nifti_stem, staged
    from keras_scgm.morphometry import cross_sections, region_means, write_regions, write_sections
    from keras_scgm.morphometry.regions import FROM_THE_TOP
    from keras_scgm.nifti import read_mask, read_volume
    from keras_scgm.nifti.affine import orientation_of
    from keras_scgm.volume import Volume

    mask, cord = _by_name(mask, cord)
    measured = mask or cord
    if measured is None:
        raise InputError(
            "nothing to measure; give a mask of the gray matter, of the cord with --cord, or both"
        )
    table = output or measured.with_name(f"{nifti_stem(measured)}_sections.csv")
    if table.suffix != ".csv":
        raise InputError(f"{table}: the tables are CSV; give a name ending in .csv")
    region_table = table.with_name(f"{table.stem}_regions.csv")
    for path in (table, region_table):
        if path.exists() and not force:
            raise InputError(f"{path}: exists; replace it with --force")
    level_ranges, slice_range = parse_ranges(level_range, slices)
    if level_ranges and not (levels or discs):
        raise InputError("ranges of levels need levels; give a level map or labels of discs")

    volumes: dict[Path, Volume] = {}

    def read(path: Path | None) -> Volume | None:
        if path is None:
            return None
        volumes[path] = read_mask(path, volumes[measured].affine if volumes else None)
        return volumes[path]

    labels = read_volume(discs) if discs else None
    rows = cross_sections(
        read(mask),
        read(cord),
        read(centreline),
        read(levels),
        [*filter(None, map(read, sample or ()))],
        labels,
    )
    means = region_means(rows, level_ranges, slice_range)
    with staged(table.parent) as staging:
        write_sections(staging / table.name, rows)
        write_regions(staging / region_table.name, means)
    for path, volume in volumes.items():
        warn(*volume.warnings, about=path)
    tissue, column = ("gray matter", "area_mm2") if mask else ("cord", "cord_area_mm2")
    say(f"{table}: {sum(row.has_tissue for row in rows)} of {len(rows)} slices have {tissue}")
    say(f"{region_table}: mean {tissue} in mm2: {_listed(means, column)}")
    warn(*_doubts(rows, tissue, has_direction=bool(cord or centreline)), about=measured)
    if slice_range and "I" in orientation_of(volumes[measured].affine):
        warn(FROM_THE_TOP, about=measured)
    if source := levels or discs:
        warn(*_level_doubts(means, level_ranges, tissue), about=source)


def _by_name(mask: Path | None, cord: Path | None) -> tuple[Path | None, Path | None]:
    """Gray matter and cord, as the name of the mask says what it is."""
    from keras_scgm.errors import InputError
    from keras_scgm.evaluation.tissues import CORD, WM, named_tissue
    from keras_scgm.files import nifti_stem

    tissue = named_tissue(nifti_stem(mask))[0] if mask else None
    if tissue == WM:
        raise InputError(f"{mask}: named as white matter; give the gray matter, and the cord with --cord")
    if tissue != CORD:
        return mask, cord
    if cord:
        raise InputError(f"{mask}: named as a cord; give the gray matter beside --cord {cord}")
    return None, mask


def _listed(means: Sequence[Mapping[str, Any]], column: str) -> str:
    """The mean of every region.

    >>> _listed([{"region": "all", "area_mm2": 16.25}, {"region": "2:3", "area_mm2": math.nan}], "area_mm2")
    'all 16.2, 2:3 none'
    """
    return ", ".join(
        f"{row['region']} {'none' if math.isnan(row[column]) else format(row[column], '.1f')}"
        for row in means
    )


def _doubts(rows: Sequence[CrossSection], name: str, has_direction: bool) -> list[str]:
    """What may be wrong with the masks, one line each."""

    from keras_scgm.morphometry import outside_cord
    from keras_scgm.quality.verdicts import mask_doubts

    doubts = [*filter(None, [outside_cord(rows)])]
    if not any(row.has_tissue for row in rows):
        doubts.append(f"no {name} in the mask")
    doubts += mask_doubts(rows)
    if has_direction and all(math.isnan(row.cord_angle_deg) for row in rows):
        doubts.append("the cord is marked in fewer than 2 slices; its direction is unknown")
    return doubts


def _level_doubts(
    means: Sequence[Mapping[str, Any]], level_ranges: Sequence[Range], tissue: str
) -> list[str]:
    """Which levels have no slice, one line each."""
    from keras_scgm.errors import first_of
    from keras_scgm.morphometry.regions import missing_levels

    if not means[0]["levels"]:
        return [f"no level in any slice with {tissue}"]
    missing = {ends: missing_levels(ends, means[0]["levels"]) for ends in level_ranges}
    return [
        f"levels {first}:{last}: no {tissue} at {first_of(levels)}"
        for (first, last), levels in missing.items()
        if levels
    ]
