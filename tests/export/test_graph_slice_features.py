"""Features and noise of slices in the graph are those of `keras_scgm.quality`."""

import numpy as np
import pytest
import tensorflow as tf
from feature_matrix import as_matrix
from scipy.ndimage import gaussian_filter

from keras_scgm.datasets.phantom import PhantomConfig, draw_subject
from keras_scgm.export.graph import slice_features as graph_features
from keras_scgm.export.graph.cord_features import CordPrediction
from keras_scgm.export.graph.slice_features import FEATURES
from keras_scgm.export.graph.slices import extents
from keras_scgm.quality.cord_features import with_cord
from keras_scgm.quality.features import SliceFeatures, compare_with_neighbours, noise_level, slice_features

SPACING_MM = 0.25
THRESHOLD, CORD_THRESHOLD = 0.5, 0.4

UNIT = 7.5
VOXEL_MM = 0.55


@pytest.fixture(scope="module")
def chunk_features():
    return traced_features(with_cord=False)


@pytest.fixture(scope="module")
def chunk_features_with_cord():
    return traced_features(with_cord=True)


def traced_features(with_cord):
    """Traced once for chunks and windows of any size."""
    of_cord = [
        tf.TensorSpec([None, None, None], tf.float32),
        tf.TensorSpec([None], tf.bool),
        tf.TensorSpec([None], tf.bool),
    ]

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None, None], tf.float32),
            tf.TensorSpec([None, None, None], tf.float32),
            tf.TensorSpec([None, None], tf.bool),
            tf.TensorSpec([2], tf.int32),
            tf.TensorSpec([None, 2], tf.int32),
            tf.TensorSpec([None], tf.bool),
            tf.TensorSpec([None], tf.bool),
            tf.TensorSpec([None], tf.float64),
            tf.TensorSpec([None], tf.float64),
            *(of_cord if with_cord else ()),
        ]
    )
    def measured(
        images, probabilities, mask, start, starts, is_present, near_edge, noise, removed_mm2, *of_cord
    ):
        cord = CordPrediction(of_cord[0], CORD_THRESHOLD, *of_cord[1:]) if with_cord else None
        return graph_features.slice_features(
            images,
            probabilities,
            graph_features.SliceBelow(mask, start),
            threshold=THRESHOLD,
            spacing_mm=SPACING_MM,
            starts=starts,
            is_present=is_present,
            unit=tf.constant(UNIT, tf.float64),
            near_edge=near_edge,
            noise=noise,
            voxel_mm=tf.constant(VOXEL_MM, tf.float64),
            removed_mm2=removed_mm2,
            cord=cord,
        )

    return measured


def assert_features_equal(
    chunk_features, images, probabilities, cord=None, *, seed=0, size=4, is_present=None
):
    """Features of a volume in chunks of `size` slices equal those of NumPy."""
    rng = np.random.default_rng(seed)
    n = len(images)
    images, probabilities = (np.asarray(each, np.float32) for each in (images, probabilities))
    starts = rng.integers(-40, 200, (n, 2)).astype(np.int32) // 10
    near_edge, noise, removed = rng.random(n) < 0.3, rng.random(n), rng.random(n)
    is_present = np.ones(n, bool) if is_present is None else np.array(is_present)
    of_cord = ()
    if cord is not None:
        has_cord = rng.random(n) < 0.8
        of_cord, is_present = (cord, has_cord, rng.random(n) < 0.3), is_present & has_cord
    below, found = graph_features.no_slice_below(images.shape[1:]), []
    for k in range(0, n, size):
        part = slice(k, k + size)
        features, below = chunk_features(
            images[part],
            probabilities[part],
            *below,
            starts[part],
            is_present[part],
            near_edge[part],
            noise[part],
            removed[part],
            *(each[part] for each in of_cord),
        )
        found.append(features.numpy())
    found = graph_features.compare_with_neighbours(tf.constant(np.concatenate(found))).numpy()
    expected = [
        slice_features(
            images[k],
            probabilities[k],
            SPACING_MM,
            threshold=THRESHOLD,
            origin=starts[k],
            unit=UNIT,
            near_edge=bool(near_edge[k]),
            noise=noise[k],
            voxel_mm=VOXEL_MM,
            removed_mm2=removed[k],
            within=cord[k] > CORD_THRESHOLD if cord is not None else None,
        )
        if is_present[k]
        else SliceFeatures(area_mm2=0.0)
        for k in range(n)
    ]
    if cord is not None:
        expected = [
            with_cord(
                one,
                cord[k] * has_cord[k],
                SPACING_MM,
                threshold=CORD_THRESHOLD,
                origin=starts[k],
                near_edge=bool(of_cord[2][k]),
            )
            for k, one in enumerate(expected)
        ]
    compare_with_neighbours(expected, 0, n, SPACING_MM)
    expected = as_matrix(expected)
    for column, name in enumerate(FEATURES):
        np.testing.assert_allclose(found[:, column], expected[:, column], rtol=1e-9, atol=1e-12, err_msg=name)
    return found


def soft(mask, rng):
    """Probabilities whose mask is the given one."""
    return np.where(mask, rng.uniform(0.51, 1, mask.shape), rng.uniform(0, 0.5, mask.shape)).astype(
        np.float32
    )


def blobs(rng, n, shape, sigma, share):
    noise = gaussian_filter(rng.normal(size=(n, *shape)), (0, sigma, sigma))
    return noise > np.quantile(noise, 1 - share)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("size", [1, 4, 16])
def test_features_of_random_masks(chunk_features, seed, size):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 12))
    shape = tuple(rng.integers(5, 70, 2))
    mask = blobs(rng, n, shape, rng.uniform(0, 4), rng.uniform(0.01, 0.4))
    mask[rng.random(n) < 0.2] = False
    images = rng.normal(size=mask.shape) + rng.uniform(-2, 2) * mask
    if seed % 2:
        images = np.round(images)  # many pixels of the gray matter and of its rim are equally bright
    assert_features_equal(
        chunk_features, images, soft(mask, rng), seed=seed, size=size, is_present=rng.random(n) < 0.9
    )


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("size", [1, 4])
def test_features_of_random_masks_in_random_cords(chunk_features_with_cord, seed, size):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 12))
    shape = tuple(rng.integers(20, 70, 2))
    cord = blobs(rng, n, shape, rng.uniform(2, 5), rng.uniform(0.1, 0.6))
    mask = blobs(rng, n, shape, rng.uniform(1, 4), rng.uniform(0.1, 0.4))
    for each in (cord, mask):
        each[rng.random(n) < 0.2] = False
    assert_features_equal(
        chunk_features_with_cord,
        rng.normal(size=mask.shape),
        soft(mask, rng),
        soft(cord, rng),
        seed=seed,
        size=size,
        is_present=rng.random(n) < 0.9,
    )


def masks_by_name():
    blank = np.zeros((30, 34), bool)

    def marked(*places):
        mask = blank.copy()
        for place in places:
            mask[place] = True
        return mask

    rows, columns = np.indices(blank.shape)
    ring = np.abs(np.hypot(rows - 15, columns - 15) - 8) < 1
    spiral = blank.copy()
    for turn in range(0, 12, 3):
        spiral[turn, turn : 30 - turn] = spiral[turn : 30 - turn, 30 - turn] = True
        spiral[29 - turn, turn + 3 : 30 - turn] = spiral[turn + 3 : 30 - turn, turn + 3] = True
    return {
        "empty": blank,
        "full": ~blank,
        "pixel": marked((12, 9)),
        "pixel in the first corner": marked((0, 0)),
        "pixel in the last corner": marked((29, 33)),
        "two pixels": marked((4, 4), (4, 5)),
        "opposite corners": marked((0, 0), (29, 33)),
        "row": marked((7, slice(3, 20))),
        "column": marked((slice(3, 21), 7)),
        "whole row at the edge": marked((0, slice(None))),
        "whole column at the edge": marked((slice(None), 33)),
        "diagonal": rows == columns,
        "other diagonal": rows + columns == 25,
        "knight's moves": (rows == 2 * (columns - 5)) & (columns >= 5),
        "square": marked((slice(4, 9), slice(4, 9))),
        "even square": marked((slice(4, 10), slice(4, 10))),
        "disc": np.hypot(rows - 14, columns - 14) <= 6,
        "disc between pixels": np.hypot(rows - 14.5, columns - 13.5) <= 6,
        "disc at the edge": np.hypot(rows - 1, columns - 32) <= 6,
        "ring": ring,
        "ring and a dot": ring | marked((15, 15)),
        "spiral": spiral,
        "chessboard": (rows + columns) % 2 == 0,
        "dots": (rows % 2 == 0) & (columns % 2 == 0),
        "stripes": rows % 3 == 0,
        "two equal pieces": marked((slice(2, 6), slice(2, 8)), (slice(20, 24), slice(2, 8))),
        "pieces that touch at a corner": marked((slice(2, 6), slice(2, 6)), (slice(6, 10), slice(6, 10))),
        "all but a pixel": ~marked((3, 3)),
    }


@pytest.mark.parametrize("order", ["as listed", "shuffled", "backwards"])
def test_features_of_special_masks(chunk_features, order):
    masks = list(masks_by_name().values())
    if order == "shuffled":
        masks = [masks[k] for k in np.random.default_rng(1).permutation(len(masks))]
    elif order == "backwards":
        masks = masks[::-1]
    rng = np.random.default_rng(2)
    masks = np.array(masks)
    images = rng.normal(size=masks.shape)
    assert_features_equal(chunk_features, images, soft(masks, rng))
    # Exact probabilities, and no contrast at all.
    assert_features_equal(chunk_features, np.full_like(images, 0.1), masks)


def test_features_of_special_masks_in_special_cords(chunk_features_with_cord):
    rng = np.random.default_rng(2)
    masks = np.array(list(masks_by_name().values()))
    images = rng.normal(size=masks.shape)
    for cord in (masks, masks[::-1], np.roll(masks, 5, axis=0)):
        assert_features_equal(chunk_features_with_cord, images, soft(masks, rng), soft(cord, rng))


def test_features_of_each_mask_alone(chunk_features):
    rng = np.random.default_rng(3)
    for mask in masks_by_name().values():
        assert_features_equal(chunk_features, rng.normal(size=(1, *mask.shape)), soft(mask[None], rng))


def test_features_next_to_other_types(chunk_features):
    """The largest contrasts and the darkest gray matter that a volume may have."""
    rng = np.random.default_rng(4)
    mask = blobs(rng, 6, (50, 50), 3, 0.1)
    for scale in (1e-9, -1.0, 1e4):
        assert_features_equal(
            chunk_features, scale * (mask + 0.1 * rng.normal(size=mask.shape)), soft(mask, rng)
        )


def test_features_of_synthetic_slices(chunk_features):
    subject = draw_subject(PhantomConfig(spacing_mm=SPACING_MM, matrix_size=200, n_slices=9), seed=5)
    images, truth = (
        np.moveaxis(np.asarray(each.dataobj, np.float64), 2, 0) for each in (subject.image, subject.mask)
    )
    assert truth.any(axis=(1, 2)).all()
    images = (images - images.mean()) / images.std()
    probabilities = gaussian_filter(truth, (0, 1, 1))
    found = assert_features_equal(chunk_features, images, probabilities)
    area_mm2 = found[:, FEATURES.index("area_mm2")]
    assert (area_mm2 > 3).all()
    of_cord = [name.startswith(("cord_", "gm_cord")) for name in FEATURES]
    assert np.isfinite(found[:, np.logical_not(of_cord)]).all()


@pytest.fixture(scope="module")
def noise_of_masks():
    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None, None], tf.float64),
            tf.TensorSpec([None, None, None], tf.bool),
            tf.TensorSpec([2], tf.float64),
        ]
    )
    def measured(slices, mask, spacing_mm):
        boxes = extents(mask)
        return boxes, graph_features.noise_level(slices, boxes, spacing_mm)

    return measured


@pytest.mark.parametrize(
    ("shape", "spacing_mm"),
    [
        ((40, 30), (0.5, 0.6)),
        ((300, 280), (0.05, 0.06)),
        ((3, 40), (0.5, 0.5)),
        ((2, 2), (0.5, 0.5)),
        ((4, 3), (0.2, 0.2)),
        ((1, 9), (1.2, 1.2)),
        ((200, 7), (0.1, 2.0)),
        ((33, 33), (1 / 3, 0.2)),
    ],
)
def test_noise(noise_of_masks, shape, spacing_mm):
    rng = np.random.default_rng(6)
    slices = rng.normal(100, 3, (5, *shape))
    slices[1] = np.round(slices[1])
    mask = np.zeros(slices.shape, bool)
    mask[0, shape[0] // 2, shape[1] // 2] = True
    mask[1, : shape[0] // 2 + 1, -1] = True
    mask[3] = True
    mask[4, 0, 0] = mask[4, -1, shape[1] // 2] = True
    boxes, found = noise_of_masks(slices, mask, np.array(spacing_mm))
    for k, part in enumerate(mask):
        places = np.argwhere(part)
        low, high = (places.min(axis=0), places.max(axis=0) + 1) if len(places) else (np.zeros(2, int),) * 2
        np.testing.assert_array_equal(boxes[k].numpy(), np.stack([low, high], axis=1))
        region = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
        expected = noise_level(slices[k], region, spacing_mm)
        np.testing.assert_allclose(found[k].numpy(), expected, rtol=1e-12)
    assert np.isnan(found[2].numpy())
