"""Measurements of gray matter, white matter and cord, by slice and by region."""

from keras_scgm.morphometry.regions import region_means
from keras_scgm.morphometry.section_table import tissue_cells, write_regions, write_sections
from keras_scgm.morphometry.sections import CrossSection, cross_sections, outside_cord
from keras_scgm.morphometry.slice_area import SliceArea
from keras_scgm.morphometry.tissue_areas import TISSUE_COLUMNS, TissueAreas, tissue_areas

__all__ = [
    "TISSUE_COLUMNS",
    "CrossSection",
    "SliceArea",
    "TissueAreas",
    "cross_sections",
    "outside_cord",
    "region_means",
    "tissue_areas",
    "tissue_cells",
    "write_regions",
    "write_sections",
]
