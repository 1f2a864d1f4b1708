"""Measurements of gray matter, white matter and cord, by slice and by vertebral level."""

from keras_scgm.morphometry.section_table import TISSUE_COLUMNS, tissue_cells, write_table
from keras_scgm.morphometry.sections import CrossSection, cross_sections, outside_cord
from keras_scgm.morphometry.slice_area import SliceArea
from keras_scgm.morphometry.tissue_areas import CORD_MEASUREMENTS, TissueAreas, tissue_areas
from keras_scgm.morphometry.vertebral_levels import LevelSection, level_sections, mean_and_sd

__all__ = [
    "CORD_MEASUREMENTS",
    "TISSUE_COLUMNS",
    "CrossSection",
    "LevelSection",
    "SliceArea",
    "TissueAreas",
    "cross_sections",
    "level_sections",
    "mean_and_sd",
    "outside_cord",
    "tissue_areas",
    "tissue_cells",
    "write_table",
]
