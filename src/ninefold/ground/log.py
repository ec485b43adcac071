"""Ninefold's own log: one line of JSON a record to a pipe, readable text to a terminal.

WARNING means nothing was lost; ERROR means data was lost or a component stopped.
"""

from __future__ import annotations

import logging
import sys

import orjson


class JsonLines(logging.Formatter):
    """One JSON object a line, in OpenTelemetry's words."""

    def format(self, record: logging.LogRecord) -> str:
        """The line for one record; an exception becomes `exception.message`, its stack goes to debug level only."""
        line: dict[str, object] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "severity_text": record.levelname,
            "logger": record.name,
            "body": record.getMessage(),
        }
        if record.exc_info and record.exc_info[1] is not None:
            line["exception.type"] = type(record.exc_info[1]).__name__
            line["exception.message"] = str(record.exc_info[1])
        return orjson.dumps(line).decode()


def setup(level: str = "INFO") -> None:
    """Send the `ninefold` loggers to standard error at `level`."""
    handler = logging.StreamHandler(sys.stderr)
    if sys.stderr.isatty():
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%H:%M:%S"))
    else:
        handler.setFormatter(JsonLines())
    root = logging.getLogger("ninefold")
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    root.propagate = False


def get(name: str) -> logging.Logger:
    """The logger of one component, e.g. ``get("journal")`` is `ninefold.journal`."""
    return logging.getLogger(f"ninefold.{name}")
