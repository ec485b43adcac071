"""Severity: four words for people, OpenTelemetry's numbers 1 to 24 for machines, the raw value always kept beside them."""

from __future__ import annotations

SEVERITIES = ("critical", "high", "warning", "info")
"""The words of events, worst first."""

_WORDS = {
    "critical": ("critical", "crit", "fatal", "emergency", "emerg", "alert", "disaster", "p1", "sev1", "page", "1", "down", "blocker"),
    "high": ("high", "error", "err", "major", "p2", "sev2", "severe", "2"),
    "warning": ("warning", "warn", "minor", "average", "p3", "sev3", "moderate", "medium", "3"),
    "info": ("info", "information", "informational", "notice", "low", "debug", "trace", "ok", "clear", "none", "p4", "p5", "4", "5"),
}
_TO_WORD = {raw: word for word, raws in _WORDS.items() for raw in raws}
NUMBER = {"critical": 21, "high": 17, "warning": 13, "info": 9}

_LOG_WORDS = {
    "trace": 1, "debug": 5, "info": 9, "information": 9, "notice": 10, "warn": 13, "warning": 13, "error": 17, "err": 17,
    "severe": 17, "critical": 18, "crit": 18, "alert": 19, "fatal": 21, "emergency": 21, "emerg": 21, "panic": 21,
}  # fmt: skip
SYSLOG_NUMBER = (21, 19, 18, 17, 13, 10, 9, 5)
"""OpenTelemetry severity_number by syslog severity 0 (emergency) to 7 (debug)."""


def severity_of(raw: str) -> str:
    """The severity word for a tool's own value; unknown and empty values are "info", the raw value stays on the record."""
    return _TO_WORD.get(raw.strip().lower(), "info")


def log_severity_number(text: str) -> int:
    """OpenTelemetry's severity_number for a log level word; 0 (unspecified) when the word is not known."""
    return _LOG_WORDS.get(text.strip().lower(), 0)


def severity_of_number(number: int) -> str:
    """The severity word of an OpenTelemetry severity_number."""
    for word in SEVERITIES:
        if number >= NUMBER[word]:
            return word
    return "info"
