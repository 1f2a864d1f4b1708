"""Starts and stops the development server."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from keras_scgm_devserver.limits import Limits
from keras_scgm_devserver.models import Catalogue
from keras_scgm_devserver.rest import serve_rest
from keras_scgm_devserver.rpc import serve_rpc


@dataclass(frozen=True)
class Address:
    """Addresses of a running server.

    Args:
        rest_url: `http://HOST:PORT`.
        grpc: `HOST:PORT`.
    """

    rest_url: str
    grpc: str


@contextmanager
def serve(
    catalogue: Catalogue,
    host: str = "127.0.0.1",
    rest_port: int = 8501,
    grpc_port: int = 8500,
    limits: Limits | None = None,
) -> Iterator[Address]:
    """Answer REST and gRPC requests, in threads, until the context ends; one request per core is computed at a time.

    Args:
        catalogue: The models.
        host: Address to listen on. The server has no access control, so other machines should not reach it.
        rest_port: REST port, by default that of TensorFlow Serving; 0 selects a free port.
        grpc_port: GRPC port, by default that of TensorFlow Serving; 0 selects a free port.
        limits: Limits of connections and requests.

    Raises:
        InputError: A port is in use.
    """
    gate = threading.BoundedSemaphore(os.cpu_count() or 1)
    limits = limits or Limits()
    with (
        serve_rpc(catalogue, gate, host, grpc_port, limits) as rpc,
        serve_rest(catalogue, gate, host, rest_port, limits) as rest,
    ):
        yield Address(f"http://{host}:{rest}", f"{host}:{rpc}")
