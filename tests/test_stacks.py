"""Volumes through networks of stacks: neighbours, ends, empty slices, chunks and runtimes."""

import keras
import nibabel as nib
import numpy as np
import pytest

from keras_scgm import InputError, segment
from keras_scgm.runtimes import has_openvino
from keras_scgm.runtimes.keras_network import slice_reach
from keras_scgm.runtimes.stacks import in_stacks, slice_by_slice

N_SLICES = 11


def voxels(image):
    return np.asarray(image.dataobj)


@pytest.fixture(scope="module")
def mean_network():
    """A network of stacks: the probability rises steeply with the mean intensity of a slice and its neighbours."""
    stacks = keras.Input((None, None, None, 1), name="slices")
    mean = keras.layers.Conv3D(1, (3, 1, 1), padding="same", use_bias=False, name="mean")(stacks)
    probabilities = keras.layers.Conv3D(1, 1, activation="sigmoid", name="predictions")(mean)
    model = keras.Model(stacks, probabilities, name="mean")
    model.set_weights([np.full((3, 1, 1, 1, 1), 1 / 3), np.full((1, 1, 1, 1, 1), 20.0), np.full(1, -40.0)])
    return model


@pytest.fixture
def image(blob_image):
    """A disc that one slice in the middle lacks."""
    whole = blob_image(shape=(120, 120, N_SLICES))
    data = voxels(whole).copy()
    data[..., 5] = np.minimum(data[..., 5], 103)
    return nib.Nifti1Image(data, whole.affine)


def test_a_slice_sees_its_neighbours(image, mean_network, bright_network):
    assert slice_reach(mean_network) == 1
    assert slice_reach(bright_network) is None
    assert not voxels(segment(image, bright_network).mask)[..., 5].any()
    found = voxels(segment(image, mean_network, window="center").mask)
    bright = voxels(image) > 200
    # Two bright slices of three are enough, one of them at an end of the volume is not.
    for k in (1, 3, 4, 6, 8):
        np.testing.assert_array_equal(found[..., k], bright[..., k])
    np.testing.assert_array_equal(found[..., 5], bright[..., 4])


def test_chunks_do_not_matter(image, mean_network, monkeypatch):
    results = []
    for chunk in (32, 3, 1):
        monkeypatch.setattr("keras_scgm.slices.CHUNK_SLICES", chunk)
        results.append(segment(image, mean_network, uncertainty_passes=2))
    for name in ("mask", "probabilities", "uncertainty"):
        first, *others = (voxels(getattr(result, name)) for result in results)
        for other in others:
            np.testing.assert_allclose(other, first, atol=1e-6)
    assert [area.n_voxels for area in results[0].areas] == [area.n_voxels for area in results[2].areas]
    assert voxels(results[0].uncertainty).max() > 0


def test_empty_slices_end_a_stack(image, mean_network):
    expected = voxels(segment(image, mean_network).probabilities)
    data = voxels(image)
    empty = np.zeros((*data.shape[:2], 2), np.float32)
    padded = nib.Nifti1Image(np.concatenate([empty, data, empty], axis=2), image.affine)
    found = voxels(segment(padded, mean_network).probabilities)
    np.testing.assert_allclose(found[..., 2:-2], expected, atol=1e-5)
    assert not found[..., [0, 1, -2, -1]].any()


def test_ensembles_of_stacks_and_slices_are_averaged(image, mean_network, bright_network):
    networks = [mean_network, bright_network]
    one, other = (voxels(segment(image, network).probabilities) for network in networks)
    mean = voxels(segment(image, networks).probabilities)
    np.testing.assert_allclose(mean, (one + other) / 2, atol=1e-5)
    mirrored = voxels(segment(image, networks, mirror=True).probabilities)
    np.testing.assert_allclose(mirrored, mean, atol=1e-5)


@pytest.mark.parametrize("runtime", ["tensorflow", "openvino", "onnxruntime"])
def test_runtimes(image, mean_network, runtime):
    if runtime == "onnxruntime":
        with pytest.raises(
            InputError, match="onnxruntime cannot run the network mean; choose the runtime keras"
        ):
            segment(image, mean_network, runtime=runtime)
        return
    if runtime == "openvino" and not has_openvino():
        pytest.skip("OpenVINO is not installed")
    expected, found = (segment(image, mean_network, runtime=name) for name in ("keras", runtime))
    np.testing.assert_allclose(voxels(found.probabilities), voxels(expected.probabilities), atol=1e-5)


def test_slices_and_stacks_go_through_either_network():
    slices = np.random.default_rng(0).normal(size=(3, 4, 5, 1)).astype(np.float32)
    of_slices = slice_by_slice(lambda given, _=None: given + 1)
    np.testing.assert_array_equal(of_slices(slices), slices + 1)
    np.testing.assert_array_equal(of_slices(slices[np.newaxis]), slices[np.newaxis] + 1)
    of_stacks = in_stacks(lambda given: given - given.mean(axis=1, keepdims=True))
    assert not of_stacks(slices).any()
    np.testing.assert_allclose(of_stacks(slices[np.newaxis])[0], slices - slices.mean(axis=0), atol=1e-6)
