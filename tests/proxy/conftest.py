"""nginx in front of the development server."""

import keras_scgm_devserver as dev_server
import pytest
import trustme
from nginx_proxy import Proxy, binary
from tiny_serving import nifti_bytes, random_voxels, save_tiny_models


@pytest.fixture(scope="session")
def authority():
    return trustme.CA()


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    return save_tiny_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session", params=["installed", "wheel"])
def nginx(request):
    binary(request.param)
    return request.param


@pytest.fixture(scope="session")
def server(models):
    """host:port of REST and of gRPC."""
    with dev_server.serve(dev_server.Catalogue.load(models), rest_port=0, grpc_port=0) as started:
        yield started.rest_url.removeprefix("http://"), started.grpc


@pytest.fixture(scope="session")
def proxy(nginx, server, authority):
    with Proxy(nginx, *server, authority).running() as started:
        yield started


@pytest.fixture(scope="session")
def alice(proxy):
    return proxy.add_token("alice")


@pytest.fixture(params=["rest", "grpc"])
def url(request, proxy):
    return proxy.rest_url if request.param == "rest" else proxy.rpc_url


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "t2s.nii.gz"
    path.write_bytes(nifti_bytes(random_voxels(0), compress=True))
    return path
