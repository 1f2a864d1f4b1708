"""Prometheus metrics of a client; needs the extra `metrics`."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

from keras_scgm_client import logs
from keras_scgm_client.answer import VERDICTS
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
        self._earlier: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        # Prometheus sees an increase only of what it has seen before.
        for outcome in ("ok", "refused", "unavailable", "error"):
            self._requests.labels(outcome)
        for verdict in VERDICTS:
            self._verdicts.labels(verdict)

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

    def go_on_from(self, path: Path) -> None:
        """Let the counters of the file go on from those of an earlier run; without a file they begin at 0.

        Raises:
            ClientError: The file cannot be read.
        """
        from prometheus_client.parser import text_string_to_metric_families

        try:
            families = list(text_string_to_metric_families(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return
        except OSError as error:
            raise ClientError(f"{path}: cannot be read ({error.strerror}); check --metrics-file") from error
        except Exception:
            # The parser has no error of its own.
            logs.say(logging.WARNING, f"{path}: not a file of metrics; the counters begin at 0")
            return
        samples = (sample for family in families for sample in family.samples)
        self._earlier = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}

    def collect(self) -> Iterator[Any]:
        """The metrics of the registry, with the counts of earlier runs."""
        for metric in self.registry.collect():
            metric.samples = [self._with_earlier(sample) for sample in metric.samples]
            yield metric

    def _with_earlier(self, sample: Any) -> Any:
        earlier = self._earlier.get((sample.name, frozenset(sample.labels.items())))
        if earlier is None:
            return sample
        is_time = sample.name.endswith("_created")
        return sample._replace(value=earlier if is_time else earlier + sample.value)

    def write(self, path: Path) -> None:
        """Write a file for the textfile collector of Prometheus' node exporter; an existing file is replaced.

        Raises:
            ClientError: The file cannot be written.
        """
        from prometheus_client import write_to_textfile

        try:
            write_to_textfile(str(path), self)
        except OSError as error:
            raise ClientError(
                f"{path}: cannot be written ({error.strerror}); check --metrics-file"
            ) from error
