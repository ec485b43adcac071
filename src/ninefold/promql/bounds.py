"""What a question may cost: its length and nesting before it is parsed, series times steps and time while it is computed.

The parser is recursive and compiled, so an expression that is nested too deeply would end the process; it is measured before.
"""

from __future__ import annotations

import re
import time
from contextvars import ContextVar

from ninefold.ground.errors import BadData, Refused

CELLS = 5_000_000
"""Most values of one matrix: series times steps."""
_LENGTH, _DEPTH, _OPERATORS = 16_384, 50, 300
_QUOTED = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|`[^`]*`|#[^\n]*")
_OPERATOR = re.compile(r"[-+*/%^<>]|[=!]=|\b(?:and|or|unless|atan2)\b", re.IGNORECASE)
_until: ContextVar[float] = ContextVar("promql_until", default=float("inf"))


def measure(text: str) -> None:
    """Refuse a text that the parser should not be given.

    Raises:
        BadData: it is too long, too deeply nested, or has too many operators.
    """
    if len(text) > _LENGTH:
        raise BadData(f"the expression is longer than {_LENGTH:,} characters", "query")
    bare = _QUOTED.sub("", text)
    depth = deepest = 0
    for character in bare:
        depth += (character in "([{") - (character in ")]}")
        deepest = max(deepest, depth)
    if deepest > _DEPTH:
        raise BadData(f"the expression is nested more than {_DEPTH} levels deep", "query")
    if len(_OPERATOR.findall(bare)) > _OPERATORS:
        raise BadData(f"the expression has more than {_OPERATORS} operators", "query")


def allow(seconds: float) -> None:
    """Let the question that this thread answers take so long from now on."""
    _until.set(time.monotonic() + seconds)


def in_time() -> None:
    """To be called now and then while computing.

    Raises:
        Refused: the time that was allowed is over.
    """
    if time.monotonic() > _until.get():
        raise Refused("the query took too long; narrow the selector, shorten the range or use a longer step")


def affordable(series: int, steps: int) -> None:
    """Refuse a matrix that would not fit.

    Raises:
        BadData: it would have more than `CELLS` values.
    """
    if series * steps > CELLS:
        raise BadData(f"{series:,} series at {steps:,} steps are more than {CELLS:,} values; narrow the selector or use a longer step")
