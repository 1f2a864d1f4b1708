"""HTML report of an evaluation; needs the packages of the extra `report`."""

from keras_scgm.evaluation.report.page import write_report

__all__ = ["write_report"]
