"""Expressions in workflows: CEL (the Common Expression Language), typed, without side effects and without a way into Python.

A condition is one expression. A value may hold ``${{ expression }}``: alone, it keeps the expression's type; among other text, each
is put in as text. What an expression yields is data and is never evaluated again.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import cel
import orjson
from cel.stdlib import EXTENSIONS

from ninefold.ground.errors import BadData

CHARS = 4000
"""Longest expression."""
_OPEN, _CLOSE = "${{", "}}"
_BOUND = re.compile(r"\.\s*(?:all|exists|exists_one|map|filter)\s*\(\s*([A-Za-z_]\w*)\s*,")
_FUNCTIONS = {
    name: function
    for library in ("core", "strings", "math", "sets", "lists")
    for name, function in EXTENSIONS[library].items()
    if name != "lists.range"  # the one function whose result can be far larger than the expression
}


def _json(value: Any) -> str:
    return orjson.dumps(plain(value), option=orjson.OPT_SORT_KEYS).decode()  # CEL maps have no order of their own


_FUNCTIONS["json"] = _json


@lru_cache(maxsize=4096)
def _program(text: str) -> cel.Program:
    if len(text) > CHARS:
        raise ValueError(f"an expression may have {CHARS} characters, this one has {len(text)}")
    return cel.compile(text)


def check(text: str, roots: Sequence[str]) -> str:
    """The expression itself, if it is CEL and uses no names but `roots` and its own.

    Raises:
        ValueError: it is not, with what the parser says, or the unknown names.
    """
    try:
        program = _program(text)
    except Exception as error:  # noqa: BLE001 - the parser raises several built-in kinds for a bad expression
        raise ValueError(f"not a CEL expression: {_sentence(error)}") from None
    unknown = set(program.variables()) - set(roots) - set(_BOUND.findall(text))
    if unknown:
        raise ValueError(f"unknown name {', '.join(sorted(unknown))} in {text!r}; there are {', '.join(roots)}")
    return text


def evaluate(text: str, context: Mapping[str, Any]) -> Any:
    """The value of an expression as plain data (text, numbers, booleans, null, lists, maps).

    Args:
        text: the expression.
        context: its names; plain data.

    Raises:
        BadData: it cannot be evaluated: a missing key, two types that do not go together, a number too large.
    """
    try:
        return plain(_program(text).execute(cel.Context(dict(context), _FUNCTIONS)))
    except BadData:
        raise
    except Exception as error:  # noqa: BLE001 - the evaluator raises a built-in kind for every sort of mistake
        raise BadData(_sentence(error), text) from None


def holds(text: str, context: Mapping[str, Any]) -> bool:
    """Whether a condition is true.

    Raises:
        BadData: it cannot be evaluated, or yields something other than true or false.
    """
    value = evaluate(text, context)
    if not isinstance(value, bool):
        raise BadData(f"a condition must yield true or false, this one yields {_kind(value)}", text)
    return value


def render(value: Any, context: Mapping[str, Any]) -> Any:
    """A copy of plain data with every ``${{ … }}`` filled in.

    Raises:
        BadData: an expression cannot be evaluated.
    """
    if isinstance(value, Mapping):
        return {key: render(item, context) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [render(item, context) for item in value]
    if not isinstance(value, str) or _OPEN not in value:
        return value
    parts = split(value)
    if len(parts) == 1:
        return evaluate(parts[0][1], context)
    return "".join(_text(evaluate(part, context)) if is_expression else part for is_expression, part in parts)


def expressions(value: Any) -> Iterator[str]:
    """Every expression inside plain data.

    Raises:
        ValueError: one has no end, or is not CEL.
    """
    if isinstance(value, Mapping):
        for item in value.values():
            yield from expressions(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from expressions(item)
    elif isinstance(value, str):
        yield from (part for is_expression, part in split(value) if is_expression)


@lru_cache(maxsize=4096)
def split(text: str) -> tuple[tuple[bool, str], ...]:
    """The parts of a text in order, each ``(is_expression, text)``.

    Raises:
        ValueError: an expression has no end, or is not CEL.
    """
    parts: list[tuple[bool, str]] = []
    rest = text
    while _OPEN in rest:
        before, _, rest = rest.partition(_OPEN)
        if before:
            parts.append((False, before))
        expression, rest = _until_close(rest)
        parts.append((True, expression))
    if rest:
        parts.append((False, rest))
    return tuple(parts)


def _until_close(rest: str) -> tuple[str, str]:
    """The expression at the start of `rest`: up to the first ``}}`` that leaves a whole one, since a map literal may end so too."""
    end, complaint = rest.find(_CLOSE), "it has no }}"
    while end >= 0:
        candidate = rest[:end].strip()
        try:
            _program(candidate)
        except Exception as error:  # noqa: BLE001 - the parser raises several built-in kinds; the first one is told
            complaint = _sentence(error) if complaint == "it has no }}" else complaint
            end = rest.find(_CLOSE, end + 1)
        else:
            return candidate, rest[end + len(_CLOSE) :]
    raise ValueError(f"not a CEL expression after {_OPEN}: {complaint}")


def plain(value: Any) -> Any:
    """CEL's value as plain data: times as RFC 3339 text, durations as seconds, bytes as text, an empty optional as null.

    Raises:
        BadData: a number that is not finite, which JSON cannot hold.
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise BadData(f"the value {value} is not a finite number", "expression")
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, cel.OptionalValue):
        return plain(value.value()) if value.has_value() else None
    raise BadData(f"a value of type {type(value).__name__} is not plain data", "expression")


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else _json(value)


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    return next((word for kind, word in ((dict, "a map"), (list, "a list"), (str, "text")) if isinstance(value, kind)), "a number")


def _sentence(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"there is no key {error}"
    return " ".join(str(error).split())[:300]
