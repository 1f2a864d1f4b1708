"""`keras-scgm areas`: gray matter, white matter and cord of masks, by slice and by vertebral level."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from keras_scgm_cli.help import MEASURES, RESULTS
from keras_scgm_cli.stderr import import_keras_scgm


def areas(
    mask: Annotated[Path, typer.Argument(help="Gray matter: a mask, or probabilities.")],
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
    cord and the white matter that segment writes; with a centreline alone, those of its angle.

    \b
    Examples:
      keras-scgm areas t2s_gmseg.nii.gz --cord t2s_seg.nii.gz
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
        outside_cord,
        write_table,
    )
    from keras_scgm.nifti import read_volume
    from keras_scgm.volume import Volume

    table = output or mask.with_name(f"{nifti_stem(mask)}_sections.csv")
    if table.suffix != ".csv":
        raise InputError(f"{table}: the tables are CSV; give a name ending in .csv")
    level_table = table.with_name(f"{table.stem}_levels.csv")
    for path in (table, level_table):
        if path.exists() and not force:
            raise InputError(f"{path}: exists; replace it with --force")

    def read(path: Path | None) -> Volume | None:
        return None if path is None else read_volume(path)

    gray_matter = read_volume(mask)
    rows = cross_sections(
        gray_matter,
        read(cord),
        read(centreline),
        read(levels),
        [read_volume(path) for path in sample or ()],
    )
    write_table(table, CrossSection, rows)
    with_some = [row for row in rows if row.area_mm2 > 0]
    mean = sum(row.area_mm2 for row in with_some) / len(with_some) if with_some else 0.0
    typer.echo(f"{table}: {len(with_some)} of {len(rows)} slices, mean gray matter {mean:.1f} mm2")
    warnings = [*gray_matter.warnings, outside_cord(rows)]
    if (cord or centreline) and all(math.isnan(row.cord_angle_deg) for row in rows):
        warnings.append("the cord is marked in fewer than 2 slices; its direction is unknown")
    for warning in filter(None, warnings):
        typer.echo(f"warning: {mask}: {warning}", err=True)
    if levels:
        per_level = level_sections(rows)
        if not per_level:
            typer.echo(f"warning: {levels}: no level in any slice with gray matter", err=True)
        write_table(level_table, LevelSection, per_level)
        typer.echo(f"{level_table}: {len(per_level)} levels")
    else:
        level_table.unlink(missing_ok=True)
