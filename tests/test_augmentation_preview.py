"""The picture of an augmentation."""

import numpy as np
import pytest
from augmented_slices import SIZE, hard_masks, slices_of
from PIL import Image

from keras_scgm.augmentation import (
    PRESETS,
    preview,
)


def test_preview_writes_the_same_picture_again(tmp_path):
    images, masks = slices_of(*SIZE, count=6), hard_masks(*SIZE, count=6)
    masks[0] = 0
    for name in ("a.png", "b.png"):
        preview(images, masks, PRESETS["strong"], 1, tmp_path / name)
    content = (tmp_path / "a.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    assert content == (tmp_path / "b.png").read_bytes()
    with pytest.raises(
        ValueError, match=r"at least one slice, received \(6, 40, 48, 1\) and \(5, 40, 48, 1\)"
    ):
        preview(images, masks[:5], PRESETS["strong"], 1, tmp_path / "c.png")


def test_a_title_stands_above_the_slices(tmp_path):
    images, masks = slices_of(*SIZE, count=1), hard_masks(*SIZE, count=1)
    for path, title in ((tmp_path / "plain.png", None), (tmp_path / "named.png", "strong, seed 1")):
        preview(images, masks, PRESETS["strong"], 1, path, title)
    plain, named = (
        np.asarray(Image.open(tmp_path / f"{name}.png").convert("L")) for name in ("plain", "named")
    )
    n_rows = len(named) - len(plain)
    assert n_rows > 0
    assert named[:n_rows].max() > 200
    assert named.shape[1] == plain.shape[1]
