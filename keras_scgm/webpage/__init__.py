"""What HTML pages have in common; needs the packages of the extras `report` or `study`."""

from keras_scgm.webpage.outlines import PAGE_HALF_WIDTH_MM, outlines
from keras_scgm.webpage.rendering import script_json, template

__all__ = ["PAGE_HALF_WIDTH_MM", "outlines", "script_json", "template"]
