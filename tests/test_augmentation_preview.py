"""The picture of an augmentation."""

import pytest
from augmented_slices import SIZE, hard_masks, slices_of

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
