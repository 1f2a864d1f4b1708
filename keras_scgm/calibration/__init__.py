"""Choice of a network's threshold on validation volumes."""

from keras_scgm.calibration.choice import Calibration, calibrate
from keras_scgm.calibration.output_files import write_calibration

__all__ = ["Calibration", "calibrate", "write_calibration"]
