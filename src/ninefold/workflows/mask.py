"""Keeps secrets out of runs: values of the connectors' configuration, and whatever stands under a telling key."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from pydantic import BaseModel, SecretStr

from ninefold.plugin import Connector

HIDDEN = "•••"
_TELLING = re.compile(
    r"^pass$|passw(or)?d|passphrase|secret|token|api[-_]?key|authorization|credential|cookie|private[-_]?key", re.IGNORECASE
)
_SHORTEST = 4
"""A shorter secret is not looked for inside texts: it would hide half of every message."""


class Mask:
    """A function from plain data to the same data without secrets."""

    def __init__(self, secrets: Iterable[str]) -> None:
        texts = {text for secret in secrets if len(secret) >= _SHORTEST for text in (secret, quote(secret, safe=""))}
        longest_first = sorted(texts, key=lambda text: (-len(text), text))
        self._secrets = re.compile("|".join(map(re.escape, longest_first))) if texts else None

    def __call__(self, value: Any) -> Any:
        """A copy of `value` with every secret replaced."""
        if isinstance(value, Mapping):
            return {key: HIDDEN if item and isinstance(item, str) and _TELLING.search(key) else self(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self(item) for item in value]
        if isinstance(value, str) and self._secrets is not None:
            return self._secrets.sub(HIDDEN, value)
        return value


def secrets_of(connectors: Mapping[str, Connector]) -> set[str]:
    """The secret values in the configurations of connectors: `SecretStr` fields, and texts under telling keys."""
    return {secret for connector in connectors.values() for secret in _secrets(connector.config, "")}


def _secrets(value: Any, key: str) -> Iterator[str]:
    if isinstance(value, SecretStr):
        yield from _parts(value.get_secret_value())
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _secrets(getattr(value, name), name)
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _secrets(item, str(name))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _secrets(item, key)
    elif isinstance(value, str) and _TELLING.search(key):
        yield from _parts(value)


def _parts(secret: str) -> Iterator[str]:
    """The secret, the token behind a scheme (``Bearer …``) and the password inside an address: messages may show only those."""
    yield secret
    if " " in secret:
        yield secret.rpartition(" ")[2]
    if "://" in secret:
        with contextlib.suppress(ValueError):
            yield urlsplit(secret).password or ""
