"""The best guess of what an unknown JSON document means: which key is its title, its time, its severity, its service.

Every receiver of JSON events shares this one reading of keys, so a tool that posts to the generic webhook, sends CloudEvents or
writes JSON Lines is understood alike.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from ninefold.ground.clock import SECOND
from ninefold.ground.errors import BadData
from ninefold.model.entity import entity_of, fingerprint
from ninefold.model.severity import severity_of
from ninefold.sources.reading import Leaf, text_of, time_of

_TEXT = 8192


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_STATUS_WORDS = {
    "resolved": _set(
        "resolved resolve recovered recovery recover ok up closed close cleared clear normal healthy inactive solved restored green fixed"
    ),
    "acknowledged": _set("acknowledged acknowledge acknowledgement ack acked"),
    "firing": _set(
        "firing fired triggered trigger problem alert alerting alarm open opened active down critical warning failed failure error new "
        "anomalous unhealthy degraded red"
    ),
}
_WORD = re.compile(r"[a-z]+")


def status_of(text: str) -> str:
    """firing, resolved, acknowledged, or "" for the status word of any tool; in "DOWN -> UP" the last word counts."""
    for word in reversed(_WORD.findall(text[:80].lower())):
        for status, words in _STATUS_WORDS.items():
            if word in words:
                return status
    return ""


def _ended(text: Any) -> str:
    status = status_of(text_of(text))
    return status if status != "firing" else ""


def _words(value: Any) -> str:
    """A text that says something: not empty, not an unexpanded template variable, not a number or yes/no in place of a name."""
    if isinstance(value, bool):
        return ""
    text = text_of(value).strip()
    return "" if text.startswith(("$", "*insert")) or text in ("null", "None", "N/A") else text[:_TEXT]


def _number_of(value: Any) -> str:
    """A problem's id; 0 is none."""
    text = _words(value)
    return text if text != "0" else ""


class Field(NamedTuple):
    """How one field is found: key spellings, best first; `depth_cost` is what one level of depth weighs in places of that list."""

    keys: tuple[str, ...]
    depth_cost: int
    read: Callable[[Any], Any]


def _field(keys: str, depth_cost: int = 100, read: Callable[[Any], Any] = _words) -> Field:
    return Field(tuple(keys.split()), depth_cost, read)


FIELDS: Mapping[str, Field] = {
    "title": _field(
        "title messagetitle summary alertname eventdefinitiontitle subject alarmname headline shortdescription name checkname rulename "
        "monitorname displayname conditionname message msg output text description reason event display rule", 4,
    ),
    "body": _field("description message body messagebody alarmdescription eventdefinitiondescription msg output details text", 4),
    "time": _field(
        "timestamp time startsat startedat starttime eventtime datestart occurredat triggeredat firedat statechangetime createdat created "
        "ts datetime shortdatetime timestampiso date start begin updatedat lastupdated completeat clock", 100, time_of,
    ),
    "end": _field("endsat endedat endtime dateend resolvedat closedat recoveredat end", 100, time_of),
    "severity": _field("severity severitytext errorseverity priority level loglevel criticality urgency impact"),
    "status": _field("status state newstate newstatevalue statusextended currentstate alertstate", 100, lambda v: status_of(text_of(v))),
    "verb": _field("eventaction alertaction alerttransition action notificationtype eventtype alerttype type event", 100, _ended),
    "state": _field("state status newstate newstatevalue"),
    "source_id": _field(
        "id uuid ticket number eventid alertid incidentid issueid identifier buildid dedupkey key alertuniqueidentifier monitorid"
    ),
    "fingerprint": _field("fingerprint dedupkey dedupid incidentkey alertkey", 1),
    "problem": _field("alertid incidentid issueid problemid issueidentifier", 0, _number_of),
    "rule": _field("ruleid checkid monitorid triggerid eventdefinitionid alertname rulename checkname monitorname alarmname"),
    "kind": _field("eventkind kind"),
    "entity": _field("entity"),
    "service": _field("servicename service application app component appkubernetesioname projectslug", 3),
    "service_namespace": _field("servicenamespace", 3),
    "pod": _field("k8spodname podname pod", 3),
    "namespace": _field("k8snamespacename namespace", 3),
    "host": _field("hostname host node nodename device devicename agentname", 3),
    "instance": _field("instance instanceid", 3),
    "job": _field("job", 3),
    "resource": _field("resourcedisplayname resourceid resourcename resource target", 3),
}  # fmt: skip
"""Where the usual tools put what every event has; keys compare in lower case without punctuation."""

_BY_KEY: dict[str, list[tuple[str, int]]] = {}
for _name, _spec in FIELDS.items():
    for _rank, _key in enumerate(_spec.keys):
        _BY_KEY.setdefault(_key, []).append((_name, _rank))


@lru_cache(maxsize=16384)
def _plain(key: str) -> str:
    return "".join(filter(str.isalnum, key)).lower()


class Guess(NamedTuple):
    """The best reading of a document: for each field of `FIELDS` that was found, the value and the path it came from."""

    values: dict[str, Any]
    paths: dict[str, str]

    def text(self, field: str) -> str:
        """The value of a text field, "" when it was not found."""
        return self.values.get(field) or ""

    def entity(self) -> str:
        """The entity: as sent if written ``type:name``, else by the model's rule over what names a service, pod or host."""
        sent = self.text("entity")
        if ":" in sent:
            return sent
        known = {
            "service.name": sent or self.text("service"), "service.namespace": self.text("service_namespace"), "pod": self.text("pod"),
            "namespace": self.text("namespace"), "host": self.text("host"), "instance": self.text("instance"), "job": self.text("job"),
        }  # fmt: skip
        resource = self.text("resource")
        return entity_of(known) or (f"resource:{resource}" if resource else "")

    def status(self) -> str:
        """firing, resolved or acknowledged; "" when nothing says so."""
        return self.text("verb") or self.text("status") or ("resolved" if _ended(self.text("severity")) == "resolved" else "")

    def severity_raw(self) -> str:
        """The severity as sent; a state such as CRITICAL stands in for it."""
        state = self.text("state")
        return self.text("severity") or (state if severity_of(state) != "info" else "")


def guess(found: Sequence[Leaf]) -> Guess:
    """Read a document's leaves by the usual names; the shallower and the better known a name, the sooner it is believed."""
    candidates: dict[str, list[tuple[int, int, Leaf]]] = {}
    for order, leaf in enumerate(found):
        for name, rank in _BY_KEY.get(_plain(leaf.key), ()):
            candidates.setdefault(name, []).append((rank + leaf.depth * FIELDS[name].depth_cost, order, leaf))
    values: dict[str, Any] = {}
    paths: dict[str, str] = {}
    for name, options in candidates.items():
        read = FIELDS[name].read
        for _, _, leaf in sorted(options):
            value = read(leaf.value)
            if value:
                values[name], paths[name] = value, leaf.path
                break
    return Guess(values, paths)


def event_row(
    kind: str, seen: Guess, attributes: dict[str, str], received: int, texts: Mapping[str, str], time: int | None = None
) -> dict[str, Any]:
    """An event row from a guess, with `texts` and `time` taking precedence; `timed` says whether the sender gave a time.

    Raises:
        BadData: there is neither a title nor an id nor an entity.
    """
    raw_status = texts.get("status", "")
    status = status_of(raw_status) if raw_status else seen.status()
    said = bool(status)
    if kind in ("alert", "anomaly"):
        status = status or "firing"
    elif status == "firing":
        status = ""  # an open ticket or an active change does not fire
    entity = texts.get("entity", "")
    if entity and ":" not in entity:
        entity = f"service:{entity}"
    entity = entity or seen.entity()
    source_id = texts.get("source_id") or seen.text("source_id") or seen.text("fingerprint")
    title = texts.get("title") or seen.text("title") or source_id or (entity if said else "")
    if not title:
        raise BadData("the record has no title, id or status that could make it an event; map one", "title")
    body = texts.get("body") or seen.text("body")
    severity = texts.get("severity") or seen.severity_raw()
    sent = time or (seen.values.get("end") if status == "resolved" else None) or seen.values.get("time")
    if sent is not None and sent > received + 86400 * SECOND and time is None:
        sent = None  # a guessed time far ahead is a deadline or a schedule, not when it happened
    return {
        "time": sent or received, "timed": sent is not None, "kind": kind, "source_id": source_id, "entity": entity,
        "title": title.strip().splitlines()[0][:500] if title.strip() else title[:500], "body": body if body != title else "",
        "severity": severity_of(severity), "severity_raw": severity, "status": status, "attributes": attributes,
    }  # fmt: skip


def mark_of(name: str, row: Mapping[str, Any], seen: Guess) -> tuple[str, str]:
    """The fingerprint of a guessed record, and in words what it was made of: the sender's own key, the problem's id, the rule and
    the entity, or kind, entity and title. Keys of different senders never meet: the name is part of it."""
    for field in ("fingerprint", "problem"):
        if value := seen.text(field):
            return fingerprint({"webhook": name, "key": value}), f"sender's {seen.paths[field]}"
    entity = row["entity"]
    if rule := seen.text("rule"):
        return fingerprint({"webhook": name, "rule": rule, "entity": entity}), f"{seen.paths['rule']} and entity"
    if seen.paths.get("title") == "output" and seen.text("host"):  # a check's output changes with its state; host and service do not
        return fingerprint({"webhook": name, "host": seen.text("host"), "service": seen.text("service")}), "host and service"
    return fingerprint({"webhook": name, "kind": row["kind"], "entity": entity, "title": row["title"]}), "kind, entity and title"
