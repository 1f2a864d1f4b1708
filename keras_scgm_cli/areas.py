"""`keras-scgm areas`: gray matter, white matter and cord of masks, by slice and by vertebral level."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from keras_scgm_cli.help import MEASURES, RESULTS
from keras_scgm_cli.say import say, warn
from keras_scgm_cli.stderr import import_keras_scgm

if TYPE_CHECKING:
    from keras_scgm.morphometry import CrossSection


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

    Writes one row per axial slice, and with --levels a second table, named *_levels.csv, with one row per
    vertebral level. All volumes must be on the grid of the mask. With a cord mask, the table has the columns of the
    cord and the white matter that segment writes; with a centreline alone, those of its angle; with the cord
    alone, those of the cord.

    \b
    Examples:
      keras-scgm areas t2s_gmseg.nii.gz --cord t2s_seg.nii.gz
      keras-scgm areas t2s_seg.nii.gz
      keras-scgm areas t2s_gmseg.nii.gz --cord t2s_seg.nii.gz --levels levels.nii.gz --output areas.csv
    """
    import_keras_scgm()
    from keras_scgm.errors import InputError
    from keras_scgm.files import nifti_stem
    from keras_scgm.morphometry import (
        CrossSection,
        LevelSection,
        cross_sections,
        level_sections,
        write_table,
    )
    from keras_scgm.nifti import read_mask
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
    level_table = table.with_name(f"{table.stem}_levels.csv")
    for path in (table, level_table):
        if path.exists() and not force:
            raise InputError(f"{path}: exists; replace it with --force")

    volumes: dict[Path, Volume] = {}

    def read(path: Path | None) -> Volume | None:
        if path is None:
            return None
        volumes[path] = read_mask(path, volumes[measured].affine if volumes else None)
        return volumes[path]

    rows = cross_sections(
        read(mask), read(cord), read(centreline), read(levels), [*filter(None, map(read, sample or ()))]
    )
    write_table(table, CrossSection, rows)
    for path, volume in volumes.items():
        warn(*volume.warnings, about=path)
    name, column = ("gray matter", "area_mm2") if mask else ("cord", "cord_area_mm2")
    areas_mm2 = [getattr(row, column) for row in rows if row.has_tissue]
    mean_mm2 = sum(areas_mm2) / len(areas_mm2) if areas_mm2 else 0.0
    say(f"{table}: {len(areas_mm2)} of {len(rows)} slices, mean {name} {mean_mm2:.1f} mm2")
    warn(*_doubts(rows, name, has_direction=bool(cord or centreline)), about=measured)
    if levels:
        per_level = level_sections(rows)
        if not any(section.n_slices if mask else section.n_cord_slices for section in per_level):
            warn(f"no level in any slice with {name}", about=levels)
        write_table(level_table, LevelSection, per_level)
        say(f"{level_table}: {len(per_level)} levels")
    else:
        level_table.unlink(missing_ok=True)


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
