"""The network of stacks: what it sees, and what it has from the network of slices."""

import keras
import numpy as np
import pytest

from keras_scgm.datasets.phantom import DomainConfig, draw_stacks
from keras_scgm.errors import InputError
from keras_scgm.models import DilatedGMNet, DilatedGMNet3D, UNet, load_model, preprocess_input

pytestmark = pytest.mark.usefixtures("untraced")


@pytest.fixture(scope="module")
def stack():
    """A drawn stack of slices of the neck, (1, 4, 64, 64, 1)."""
    config = DomainConfig(empty=0.0, off_centre_mm=1.0, region_weights=(1, 0, 0))
    drawn, _, _ = draw_stacks(1, 4, seed=2, size=64, config=config)
    return preprocess_input(drawn[0])[np.newaxis]


def averaging(**arguments):
    """A network whose convolutions are means of what they see, without the pooled features."""
    model = DilatedGMNet3D(filters=2, include_top=False, **arguments)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv3D):
            kernel, bias = layer.get_weights()
            kernel[:] = 1
            if layer.name == "amort":
                kernel[..., -4:-2, :] = 0
            layer.set_weights([kernel, bias])
    return model


def test_receptive_field_is_the_documented_one():
    """An impulse reaches what sees it: two slices on either side, and the square of the network of slices."""
    reach = 13 + 4 * 3
    impulse = np.zeros((1, 7, reach + 4, reach + 4, 1), "float32")
    impulse[0, 3, reach // 2 + 2, reach // 2 + 2] = 1
    reached = np.argwhere(averaging(dilation_rates=(1, 3)).predict(impulse, verbose=0)[0].any(axis=-1))
    np.testing.assert_array_equal(reached.min(axis=0), [1, 2, 2])
    np.testing.assert_array_equal(reached.max(axis=0), [5, reach + 1, reach + 1])
    documented = " ".join(DilatedGMNet3D.__doc__.split())
    assert "sees 5 slices, two on either side" in documented
    assert "13 + 4 * max(dilation_rates) input pixels: 109 pixels" in documented


def test_inflated_weights_give_each_slice_what_the_network_of_slices_gives(stack):
    slices, stacks = load_model("synthetic"), DilatedGMNet3D(weights="synthetic")
    expected = slices.predict(stack[0], verbose=0)
    assert expected[..., 0].max() > 0.9
    np.testing.assert_allclose(stacks.predict(stack, verbose=0)[0], expected, atol=1e-5)
    kernel, flat = (model.get_layer("amort").get_weights()[0] for model in (stacks, slices))
    np.testing.assert_array_equal(kernel[1], flat)
    assert not kernel[[0, 2]].any()
    assert stacks.count_params() - slices.count_params() == 2 * (9 * 32 * 32 + 192 * 64)


def test_inflated_weights_adapt_to_channels_and_classes_as_those_of_slices(stack):
    rgb = DilatedGMNet3D(weights="synthetic", input_shape=(None, None, None, 3), classes=3)
    assert rgb.output_shape == (None, None, None, None, 3)
    gray = DilatedGMNet3D(weights="synthetic", include_top=False)
    features = keras.Model(rgb.input, rgb.get_layer("predictions").input)
    x = stack[:, :2, :24, :24]
    np.testing.assert_allclose(
        features.predict(x.repeat(3, axis=-1), verbose=0), gray.predict(x, verbose=0), rtol=1e-3, atol=1e-3
    )


def test_a_slice_of_zeros_is_no_end_of_the_stack():
    """Past the end the features are zeros; those of a slice of zeros are what the biases give."""
    keras.utils.set_random_seed(0)
    model = DilatedGMNet3D(filters=2, dilation_rates=(1,))
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv3D):
            kernel, bias = layer.get_weights()
            layer.set_weights([kernel, bias + 0.5])
    x = np.random.default_rng(0).normal(size=(1, 2, 8, 8, 1)).astype("float32")
    longer = np.concatenate([x, np.zeros_like(x)], axis=1)
    alone, beside = model.predict(x, verbose=0), model.predict(longer, verbose=0)[:, :2]
    assert np.abs(alone - beside).max() > 1e-3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weights": "synthetic_unet"}, "needs the architecture UNet, received DilatedGMNet3D"),
        ({"weights": "synthetic", "filters": 16}, "needs filters=32, received 16"),
        (
            {"input_shape": (64, 64, 1)},
            r"input_shape must be \(slices, height, width, channels\) of positive",
        ),
        ({"input_tensor": keras.Input((8, 8, 1))}, r"of floats, \(batch, slices, height, width, channels\)"),
    ],
)
def test_what_it_refuses(arguments, message):
    with pytest.raises(InputError, match=message):
        DilatedGMNet3D(**arguments)


def test_weights_of_stacks_do_not_fit_networks_of_slices(tmp_path):
    path = tmp_path / "stacks.weights.h5"
    DilatedGMNet3D(filters=2).save_weights(path)
    with pytest.raises(InputError, match=r"layer 'conv2d_1' has shapes \(1, 3, 3, 1, 2\)"):
        DilatedGMNet(filters=2, weights=path)
    with pytest.raises(InputError, match="has no layer 'encoder1_1'"):
        UNet(filters=2, weights=path)
