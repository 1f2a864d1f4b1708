"""What HTML pages have in common; needs the packages of the extras `report` or `study`."""

from keras_scgm.webpage.outlines import HALF_WIDTH_MM, outlines
from keras_scgm.webpage.rendering import script_json, template

__all__ = ["HALF_WIDTH_MM", "outlines", "script_json", "template"]
