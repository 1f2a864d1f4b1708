"""Cross-sectional areas of gray matter, white matter and cord, by slice and by vertebral level."""

from keras_scgm.morphometry.section_table import write_table
from keras_scgm.morphometry.sections import CrossSection, cross_sections, outside_cord
from keras_scgm.morphometry.slice_area import SliceArea
from keras_scgm.morphometry.vertebral_levels import LevelSection, level_sections

__all__ = [
    "CrossSection",
    "LevelSection",
    "SliceArea",
    "cross_sections",
    "level_sections",
    "outside_cord",
    "write_table",
]
