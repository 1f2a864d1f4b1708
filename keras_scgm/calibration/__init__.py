"""Choice of a network's threshold on validation volumes."""

from keras_scgm.calibration.choice import OBJECTIVES, CalibratedTissue, Calibration, calibrate
from keras_scgm.calibration.output_files import is_calibrated, write_calibration

__all__ = [
    "OBJECTIVES",
    "CalibratedTissue",
    "Calibration",
    "calibrate",
    "is_calibrated",
    "write_calibration",
]
