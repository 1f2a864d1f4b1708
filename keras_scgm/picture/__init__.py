"""Pictures of a result: a mosaic of its slices, and single slices with contours."""

from keras_scgm.picture.head import VERDICT_COLOURS, reasons_of
from keras_scgm.picture.mosaic import chosen_slices, save_mosaic
from keras_scgm.picture.section import CONTOUR, CORD_CONTOUR, HALF_WIDTH_MM, REFERENCE, View, draw_section

__all__ = [
    "CONTOUR",
    "CORD_CONTOUR",
    "HALF_WIDTH_MM",
    "REFERENCE",
    "VERDICT_COLOURS",
    "View",
    "chosen_slices",
    "draw_section",
    "reasons_of",
    "save_mosaic",
]
