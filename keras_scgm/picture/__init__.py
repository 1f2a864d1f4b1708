"""Pictures of a result: a mosaic of its slices, and single slices with contours."""

from keras_scgm.picture.mosaic import save_mosaic
from keras_scgm.picture.section import CONTOUR, CORD_CONTOUR, HALF_WIDTH_MM, REFERENCE, View, draw_section

__all__ = ["CONTOUR", "CORD_CONTOUR", "HALF_WIDTH_MM", "REFERENCE", "View", "draw_section", "save_mosaic"]
