"""A whole study: images in BIDS, in a folder or in a list; masks as BIDS derivatives, and tables of all."""

from keras_scgm.study.bids import SUFFIX, is_bids, read_bids
from keras_scgm.study.folders import read_folder, read_list
from keras_scgm.study.images import Problem, Study, StudyImage
from keras_scgm.study.levels import LevelConfig
from keras_scgm.study.participant import StudyConfig, StudyResult, run_study
from keras_scgm.study.tables import write_study_tables

__all__ = [
    "SUFFIX",
    "LevelConfig",
    "Problem",
    "Study",
    "StudyConfig",
    "StudyImage",
    "StudyResult",
    "is_bids",
    "read_bids",
    "read_folder",
    "read_list",
    "run_study",
    "write_study_tables",
]
