"""Fixtures shared by the tests of exports."""

from functools import partial

import keras
import pytest
from served_model import Served, check_answer
from unchecked_export import export_unchecked

from keras_scgm import DilatedGMNet, segment


@pytest.fixture(scope="session")
def served(tmp_path_factory, bright_network):
    return Served(export_unchecked(bright_network, tmp_path_factory.mktemp("models")))


@pytest.fixture(scope="session")
def two_networks(tmp_path_factory, cord_network):
    """An export of a network that becomes a plain graph, averaged with one whose graph is Keras's.

    The first sees gray matter everywhere, and little of a cord. The second answers to dark voxels.
    """
    keras.utils.set_random_seed(12)
    gray_network = DilatedGMNet(filters=2, dilation_rates=(6,), classes=2)
    kernel, bias = gray_network.get_layer("predictions").get_weights()
    gray_network.get_layer("predictions").set_weights([100 * kernel, bias])
    dark_network = keras.models.clone_model(cord_network)
    kernel, bias = cord_network.get_weights()
    dark_network.set_weights([-kernel, bias])
    networks = [gray_network, dark_network]
    folder = tmp_path_factory.mktemp("models")
    return networks, Served(export_unchecked(networks, folder, threshold=0.3, window="center"))


@pytest.fixture(scope="session")
def served_cord(tmp_path_factory, dilated_cord_network):
    """An export of a network that segments the cord, too."""
    return Served(export_unchecked(dilated_cord_network, tmp_path_factory.mktemp("models")))


@pytest.fixture
def same_as_segment(served, bright_network, tmp_path):
    """Checks that the server's file is the very file that `segment` writes."""
    return partial(check_same, served, bright_network, tmp_path)


@pytest.fixture
def same_with_cord(served_cord, dilated_cord_network, tmp_path):
    """The same with a network that segments the cord, too; other runtimes than TensorFlow round otherwise."""
    return partial(check_same, served_cord, dilated_cord_network, tmp_path, runtime="tensorflow")


def check_same(served, network, folder, image, data=None, runtime="auto"):
    path = folder / "image.nii"
    if data is None:
        image.to_filename(path)
        data = path.read_bytes()
    path.write_bytes(data)
    expected = segment(path, network, runtime=runtime)
    got = served(data)
    for name, voxels in (("mask_bytes", expected.mask_voxels), ("cord_bytes", expected.cord_voxels)):
        assert (name in got) == (voxels is not None)
        if voxels is not None:
            expected.volume.write_result(folder / "mask.nii", voxels)
            assert got[name][0] == (folder / "mask.nii").read_bytes(), name
    check_answer(got, expected)
    return expected


@pytest.fixture
def small(blob_image):
    """A volume quick to segment: 22 x 20 mm, 3 slices."""
    return blob_image(shape=(44, 39, 3), center_mm=(12, 6), radius_mm=1.5)
