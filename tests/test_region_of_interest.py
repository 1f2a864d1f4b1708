"""Region of interest around the cord: which slices are computed whole, and that the mask stays the same."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from keras_scgm.detached_pieces import REACHES_MM, remove_detached
from keras_scgm.export.graph.region_of_interest import predict_some
from keras_scgm.localization import windows_on_cord
from keras_scgm.nifti import read_volume
from keras_scgm.prediction import Ensemble
from keras_scgm.runtimes.region_of_interest import MARGINS_MM, REGION_MM, Predictor, mean_of
from keras_scgm.slices import SliceConfig, read_windows

SPACING_MM, WINDOW = 0.5, 120
REGION, MARGIN, CORD_MARGIN = (round(mm / SPACING_MM) for mm in (REGION_MM, *MARGINS_MM))
MIDDLE = WINDOW // 2
IN_REGION, IN_WHOLE = 0.7, 0.9


class Recorder:
    """Finds what is bright, and says by the probability whether it was shown a part or the whole."""

    def __init__(self):
        self.shown = []

    def __call__(self, slices, regions=None):
        self.shown.append((len(slices), None if regions is None else regions.shape[1:3]))
        given = slices if regions is None else regions
        return np.float32(IN_WHOLE if regions is None else IN_REGION) * given


class TissueRecorder(Recorder):
    """Finds gray matter in what is bright, and the cord also in what is half as bright."""

    def __call__(self, slices, regions=None):
        found = super().__call__(np.float32(slices > 0.4), None if regions is None else regions > 0.4)
        gray_matter = slices > 0.9 if regions is None else regions > 0.9
        return np.concatenate([found * gray_matter, found], axis=-1)


class GraphRecorder:
    """The same as a network of the graph of an export."""

    takes_regions = True

    def __init__(self, network):
        self.network = network
        self.n_tissues = network(np.zeros((1, 1, 1, 1), np.float32)).shape[-1]

    def __call__(self, slices):
        return tf.ensure_shape(
            tf.numpy_function(self.network, [slices], tf.float32), [None, None, None, self.n_tissues]
        )

    def in_regions(self, slices, regions):
        return tf.ensure_shape(
            tf.numpy_function(self.network, [slices, regions], tf.float32), [None, None, None, self.n_tissues]
        )


def bright(*pixels):
    """A slice with bright spots."""
    image = np.zeros((WINDOW, WINDOW, 1), np.float32)
    for row, column in pixels:
        image[row, column] = 1
    return image


first = (WINDOW - REGION) // 2
CASES = {
    "in the middle": (bright((MIDDLE, MIDDLE)), (MIDDLE, MIDDLE), IN_REGION),
    "just inside the margin": (bright((first + MARGIN, MIDDLE)), (MIDDLE - 0.5, MIDDLE), IN_REGION),
    "in the margin": (
        bright((MIDDLE, MIDDLE), (first + MARGIN - 1, MIDDLE)),
        (MIDDLE - 0.5, MIDDLE),
        IN_WHOLE,
    ),
    "in the other margin": (bright((MIDDLE, first + REGION - MARGIN)), (MIDDLE, MIDDLE - 0.5), IN_WHOLE),
    "nothing": (bright(), (MIDDLE, MIDDLE), 0),
    "nothing in the part": (bright((1, 1)), (MIDDLE, MIDDLE), IN_WHOLE),
    "at an end of the window": (bright((3, MIDDLE)), (5, MIDDLE), IN_REGION),
    "at the other end": (bright((MIDDLE, WINDOW - 1)), (MIDDLE, WINDOW + 30), IN_REGION),
}
SLICES, CENTERS, EXPECTED = (np.array(column) for column in zip(*CASES.values(), strict=True))


def test_what_is_not_well_inside_is_computed_whole():
    network = Recorder()
    probabilities = Predictor(network, True, SPACING_MM, (0.5,))(SLICES, CENTERS)
    assert probabilities.shape == (len(SLICES), WINDOW, WINDOW, 1)
    np.testing.assert_allclose(
        probabilities.max(axis=(1, 2, 3)), EXPECTED, rtol=1e-6, err_msg=str(list(CASES))
    )
    assert network.shown == [(8, (REGION, REGION)), (4, None)]
    places = [np.argwhere(image[..., 0]).tolist() for image in SLICES]
    assert [np.argwhere(found[..., 0]).tolist() for found in probabilities] == places


def test_the_threshold_decides_what_is_computed_whole():
    network = Recorder()
    Predictor(network, True, SPACING_MM, ((IN_REGION + IN_WHOLE) / 2,))(SLICES, CENTERS)
    assert network.shown == [(8, (REGION, REGION)), (8, None)]


FAR = first + round(7 / SPACING_MM)
"""A row within the margin of gray matter, not within that of the cord."""
NEAR = first + round(4 / SPACING_MM)
CORD_CASES = {
    "gray matter in the cord": ([(MIDDLE, MIDDLE)], [(MIDDLE, MIDDLE)], True),
    "a cord without gray matter": ([], [(MIDDLE, MIDDLE)], True),
    "no cord": ([], [], False),
    "a wide cord": ([(MIDDLE, MIDDLE)], [(MIDDLE, MIDDLE), (FAR, MIDDLE)], True),
    "a cord near an end": ([(MIDDLE, MIDDLE)], [(MIDDLE, MIDDLE), (NEAR, MIDDLE)], False),
    "gray matter near an end": ([(FAR, MIDDLE)], [(MIDDLE, MIDDLE), (FAR, MIDDLE)], False),
}


def test_with_a_cord_the_cord_decides_what_is_computed_whole():
    """The network sees gray matter and cord where the slice has 2, and the cord alone where it has 1."""
    slices = np.zeros((len(CORD_CASES), WINDOW, WINDOW, 1), np.float32)
    for image, (gray, cord, _) in zip(slices, CORD_CASES.values(), strict=True):
        for pixels, value in ((cord, 1), (gray, 2)):
            for pixel in pixels:
                image[pixel] = value
    whole = []

    def network(slices, regions=None):
        given = slices if regions is None else regions
        if regions is None:
            whole.append(len(slices))
        return np.concatenate([given > 1.5, given > 0.5], axis=-1).astype(np.float32)

    centers = np.full((len(slices), 2), MIDDLE - 0.5)
    found = Predictor(network, True, SPACING_MM, (0.5, 0.5))(slices, centers)
    np.testing.assert_array_equal(found, network(slices))
    assert whole == [sum(not in_part for *_, in_part in CORD_CASES.values()), len(slices)]
    for image, (*_, in_part) in zip(slices, CORD_CASES.values(), strict=True):
        whole.clear()
        Predictor(network, True, SPACING_MM, (0.5, 0.5))(image[None], centers[:1])
        assert whole == [] if in_part else [1]


def test_gray_matter_is_bounded_by_the_mean_of_the_cord():
    def one(slices, regions=None):
        return np.repeat(slices, 2, axis=-1) * np.array([1.0, 0.2], np.float32)

    def other(slices, regions=None):
        return np.repeat(slices, 2, axis=-1) * np.array([0.6, 0.8], np.float32)

    members = [Predictor(each, False, SPACING_MM, (0.5, 0.5)) for each in (one, other)]
    ones = np.ones((1, 4, 4, 1), np.float32)
    np.testing.assert_allclose(members[0](ones)[0, 0, 0], [0.2, 0.2])
    np.testing.assert_allclose(mean_of(members, mirror=False)(ones)[0, 0, 0], [0.5, 0.5])


def bright_in_cord(gray_matter, cord):
    return np.maximum(bright(*gray_matter), bright(*cord) / 2)


CORD_SLICES = np.array(
    [
        bright_in_cord([(MIDDLE, MIDDLE)], [(MIDDLE + 1, MIDDLE)]),
        bright_in_cord([], [(MIDDLE, MIDDLE)]),
        bright_in_cord([], [(first + CORD_MARGIN, MIDDLE)]),
        bright_in_cord([], [(first + CORD_MARGIN - 1, MIDDLE)]),
        bright_in_cord([], [(MIDDLE, first + REGION - CORD_MARGIN)]),
        bright_in_cord([(first + MARGIN - 1, MIDDLE)], [(MIDDLE, MIDDLE)]),
        bright_in_cord([], []),
        bright_in_cord([], [(1, 1)]),
    ]
)


@pytest.mark.parametrize(("network", "slices"), [(Recorder(), SLICES), (TissueRecorder(), CORD_SLICES)])
def test_the_graph_of_an_export_does_the_same(network, slices):
    config, graph = SliceConfig(spacing_mm=SPACING_MM, window_px=WINDOW), GraphRecorder(network)
    thresholds = (0.5,) * graph.n_tissues
    in_graph = tf.function(lambda *given: predict_some(*given, graph, config, thresholds))
    some = np.arange(len(slices)) % 3
    for centers in (CENTERS, np.full_like(CENTERS, MIDDLE - 0.5)):
        expected = Predictor(network, True, SPACING_MM, thresholds)(slices, centers)
        for is_around, is_whole in ((some >= 0, some < 0), (some < 0, some >= 0), (some == 0, some == 1)):
            wanted = np.where(is_whole[:, None, None, None], network(slices), expected)
            wanted = np.where((is_around | is_whole)[:, None, None, None], wanted, 0)
            np.testing.assert_array_equal(in_graph(slices, centers, is_around, is_whole), wanted)


def test_small_windows_are_computed_whole():
    network = Recorder()
    Predictor(network, True, SPACING_MM, (0.5,))(SLICES[:, :REGION, :REGION], CENTERS)
    assert network.shown == [(8, None)]


@pytest.mark.parametrize("weights", ["challenge", "large", "synthetic"])
@pytest.mark.usefixtures("published_weights")
def test_the_mask_of_a_real_volume_stays_the_same(reference, weights):
    volume = read_volume(reference / "invivo" / "t2s_uncropped.nii.gz")
    network = Ensemble(weights)
    assert network.predict.takes_regions
    windows = windows_on_cord(volume, network.config, network.predict)
    assert windows.cord is not None
    slices = read_windows(volume, windows.geometry, windows.statistics, 0, volume.n_slices)
    shown = []

    def recording(slices, regions=None):
        shown.append((len(slices), regions is None))
        return network.predict.compute(slices, regions)

    def at_the_cord(probabilities):
        tissue = probabilities.shape[-1] - 1
        kept, _ = remove_detached(
            probabilities[..., tissue], windows.cord, windows.cord_steps, 0.5, SPACING_MM, REACHES_MM[tissue]
        )
        return np.minimum(probabilities, kept[..., np.newaxis]) > 0.5

    around = at_the_cord(replace(network.predict, compute=recording)(slices, windows.cord))
    whole = at_the_cord(network.predict(slices))
    # A slice whose cord ends near the border of its part is computed again as a whole.
    assert shown[0] == (volume.n_slices, False)
    assert sum(count for count, _ in shown[1:]) <= 1
    assert 2 * np.count_nonzero(around & whole) >= 0.9995 * (around.sum() + whole.sum())


def test_networks_without_regions_are_computed_whole():
    network = Recorder()
    Predictor(network, False, SPACING_MM, (0.5,))(SLICES, CENTERS)
    assert network.shown == [(8, None)]


def test_mirrored_and_mean():
    def slope(slices, regions=None):
        given = slices if regions is None else regions
        return given * np.linspace(0, 1, given.shape[1], dtype=np.float32)[:, None, None]

    one = Predictor(slope, True, SPACING_MM, (0.5,))
    two = Predictor(lambda slices, regions=None: slope(slices, regions) / 2, True, SPACING_MM, (0.5,))
    np.testing.assert_array_equal(one.mirrored()(SLICES), slope(SLICES[:, ::-1])[:, ::-1])
    expected = (slope(SLICES) + one.mirrored()(SLICES)) * 0.75 / 2
    np.testing.assert_allclose(mean_of([one, two], mirror=True)(SLICES), expected, rtol=1e-6)
    np.testing.assert_allclose(mean_of([one, two], mirror=False)(SLICES), 0.75 * slope(SLICES), rtol=1e-6)
    assert not mean_of([one, replace(two, takes_regions=False)], mirror=False).takes_regions
