"""A receiver, a server and a running gateway."""

import keras_scgm_devserver as dev_server
import pytest
from dicom_peers import Process, Receiver, Relay
from pynetdicom.transport import AssociationSocket
from tiny_serving import save_tiny_models


@pytest.fixture
def receiver():
    receiver = Receiver()
    receiver.start()
    yield receiver
    receiver.stop()


@pytest.fixture(scope="session", autouse=True)
def closed_sockets():
    """pynetdicom leaves the socket of a connection that was cut off to the garbage collector."""
    leave = AssociationSocket._shutdown_socket

    def close(connection):
        leave(connection)
        if connection.socket is not None:
            connection.socket.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AssociationSocket, "_shutdown_socket", close)
        yield


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    models = save_tiny_models(tmp_path_factory.mktemp("models"))
    with dev_server.serve(dev_server.Catalogue.load(models), rest_port=0, grpc_port=0) as address:
        yield address.rest_url


@pytest.fixture
def relay(server):
    relay = Relay(server)
    relay.start()
    yield relay
    relay.free.set()
    relay.stop()


@pytest.fixture
def gateway(tmp_path, relay, receiver):
    with Process(tmp_path, relay, receiver) as gateway:
        yield gateway
