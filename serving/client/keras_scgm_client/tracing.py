"""OpenTelemetry spans of requests, if its API is installed (extra `tracing`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

try:
    from opentelemetry import propagate, trace
except ImportError:  # pragma: no cover
    _INSTALLED = False
else:
    _INSTALLED = True


@contextmanager
def request_span(name: str, attributes: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Open a span of the program's tracer, and yield headers that link the server's spans to it (W3C `traceparent`)."""
    headers: dict[str, str] = {}
    if not _INSTALLED:
        yield headers
        return
    tracer = trace.get_tracer("keras_scgm_client")
    with tracer.start_as_current_span(name, kind=trace.SpanKind.CLIENT, attributes=attributes):
        propagate.inject(headers)
        yield headers
