"""Quality pages of a study, on which people mark masks, and those marks; needs the packages of the extra `study`."""

from keras_scgm.study.page.marks import MARKS, Mark, read_marks
from keras_scgm.study.page.writing import write_pages

__all__ = ["MARKS", "Mark", "read_marks", "write_pages"]
