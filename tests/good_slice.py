"""Features of slices: with nothing wrong in them and without gray matter, from a network without and with the cord."""

from dataclasses import replace

from keras_scgm.quality.features import SliceFeatures
from keras_scgm.quality.verdicts import predict_quality

GOOD = SliceFeatures(
    area_mm2=16.0,
    agreement=0.95,
    detached_fraction=0.0,
    width_mm=9.5,
    depth_mm=5.5,
    depth_skewness=-0.5,
    compactness=0.22,
    symmetry=0.75,
    contrast=2.0,
    noise=1.0,
    separation=0.9,
    sharpness=0.65,
    voxel_mm=0.5,
    neighbour_dice=0.85,
    log_area_ratio=0.05,
    centroid_shift_mm=0.3,
)

GOOD_WITH_CORD = replace(
    GOOD,
    cord_area_mm2=80.0,
    cord_agreement=0.97,
    cord_aspect=1.6,
    gm_cord_ratio=0.2,
    cord_offset=0.06,
    cord_balance=0.95,
)

BLANK = SliceFeatures(area_mm2=0.0)
EMPTY_CORD = replace(BLANK, cord_area_mm2=60.0, cord_agreement=0.95, cord_aspect=1.5)
WITHOUT_CORD = replace(BLANK, cord_area_mm2=0.0)


def predicted(features, **settings):
    """The predicted DSC of a volume of one slice."""
    return predict_quality([features], **settings).slices[0].predicted_dsc
