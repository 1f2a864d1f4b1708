"""Which models, versions and labels the development server loads."""

import keras_scgm_devserver as dev_server
import numpy as np
import pytest
from requests_to_server import IMAGE, VOXELS
from tiny_serving import save_tiny_models

from keras_scgm.errors import InputError
from keras_scgm.export.warmup import WarmupRequest, write_warmup


def test_versions_policies_and_labels(tmp_path):
    save_tiny_models(tmp_path, 1, threshold=100)
    save_tiny_models(tmp_path, 2, threshold=200)
    assert set(dev_server.Catalogue.load(tmp_path).models["gm_nifti"].versions) == {2}
    assert set(dev_server.Catalogue.load(tmp_path / "gm_nifti").models) == {"gm_nifti"}
    config = tmp_path / "models.config"
    config.write_text(
        'model_config_list { config { name: "gm" base_path: "/models/gm_nifti" model_platform: "tensorflow" '
        "model_version_policy { specific { versions: 1 versions: 2 } } "
        'version_labels { key: "stable" value: 1 } version_labels { key: "canary" value: 2 } } }'
    )
    catalogue = dev_server.Catalogue.load(tmp_path, config)
    image = {"nifti_bytes": np.array([IMAGE], object)}
    for label, threshold in (("stable", 100), ("canary", 200), ("", 200)):
        areas = catalogue.version("gm", label=label).predict("", image)["area_mm2"]
        np.testing.assert_array_equal(areas[0], (threshold < VOXELS).sum((0, 1)))
    assert [status.version for status in catalogue.status("gm").model_version_status] == [2, 1]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("model_config_list {", "not a models.config of TensorFlow Serving"),
        ("", "names no model"),
        (
            'model_config_list { config { name: "gm" base_path: "/models/none" } }',
            "holds no numbered version of gm",
        ),
        (
            'model_config_list { config { name: "gm" base_path: "/models/gm_nifti" '
            "model_version_policy { specific { versions: 7 } } } }",
            "version 7 of gm is missing",
        ),
    ],
)
def test_configurations_that_cannot_be_served(models, tmp_path, config, message):
    (tmp_path / "models.config").write_text(config)
    with pytest.raises(InputError, match=message):
        dev_server.Catalogue.load(models, tmp_path / "models.config")


def test_folders_that_cannot_be_served(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        dev_server.Catalogue.load(tmp_path / "none")
    with pytest.raises(InputError, match="holds no model with a numbered version"):
        dev_server.Catalogue.load(tmp_path)
    (tmp_path / "gm" / "1").mkdir(parents=True)
    with pytest.raises(InputError, match="cannot be loaded"):
        dev_server.Catalogue.load(tmp_path)


def test_warm_up_requests_that_fail_or_are_damaged_stop_the_load(tmp_path):
    folder = save_tiny_models(tmp_path) / "gm_nifti" / "1"
    path = write_warmup(folder, "gm_nifti", [WarmupRequest({"nifti_bytes": np.array([b"no image"], object)})])
    with pytest.raises(InputError, match="a warm-up request fails"):
        dev_server.Catalogue.load(tmp_path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="tf_serving_warmup_requests: damaged; export the model again"):
        dev_server.Catalogue.load(tmp_path)
