"""Metrics of random masks against brute force and other libraries."""

import math
from itertools import permutations

import numpy as np
import pytest
from evaluation_helpers import same
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from keras_scgm.evaluation import (
    CHALLENGE_METRICS,
    challenge_metrics,
    fcn_metrics,
)


def brute_contour(mask):
    padded = np.pad(mask, 1)
    points = []
    for index in np.argwhere(mask):
        for axis in range(mask.ndim):
            for step in (-1, 1):
                neighbour = index + 1
                neighbour[axis] += step
                if not padded[tuple(neighbour)]:
                    points.append(tuple(index))
    return np.array(sorted(set(points))).reshape(-1, mask.ndim)


def brute_distances(prediction, reference):
    if not len(prediction) or not len(reference):
        return None
    matrix = cdist(prediction, reference)
    return matrix.min(axis=1), matrix.min(axis=0)


def brute_thin(mask):
    """Zhang and Suen (1984), pixel by pixel."""
    mask = np.pad(mask, 1).astype(int)
    changed = True
    while changed:
        changed = False
        for step in (0, 1):
            doomed = []
            for i, j in np.argwhere(mask):
                p = [mask[i - 1, j], mask[i - 1, j + 1], mask[i, j + 1], mask[i + 1, j + 1]]
                p += [mask[i + 1, j], mask[i + 1, j - 1], mask[i, j - 1], mask[i - 1, j - 1]]
                rises = sum(p[k] == 0 and p[(k + 1) % 8] == 1 for k in range(8))
                north, east, south, west = p[0], p[2], p[4], p[6]
                if step == 0:
                    free = north * east * south == 0 and east * south * west == 0
                else:
                    free = north * east * west == 0 and north * south * west == 0
                if 2 <= sum(p) <= 6 and rises == 1 and free:
                    doomed.append((i, j))
            for pixel in doomed:
                mask[pixel] = 0
            changed = changed or bool(doomed)
    return mask[1:-1, 1:-1] > 0


def brute_skeleton(mask, spacing_mm):
    sources = []
    for n_voxels, mm in zip(mask.shape, spacing_mm, strict=True):
        n_pixels = round(n_voxels * mm / 0.1)
        indices = [math.floor(j * n_voxels / n_pixels + 0.5) for j in range(n_pixels)]
        sources.append([min(index, n_voxels - 1) for index in indices])
    return np.argwhere(brute_thin(mask[np.ix_(*sources)])) * 0.1


def brute_challenge(prediction, reference, spacing_mm):
    surface = brute_distances(brute_contour(prediction) * spacing_mm, brute_contour(reference) * spacing_mm)
    SHD, SMD = [], []
    for k in range(prediction.shape[2]):
        pair = (brute_skeleton(mask[..., k], spacing_mm[:2]) for mask in (prediction, reference))
        both = brute_distances(*pair)
        if both:
            SHD.append(max(part.max() for part in both))
            SMD.append(max(np.median(part[part > 0]) if part.any() else 0 for part in both))
    return {
        "MSD": np.mean(np.concatenate(surface)) if surface else np.nan,
        "HSD": max(part.max() for part in surface) if surface else np.nan,
        "SHD": np.mean(SHD) if SHD else np.nan,
        "SMD": np.mean(SMD) if SMD else np.nan,
    }


@st.composite
def blobs(draw):
    """Two overlapping masks of discs, some of them touching the edge, and an anisotropic spacing."""
    shape = draw(st.tuples(st.integers(3, 11), st.integers(3, 11), st.integers(1, 4)))
    spacing_mm = draw(st.tuples(*(st.sampled_from([0.2, 0.25, 0.3, 0.35, 0.5]),) * 2, st.floats(0.3, 8)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    grid = np.indices(shape).reshape(3, -1).T
    pair = []
    for _ in range(2):
        centers, radii = rng.uniform(0, shape, (4, 3)), rng.uniform(0.8, 3.5, 4)
        pair.append((cdist(grid, centers) < radii).any(axis=1).reshape(shape))
    return *pair, spacing_mm


@settings(max_examples=50, deadline=None, derandomize=True, database=None)
@given(blobs())
def test_random_masks_agree_with_brute_force(case):
    prediction, reference, spacing_mm = case
    values = challenge_metrics(prediction, reference, spacing_mm)
    for metric, value in brute_challenge(prediction, reference, spacing_mm).items():
        same(values[metric], value)

    for order in permutations(range(3)):
        turned = challenge_metrics(
            prediction.transpose(order), reference.transpose(order), [spacing_mm[axis] for axis in order]
        )
        for metric in set(CHALLENGE_METRICS) - {"SHD", "SMD"}:
            same(turned[metric], values[metric])

    field = np.zeros((2, 90, 110, 20), bool)
    rows, columns, slices = prediction.shape
    field[:, 40 : 40 + rows, 70 : 70 + columns, 9 : 9 + slices] = prediction, reference
    large = challenge_metrics(*field, spacing_mm)
    for metric in ("DSC", "TPR", "PPV", "JI", "CC", "HSD", "MSD"):
        same(large[metric], values[metric])

    swapped = challenge_metrics(reference, prediction, spacing_mm)
    same(swapped["TPR"], values["PPV"])
    for metric in ("DSC", "JI", "CC", "MSD", "HSD", "SHD", "SMD"):
        same(swapped[metric], values[metric])


@settings(max_examples=50, deadline=None, derandomize=True, database=None)
@given(blobs())
def test_random_slices_agree_with_scikit_learn(case):
    sklearn = pytest.importorskip("sklearn.metrics")
    prediction, reference, _ = case
    values = fcn_metrics(prediction, reference)
    truth, found = reference.ravel(), prediction.ravel()
    both = [False, True]
    same(values["pixel_accuracy"], sklearn.accuracy_score(truth, found))
    if truth.any() and not truth.all():
        same(values["recall"], sklearn.recall_score(truth, found))
        same(values["mean_accuracy"], sklearn.balanced_accuracy_score(truth, found))
        same(values["dice"], sklearn.f1_score(truth, found))
        same(values["mean_iu"], sklearn.jaccard_score(truth, found, labels=both, average="macro"))
        same(values["fw_iu"], sklearn.jaccard_score(truth, found, labels=both, average="weighted"))
    if found.any():
        same(values["precision"], sklearn.precision_score(truth, found))


@settings(max_examples=50, deadline=None, derandomize=True, database=None)
@given(blobs())
def test_random_surfaces_agree_with_mikan(case):
    mikan = pytest.importorskip("mikan", exc_type=ImportError)
    prediction, reference, spacing_mm = case
    if not (prediction.any() and reference.any()):
        return
    values = challenge_metrics(prediction, reference, spacing_mm)
    # Its arrays have the axes in reverse, and it wants a rim of background.
    arrays = (np.pad(mask, 1).astype(np.uint8).T.copy() for mask in (reference, prediction))
    theirs = mikan.ArrayEvaluator(*arrays, spacing_mm).labels(1).metrics(["hausdorff_distance", "assd"])
    same([values["HSD"], values["MSD"]], theirs)


@settings(max_examples=50, deadline=None, derandomize=True, database=None)
@given(blobs())
def test_random_surfaces_agree_with_grand_challenge_metrics(case):
    stats = pytest.importorskip("grand_challenge_metrics.stats")
    prediction, reference, spacing_mm = case
    if prediction.any() and reference.any():
        theirs = stats.hausdorff_distance(prediction, reference, voxelspacing=spacing_mm, connectivity=1)
        same(challenge_metrics(prediction, reference, spacing_mm)["HSD"], theirs)
