"""Secrets never become examples: values whose name or shape says that they open something are shown as dots."""

from __future__ import annotations

import re

MASK = "•••"
_NAMES = re.compile(
    r"passw|passphrase|pwd|secret|token|api[._-]?key|apikey|authorization|cookie|credential|private[._-]?key|session[._-]?id", re.I
)
_SHAPES = re.compile(
    r"(?i:bearer|basic)\s+[\w.~+/=-]{8,}"
    r"|eyJ[\w-]{8,}\.[\w-]+\.[\w-]*"
    r"|\b(?:AKIA[0-9A-Z]{16}|gh[pousr]_\w{20,}|xox[abprs]-[\w-]{10,}|n9_[\w-]{20,}|glpat-[\w-]{16,}|sk-[\w-]{20,})"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*"
    r"|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)",
    re.S,
)
_PAIRS = re.compile(r"(?i)((?:passw(?:or)?d|pwd|secret|token|api[_-]?key)[\"']?\s*[=:]\s*[\"']?)[^\s\"',;&]+")


def masked(name: str, text: str, most: int = 80) -> str:
    """The beginning of a value as it may be shown to anybody who may see the field."""
    if _NAMES.search(name):
        return MASK
    shown = _PAIRS.sub(rf"\1{MASK}", _SHAPES.sub(MASK, text[:2048]))
    return shown if len(shown) <= most else shown[:most] + "…"
