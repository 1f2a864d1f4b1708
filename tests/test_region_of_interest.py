"""Probabilities around the cord: which slices are computed whole, and that the mask stays the same."""

import numpy as np
import pytest
import tensorflow as tf

from keras_scgm.cropping import CROP_MM, MARGIN_MM, predict_around
from keras_scgm.export.graph.region_of_interest import predict_some
from keras_scgm.localization import windows_on_cord
from keras_scgm.nifti import read_volume
from keras_scgm.prediction import Ensemble
from keras_scgm.slices import SliceConfig, read_windows

SPACING_MM, WINDOW = 0.5, 120
CROP, MARGIN = round(CROP_MM / SPACING_MM), round(MARGIN_MM / SPACING_MM)
MIDDLE = WINDOW // 2
IN_CROP, IN_WHOLE = 0.7, 0.9


class Recorder:
    """Finds what is bright, and says by the probability whether it was shown a part or the whole."""

    takes_crops = True

    def __init__(self):
        self.shown = []

    def __call__(self, slices, crops=None):
        self.shown.append((len(slices), None if crops is None else crops.shape[1:3]))
        return (
            np.float32(IN_WHOLE if crops is None else IN_CROP) * (slices if crops is None else crops)[..., 0]
        )

    def in_crops(self, slices, crops):
        return self(slices, crops)


def bright(*pixels):
    """A slice with bright spots."""
    image = np.zeros((WINDOW, WINDOW, 1), np.float32)
    for row, column in pixels:
        image[row, column] = 1
    return image


first = (WINDOW - CROP) // 2
CASES = {
    "in the middle": (bright((MIDDLE, MIDDLE)), (MIDDLE, MIDDLE), IN_CROP),
    "just inside the margin": (bright((first + MARGIN, MIDDLE)), (MIDDLE - 0.5, MIDDLE), IN_CROP),
    "in the margin": (
        bright((MIDDLE, MIDDLE), (first + MARGIN - 1, MIDDLE)),
        (MIDDLE - 0.5, MIDDLE),
        IN_WHOLE,
    ),
    "in the other margin": (bright((MIDDLE, first + CROP - MARGIN)), (MIDDLE, MIDDLE - 0.5), IN_WHOLE),
    "nothing": (bright(), (MIDDLE, MIDDLE), 0),
    "nothing in the part": (bright((1, 1)), (MIDDLE, MIDDLE), IN_WHOLE),
    "at an end of the window": (bright((3, MIDDLE)), (5, MIDDLE), IN_CROP),
    "at the other end": (bright((MIDDLE, WINDOW - 1)), (MIDDLE, WINDOW + 30), IN_CROP),
}
SLICES, CENTERS, EXPECTED = (np.array(column) for column in zip(*CASES.values(), strict=True))


def test_what_is_not_well_inside_is_computed_whole():
    network = Recorder()
    probabilities = predict_around(network, SLICES, CENTERS, SPACING_MM, 0.5)
    assert probabilities.shape == (len(SLICES), WINDOW, WINDOW)
    np.testing.assert_allclose(probabilities.max(axis=(1, 2)), EXPECTED, rtol=1e-6, err_msg=str(list(CASES)))
    assert network.shown == [(8, (CROP, CROP)), (4, None)]
    places = [np.argwhere(image[..., 0]).tolist() for image in SLICES]
    assert [np.argwhere(found).tolist() for found in probabilities] == places


def test_the_threshold_decides_what_is_computed_whole():
    network = Recorder()
    predict_around(network, SLICES, CENTERS, SPACING_MM, (IN_CROP + IN_WHOLE) / 2)
    assert network.shown == [(8, (CROP, CROP)), (8, None)]


def test_the_graph_of_an_export_does_the_same():
    config = SliceConfig(spacing_mm=SPACING_MM, window_px=WINDOW)
    in_graph = tf.function(lambda *given: predict_some(*given, Recorder(), config, 0.5))
    expected = predict_around(Recorder(), SLICES, CENTERS, SPACING_MM, 0.5)
    some = np.arange(len(SLICES)) % 3
    for is_around, is_whole in ((some >= 0, some < 0), (some < 0, some >= 0), (some == 0, some == 1)):
        wanted = np.where(is_whole[:, None, None], Recorder()(SLICES), expected)
        wanted = np.where((is_around | is_whole)[:, None, None], wanted, 0)
        np.testing.assert_array_equal(in_graph(SLICES, CENTERS, is_around, is_whole), wanted)


def test_small_windows_are_computed_whole():
    network = Recorder()
    predict_around(network, SLICES[:, :CROP, :CROP], CENTERS, SPACING_MM, 0.5)
    assert network.shown == [(8, None)]


@pytest.mark.parametrize("weights", ["challenge", "large", "synthetic"])
@pytest.mark.usefixtures("published_weights")
def test_the_mask_of_a_real_volume_stays_the_same(reference, weights):
    volume = read_volume(reference / "invivo" / "t2s_uncropped.nii.gz")
    network = Ensemble(weights)
    assert network.takes_crops
    windows = windows_on_cord(volume, network.config, network.predict)
    assert windows.cord is not None
    slices = read_windows(volume, windows.geometry, windows.statistics, 0, volume.n_slices)
    shown = []

    def recording(slices, crops=None):
        shown.append((len(slices), crops is None))
        return network.predict(slices, crops)

    around = predict_around(recording, slices, windows.cord, network.config.spacing_mm, 0.5) > 0.5
    whole = network.predict(slices) > 0.5
    assert shown == [(volume.n_slices, False)]
    assert 2 * np.count_nonzero(around & whole) >= 0.9995 * (around.sum() + whole.sum())
