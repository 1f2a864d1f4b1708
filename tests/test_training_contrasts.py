"""Which contrasts a card names, from the training to the verdict."""

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from tiny_training import TINY, steps_untraced

from keras_scgm import InputError, messages, segment
from keras_scgm.augmentation import AugmentationConfig
from keras_scgm.datasets import AnnotatedSlices
from keras_scgm.datasets.phantom import DomainConfig, draw_slices
from keras_scgm.datasets.phantom.contrast import CONTRASTS, dark_share
from keras_scgm.files import sha256_of
from keras_scgm.prediction import Ensemble
from keras_scgm.pretrained import BRIGHT, DARK, WeightsCard, card_path
from keras_scgm.quality.verdicts import UNKNOWN_CONTRAST
from keras_scgm.training import SliceBatches, SyntheticBatches, train
from keras_scgm.training.contrasts import learned_contrasts, measured_dark_share


def drawn(contrast: str, n: int = 6, empty: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    weights = tuple(float(name == contrast) for name in CONTRASTS)
    config = DomainConfig(contrast_weights=weights, empty=empty, contrast_to_noise=(10.0, 25.0))
    images, masks, _ = draw_slices(n, seed=4, size=64, config=config)
    images = (images - images.mean((1, 2), keepdims=True)) / images.std((1, 2), keepdims=True)
    return images[..., None], masks[..., None]


@pytest.fixture
def in_memory(drawn_slices: AnnotatedSlices) -> Callable[..., AnnotatedSlices]:
    """Slices as they are loaded, each argument of a volume of its own."""

    def joined(*parts: tuple[np.ndarray, np.ndarray]) -> AnnotatedSlices:
        images, masks = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        numbers = np.arange(len(images))
        volumes = np.repeat(np.arange(len(parts)), [len(images) for images, _ in parts])
        indices = {"volume_indices": volumes, "rater_indices": 0 * numbers, "slice_indices": numbers}
        return replace(drawn_slices, images=images, masks=masks, **indices)

    return joined


@pytest.mark.parametrize(
    ("dark", "inverted", "expected"),
    [
        (0.0, 0.0, (BRIGHT,)),
        (0.09, 0.0, (BRIGHT,)),
        (0.11, 0.0, (BRIGHT, DARK)),
        (0.89, 0.0, (BRIGHT, DARK)),
        (0.91, 0.0, (DARK,)),
        (1.0, 0.0, (DARK,)),
        (0.0, 0.11, (BRIGHT, DARK)),
        (1.0, 0.11, (BRIGHT, DARK)),
        (1.0, 1.0, (BRIGHT,)),
    ],
)
def test_a_contrast_is_learned_from_a_tenth_of_the_slices_on(dark, inverted, expected):
    assert learned_contrasts(dark, inverted) == expected


@pytest.mark.parametrize(("contrast", "expected"), [("t2star", (BRIGHT,)), ("psir", (DARK,))])
def test_the_contrasts_of_slices_are_measured_in_them(in_memory, contrast, expected):
    slices = in_memory(drawn(contrast))
    assert SliceBatches(slices).contrasts(TINY) == expected
    inverted = replace(TINY, augmentation=AugmentationConfig(inversion_probability=0.3))
    assert SliceBatches(slices).contrasts(inverted) == (BRIGHT, DARK)


def test_slices_of_both_contrasts_and_of_none(in_memory):
    both = in_memory(drawn("t2star"), drawn("psir", n=3))
    assert SliceBatches(both).contrasts(TINY) == (BRIGHT, DARK)
    images, masks = drawn("psir")
    assert SliceBatches(in_memory((images, 0 * masks))).contrasts(TINY) == (BRIGHT,)


def test_shares_of_synthetic_contrasts_are_those_of_their_slices(in_memory):
    for contrast in CONTRASTS:
        images, masks = drawn(contrast, n=40)
        alone = in_memory(*((images[k : k + 1], masks[k : k + 1]) for k in range(len(images))))
        assert measured_dark_share(alone) == pytest.approx(dark_share(contrast), abs=0.15)


def test_contrasts_of_synthetic_batches():
    assert SyntheticBatches().contrasts(TINY) == (BRIGHT, DARK)
    of_one = {
        name: DomainConfig(contrast_weights=tuple(3.0 * (name == each) for each in CONTRASTS))
        for name in CONTRASTS
    }
    for contrast, expected in (("mt", (BRIGHT,)), ("psir", (DARK,)), ("random", (BRIGHT, DARK))):
        batches = SyntheticBatches(domain=of_one[contrast], inverted=0.0)
        assert batches.contrasts(TINY) == expected
    assert SyntheticBatches(domain=of_one["mt"], inverted=0.2).contrasts(TINY) == (BRIGHT, DARK)


def test_the_card_of_a_training_names_them(in_memory, tmp_path):
    config = replace(TINY, window_px=64, epochs=1, steps_per_epoch=1)
    with steps_untraced():
        result = train(config, SliceBatches(in_memory(drawn("psir"))), tmp_path)
    assert json.loads(card_path(result.last).read_text())["contrasts"] == [DARK]


def of_contrasts(network, folder, *contrasts):
    path = folder / f"{contrasts[-1].split()[0]}.keras"
    network.save(path)
    card = WeightsCard(path.stem, "bright", {}, path.name, sha256_of(path), contrasts=contrasts)
    card_path(path).write_text(card.to_json())
    return path


def test_bright_gray_matter_is_doubted_for_weights_that_know_dark_alone(tmp_path, bright_network, blob_image):
    dark = of_contrasts(bright_network, tmp_path, DARK)
    result = segment(blob_image(), dark)
    assert messages.UNKNOWN_CONTRAST[1] in result.warnings
    assert {one.reason for one in result.quality.slices} == {UNKNOWN_CONTRAST[1]}
    both = segment(blob_image(), of_contrasts(bright_network, tmp_path, DARK, BRIGHT))
    assert messages.UNKNOWN_CONTRAST[1] not in both.warnings


def test_an_ensemble_knows_what_all_its_networks_know(tmp_path, bright_network):
    dark = of_contrasts(bright_network, tmp_path, DARK)
    bright = of_contrasts(bright_network, tmp_path, DARK, BRIGHT)
    assert [Ensemble(weights).unknown_contrast for weights in (dark, bright, [dark, bright])] == [1, 0, 1]
    with pytest.raises(
        InputError, match=r"different contrasts .* \(dark: dark gray matter; bright: bright gray matter\)"
    ):
        Ensemble([dark, bright_network])
