"""Many images: one by one, in a process per core, or on a Ray cluster."""

from keras_scgm.cohort.cores import run_on_cores
from keras_scgm.cohort.jobs import Outcome, OutputConfig, SegmentationJob, do_job, run_here
from keras_scgm.cohort.ray_cluster import run_on_ray

__all__ = [
    "Outcome",
    "OutputConfig",
    "SegmentationJob",
    "do_job",
    "run_here",
    "run_on_cores",
    "run_on_ray",
]
