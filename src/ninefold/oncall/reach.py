"""How a person is reached: what a contact method asks of which action, worked out before anything is sent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from ninefold.ground.errors import Refused
from ninefold.oncall.plans import Contact
from ninefold.plugin import Action, Connector

_WORD = re.compile(r"\{(title|body|incident|severity|entity|person|url)\}")
_SPOKEN = {"title": "{title}", "body": "{body}"}
_URGENCY = {"critical": "failure", "high": "failure", "warning": "warning"}


@dataclass(frozen=True, slots=True)
class Call:
    """An action ready to be called."""

    connector: Connector
    action: Action
    ask: BaseModel

    @property
    def repeatable(self) -> bool:
        """Whether a second time does no harm."""
        return self.action.idempotent or self.action.risk == "read"


def call_of(contact: Contact, connectors: Mapping[str, Connector], words: Mapping[str, str]) -> Call:
    """What a contact method does with the words of a page.

    Raises:
        Refused: the connector or its action is not there, is dangerous, or cannot be asked so.
    """
    name, _, verb = contact.uses.partition(".")
    connector = connectors.get(name)
    if connector is None:
        known = ", ".join(sorted(connectors)) or "none"
        raise Refused(f"no connector is named {name!r}; configure it under `connectors` (there are: {known})")
    action = connector.actions().get(verb)
    if action is None:
        raise Refused(f"the connector {name!r} has no action {verb!r}; it has {', '.join(sorted(connector.actions()))}")
    if action.risk == "dangerous":
        raise Refused(f"{contact.uses} is dangerous and nothing to reach people with; choose an action that sends a message")
    fields = {field.alias or key for key, field in action.ask.model_fields.items()}
    wanted: dict[str, Any] = contact.ask or {key: text for key, text in _SPOKEN.items() if key in fields}
    if not contact.ask and connector.kind == "notify":
        wanted |= {"severity": _URGENCY.get(words.get("severity", ""), "info")}
    try:
        return Call(connector, action, action.ask.model_validate(_filled(wanted, words)))
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors(include_input=False))
        raise Refused(f"the values of the contact method {contact.name!r} do not fit {contact.uses}: {faults}") from error


def _filled(value: Any, words: Mapping[str, str]) -> Any:
    if isinstance(value, Mapping):
        return {key: _filled(item, words) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, words) for item in value]
    if isinstance(value, str):
        return _WORD.sub(lambda found: words.get(found[1], ""), value)
    return value
