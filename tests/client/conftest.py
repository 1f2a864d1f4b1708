"""Servers, images and the command for the tests of the client."""

import keras_scgm_devserver as dev_server
import pytest
from keras_scgm_client.cli import main
from tiny_serving import nifti_bytes, random_voxels, save_tiny_models


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    return save_tiny_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def address(models):
    with dev_server.serve(dev_server.Catalogue.load(models), rest_port=0, grpc_port=0) as started:
        yield started


@pytest.fixture(params=["rest", "grpc"])
def url(request, address):
    return address.rest_url if request.param == "rest" else f"grpc://{address.grpc}"


@pytest.fixture(scope="session")
def old_address(tmp_path_factory):
    """A server of an export without verdicts, whose `soft` has a single output."""
    folder = save_tiny_models(tmp_path_factory.mktemp("old"), is_old=True)
    with dev_server.serve(dev_server.Catalogue.load(folder), rest_port=0, grpc_port=0) as started:
        yield started


@pytest.fixture(params=["rest", "grpc"])
def old_url(request, old_address):
    return old_address.rest_url if request.param == "rest" else f"grpc://{old_address.grpc}"


@pytest.fixture
def images(tmp_path):
    """in/0.nii.gz to in/deep/3.nii.gz."""
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    for k in range(4):
        path = folder / "deep" / f"{k}.nii.gz" if k % 2 else folder / f"{k}.nii.gz"
        path.write_bytes(nifti_bytes(random_voxels(k), compress=True))
    return folder


@pytest.fixture
def image(images):
    return images / "0.nii.gz"


@pytest.fixture
def run(capsys):
    """Calls the command: (exit code, standard output, standard error)."""

    def call(*arguments):
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        return stop.value.code or 0, *capsys.readouterr()

    return call
