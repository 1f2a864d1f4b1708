"""Messages of the command: lines of text, or JSON for a log collector."""

from __future__ import annotations

import json
import logging
import sys
import unicodedata
from datetime import UTC, datetime
from typing import Any

_OBEYED = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode categories: controls, formats such as the direction of writing, surrogates, ends of lines and paragraphs."""

LOG = logging.getLogger("keras_scgm_client")


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, message, and the fields of the event."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC)
        entry = {
            "time": time.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps({name: value for name, value in entry.items() if value is not None})


class _TextHandler(logging.Handler):
    """Writes results to standard output, warnings and errors with their level to standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno <= logging.INFO:
            print(_printable(record.getMessage()), flush=True)
            return
        fields = getattr(record, "fields", {})
        request = f" (request {fields['request_id']})" if fields.get("request_id") else ""
        message = f"{record.levelname.lower()}: {record.getMessage()}{request}"
        print(_printable(message), file=sys.stderr, flush=True)


def _printable(text: str) -> str:
    """Text in one line, with escapes for what a terminal would obey: servers and names of files can hold it."""
    return "".join(ascii(one)[1:-1] if unicodedata.category(one) in _OBEYED else one for one in text)


def configure(form: str) -> None:
    """Write the package's log to standard output and standard error.

    Args:
        form: "text" or "json"; JSON is written to standard error.
    """
    handler: logging.Handler = _TextHandler()
    if form == "json":
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(JsonFormatter())
    LOG.handlers = [handler]
    LOG.setLevel(logging.INFO)
    LOG.propagate = False


def say(level: int, message: str, **fields: Any) -> None:
    """Log an event with fields, such as `image` and `request_id`."""
    LOG.log(level, message, extra={"fields": fields})
