"""Containers of the deployment, from the compose files and the Kubernetes manifests."""

import pytest
import yaml
from deployment_files import COMPOSE_FILES, pod_of


@pytest.fixture(scope="module")
def compose():
    return {path.name: yaml.safe_load(path.read_text()) for path in COMPOSE_FILES}


@pytest.fixture(scope="module")
def container():
    (only,) = pod_of("deployment.yaml")["spec"]["containers"]
    return only


@pytest.fixture(scope="module")
def proxy_container():
    (only,) = pod_of("proxy.yaml")["spec"]["containers"]
    return only
