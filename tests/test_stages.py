"""Stages of the networks, by which layers are frozen."""

from keras_scgm.models import DilatedGMNet, DilatedGMNet3D, UNet, stages


def normalizations(*numbers):
    return {f"batch_normalization_{number}" for number in numbers}


def test_stages_of_the_papers_network():
    found = {
        stage: set(names) for stage, names in stages(DilatedGMNet(filters=2, dilation_rates=(6, 12))).items()
    }
    assert found == {
        "conv2d": {"conv2d_1", "conv2d_2"} | normalizations(1, 2),
        "rate2": {"rate2_1", "rate2_2"} | normalizations(3, 4),
        "branches": {"branch1x1_1", "branch1x1_2", "rate6_1", "rate6_2", "rate12_1", "rate12_2"}
        | normalizations(5, 6, 7, 8, 9, 10, 11),
        "amort": {"amort"} | normalizations(12),
        "predictions": {"predictions"},
    }


def test_stages_of_the_network_of_stacks_are_those_of_the_papers():
    assert stages(DilatedGMNet3D(filters=2)) == stages(DilatedGMNet(filters=2))


def test_stages_of_the_unet():
    found = stages(UNet(filters=2))
    assert list(found) == [
        *("encoder1", "encoder2", "encoder3", "bottom", "decoder3", "decoder2", "decoder1", "predictions")
    ]
    assert set(found["decoder3"]) == {"decoder3_1", "decoder3_2"} | normalizations(9, 10)


def test_every_layer_with_weights_is_in_one_stage():
    for model in (DilatedGMNet(filters=2), UNet(filters=2), DilatedGMNet(filters=2, include_top=False)):
        names = [name for stage in stages(model).values() for name in stage]
        assert sorted(names) == sorted(layer.name for layer in model.layers if layer.weights)
