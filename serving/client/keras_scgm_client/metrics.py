"""Prometheus metrics of a client; needs the extra `metrics`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

from keras_scgm_client.errors import ClientError, ImageError, ServerUnavailable, SettingsError

BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
"""Seconds."""


class Metrics:
    """Counters of requests and verdicts, and request durations.

    Args:
        registry: Registry of prometheus_client; a new one if None.

    Raises:
        SettingsError: Prometheus_client is not installed.
    """

    def __init__(self, registry: Any = None) -> None:
        try:
            from prometheus_client import CollectorRegistry, Counter, Histogram
        except ImportError as error:
            raise SettingsError(
                "metrics need prometheus_client, which is not installed; pip install 'keras-scgm-client[metrics]'"
            ) from error
        self.registry = CollectorRegistry() if registry is None else registry
        self._requests = Counter(
            "scgm_client_requests",
            "Requests for a segmentation: ok, refused, unavailable or error",
            ["outcome"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "scgm_client_request_seconds",
            "From the request to its answer or error",
            buckets=BUCKETS,
            registry=self.registry,
        )
        self._verdicts = Counter(
            "scgm_client_verdicts", "Verdicts of written results", ["verdict"], registry=self.registry
        )

    @contextmanager
    def request(self) -> Iterator[None]:
        """Count and time a request."""
        started = monotonic()
        outcome = "error"
        try:
            yield
            outcome = "ok"
        except ImageError:
            outcome = "refused"
            raise
        except ServerUnavailable:
            outcome = "unavailable"
            raise
        finally:
            self._requests.labels(outcome).inc()
            self._seconds.observe(monotonic() - started)

    def verdict(self, verdict: str) -> None:
        """Count a result that was written."""
        self._verdicts.labels(verdict).inc()

    def write(self, path: Path) -> None:
        """Write a file for the textfile collector of Prometheus' node exporter; an existing file is replaced.

        Raises:
            ClientError: The file cannot be written.
        """
        from prometheus_client import write_to_textfile

        try:
            write_to_textfile(str(path), self.registry)
        except OSError as error:
            raise ClientError(
                f"{path}: cannot be written ({error.strerror}); check --metrics-file"
            ) from error
