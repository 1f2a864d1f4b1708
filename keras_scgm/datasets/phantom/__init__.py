"""Spinal cords drawn procedurally, for tests and for training without patient data.

`anatomy` holds the shapes, `contrast` the brightness of tissues, `drawing` paints a slice and `acquisition`
scans it. On top of them `training_slices` draws slices and stacks of slices for a network, `subject` volumes and
`challenge_layout`, `exvivo` and `study_layout` data sets.
"""

from keras_scgm.datasets.phantom.anatomy import CordShape, average_section
from keras_scgm.datasets.phantom.challenge_layout import write_challenge_dataset
from keras_scgm.datasets.phantom.contrast import CONTRASTS
from keras_scgm.datasets.phantom.exvivo import write_exvivo_dataset
from keras_scgm.datasets.phantom.study_layout import write_study_dataset
from keras_scgm.datasets.phantom.subject import SITES, PhantomConfig, PhantomSubject, draw_subject
from keras_scgm.datasets.phantom.training_slices import DomainConfig, draw_slices, draw_stacks

__all__ = [
    "CONTRASTS",
    "SITES",
    "CordShape",
    "DomainConfig",
    "PhantomConfig",
    "PhantomSubject",
    "average_section",
    "draw_slices",
    "draw_stacks",
    "draw_subject",
    "write_challenge_dataset",
    "write_exvivo_dataset",
    "write_study_dataset",
]
