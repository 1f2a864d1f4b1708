"""Gray matter away from the cord is removed, alike in the command and in an exported graph."""

import nibabel as nib
import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from keras_scgm import Segmenter
from keras_scgm.detached_pieces import REACHES_MM, remove_detached
from keras_scgm.export.graph.detached_pieces import remove_detached as remove_in_graph
from keras_scgm.predict import in_cord

SPACING_MM = 0.5
CENTER = (60.0, 60.0)


def disc(row, column, radius=4):
    rows, columns = np.indices((120, 120))
    return np.hypot(rows - row, columns - column) <= radius


CORD, HORN = disc(60, 60), disc(60, 60 + 10, 3)
"""The horn reaches to 7 pixels from the centre, but does not touch the disc."""
ISLAND = disc(60, 60 + 22, 3)
BRIDGED = np.zeros((120, 120), bool)
BRIDGED[60, 60:90] = True
FAR = disc(60, 60 + 40, 3)

CASES = {
    "nothing": (np.zeros_like(CORD), np.zeros_like(CORD)),
    "the cord alone": (CORD, CORD),
    "a horn of its own": (CORD | HORN, CORD | HORN),
    "an island": (CORD | HORN | ISLAND, CORD | HORN),
    "an island on a bridge": (CORD | BRIDGED, CORD | BRIDGED),
    "an island alone, far from the cord": (FAR, np.zeros_like(CORD)),
    "the cord beside its line": (disc(60, 60 + 15), disc(60, 60 + 15)),
}


@pytest.mark.parametrize("threshold", [0.3, 0.7])
def test_what_stays(threshold):
    found, expected = (np.array(column) for column in zip(*CASES.values(), strict=True))
    probabilities = np.where(found, np.float32(threshold + 0.1), np.float32(threshold - 0.1))
    before = probabilities.copy()
    centers, steps = np.tile(CENTER, (len(CASES), 1)), np.full(len(CASES), 0.5)
    cleaned, removed = remove_detached(probabilities, centers, steps, threshold, SPACING_MM)
    np.testing.assert_array_equal(probabilities, before)
    np.testing.assert_array_equal(cleaned > threshold, expected)
    np.testing.assert_array_equal(cleaned[~found], probabilities[~found])
    np.testing.assert_array_equal(removed, (found & ~expected).sum(axis=(1, 2)))
    graph = tf.function(lambda *given: remove_in_graph(*given, (threshold,), SPACING_MM))
    of_graph = graph(probabilities[..., np.newaxis], centers, steps)
    np.testing.assert_array_equal(of_graph[0][..., 0], cleaned)
    np.testing.assert_array_equal(of_graph[1], removed)


def test_where_the_line_of_the_cord_is_steep_it_is_trusted_less():
    probabilities = FAR[np.newaxis].astype(np.float32)
    for step, n_removed in ((0.5, FAR.sum()), (25.0, 0)):
        removed = remove_detached(probabilities, np.array([CENTER]), np.array([step]), 0.5, SPACING_MM)[1]
        assert removed == [n_removed]


def test_random_masks_are_cleaned_alike_in_the_graph():
    rng = np.random.default_rng(0)
    probabilities = (rng.random((12, 100, 90)) * (rng.random((12, 100, 90)) < 0.6)).astype(np.float32)
    centers, steps = rng.uniform(20, 70, (12, 2)), rng.uniform(0, 8, 12)
    cleaned, removed = remove_detached(probabilities, centers, steps, 0.3, SPACING_MM)
    assert (removed > 0).any()
    in_graph = remove_in_graph(probabilities[..., np.newaxis], centers, steps, (0.3,), SPACING_MM)
    np.testing.assert_array_equal(in_graph[0][..., 0], cleaned)
    np.testing.assert_array_equal(in_graph[1], removed)


@pytest.mark.parametrize("thresholds", [(0.3, 0.3), (0.2, 0.4), (0.4, 0.2)])
def test_the_graph_removes_gray_matter_with_the_cord_around_it(thresholds):
    rng = np.random.default_rng(1)
    cord = (rng.random((12, 100, 90)) * (rng.random((12, 100, 90)) < 0.6)).astype(np.float32)
    both = in_cord(np.stack([rng.random(cord.shape, np.float32), cord], axis=-1))
    centers, steps = rng.uniform(20, 70, (12, 2)), rng.uniform(0, 8, 12)
    cleaned, _ = remove_detached(cord, centers, steps, thresholds[1], SPACING_MM, REACHES_MM[1])
    expected = in_cord(np.stack([both[..., 0], cleaned], axis=-1))
    n_before, n_after = (
        np.count_nonzero(each[..., 0] > thresholds[0], axis=(1, 2)) for each in (both, expected)
    )
    assert (n_before > n_after).any()
    in_graph = remove_in_graph(both, centers, steps, thresholds, SPACING_MM)
    np.testing.assert_array_equal(in_graph[0], expected)
    np.testing.assert_array_equal(in_graph[1], n_before - n_after)


@pytest.mark.parametrize("name", ["10063", "9584", "9709"])
def test_no_voxel_outside_the_cord(reference, name):
    folder = reference / "multisite"
    cord = np.asarray(nib.load(folder / f"{name}_cord.nii.gz").dataobj) > 0
    mask = np.asarray(Segmenter().segment(folder / f"{name}_scan.nii.gz").mask_voxels) > 0
    assert mask.any()
    # A rater's outline of the cord is known to a voxel, which tips of dorsal horns may reach.
    outline = ndimage.binary_dilation(cord, np.ones((3, 3, 1)))
    assert not (mask & ~outline).any()
    assert np.count_nonzero(mask & ~cord) <= 0.005 * np.count_nonzero(mask)


@pytest.mark.parametrize("weights", ["synthetic", "challenge", "large"])
@pytest.mark.usefixtures("published_weights")
def test_no_gray_matter_in_a_vertebral_body(reference, weights):
    result = Segmenter(weights).segment(reference / "failing" / "9418_s7-9.nii.gz")
    mask = result.volume.axial_view(result.mask_voxels) > 0
    spacing_mm = np.array(result.volume.in_plane_spacing_mm)
    for k in range(mask.shape[2]):
        voxels_mm = np.argwhere(mask[:, :, k]) * spacing_mm
        assert np.linalg.norm(voxels_mm - np.median(voxels_mm, axis=0), axis=1).max() < 8
