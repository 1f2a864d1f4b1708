"""How much the development server accepts from its callers."""

from __future__ import annotations

from dataclasses import dataclass

THREADS = 32
"""Threads of the REST server, and as many of the gRPC server."""


@dataclass(frozen=True)
class Limits:
    """Limits of connections and requests.

    Args:
        connections: Open REST connections (further ones wait until one is closed), and concurrent gRPC calls
            (further ones are refused).
        idle_seconds: Seconds after which a connection is closed that neither sends nor has a request in progress.
        body_bytes: Largest request body, bytes.
    """

    connections: int = 100
    idle_seconds: int = 30
    body_bytes: int = 2**28
