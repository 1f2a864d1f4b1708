"""Fixtures shared by the tests of exports."""

import keras
import numpy as np
import pytest
from served_model import Served, check_answer

from keras_scgm import DilatedGMNet, segment
from keras_scgm.export import saved_model


@pytest.fixture(scope="session")
def served(tmp_path_factory, bright_network):
    return Served(saved_model.export_saved_model(bright_network, tmp_path_factory.mktemp("models")))


@pytest.fixture(scope="session")
def two_networks(tmp_path_factory, bright_network):
    """An export of a network that becomes a plain graph, averaged with one whose graph is Keras's.

    The second answers to dark voxels.
    """
    keras.utils.set_random_seed(1)
    dark_network = keras.models.clone_model(bright_network)
    dark_network.set_weights([np.full((1, 1, 1, 1), -20.0), np.full(1, -100.0)])
    networks = [DilatedGMNet(filters=2, dilation_rates=(6,)), dark_network]
    models = saved_model.export_saved_model(
        networks, tmp_path_factory.mktemp("models"), threshold=0.6, window="center"
    )
    return networks, Served(models)


@pytest.fixture
def same_as_segment(served, bright_network, tmp_path):
    """Checks that the server's file is the very file that `segment` writes."""

    def check(image, data=None, orientation=None):
        path = tmp_path / "image.nii"
        if data is None:
            image.to_filename(path)
            data = path.read_bytes()
        path.write_bytes(data)
        expected = segment(path, bright_network)
        expected.volume.write_result(tmp_path / "mask.nii", expected.mask_voxels)
        got = served(data)
        assert got["mask_bytes"][0] == (tmp_path / "mask.nii").read_bytes()
        check_answer(got, expected)
        return expected

    return check


@pytest.fixture
def small(blob_image):
    """A volume quick to segment: 22 x 20 mm, 3 slices."""
    return blob_image(shape=(44, 39, 3), center_mm=(12, 6), radius_mm=1.5)
