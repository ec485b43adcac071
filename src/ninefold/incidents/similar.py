"""Past incidents like this one, why they are alike, and what fixed them.

Alike is measured aspect by aspect: the alerts (entity and rule), the rules alone, the kinds of entities, the words of titles and log
templates, the cause. What is rare among the incidents looked at counts more than what they all share (logarithm of the inverse
frequency), so that the one alert everybody always has makes nothing alike.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from ninefold.ground.clock import iso
from ninefold.incidents.intake import TRUTH
from ninefold.store.records.incidents import Change, Incident, Timeline, incident_key
from ninefold.store.records.workflows import Run

Json = dict[str, Any]

LOOKED_AT = 500
"""How many incidents before this one are compared with it."""
ALIKE = 0.25
_WEIGHTS = {"alerts": 0.35, "cause": 0.2, "rules": 0.15, "words": 0.15, "templates": 0.1, "kinds": 0.05}
_WORD = re.compile(r"[A-Za-z][A-Za-z_-]{2,}")
_NAMED, _LINES = 3, 20
_FEW = 20
"""Incidents without anything in common that are thought of beside those there are: what most of three share is not common yet."""
_DONE = {"acknowledged", "mitigated", "resolved", "reopened", "assigned", "verdict", "severity", "teams"}

Aspects = Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Like:
    """An earlier incident, how alike it is (0 to 1) and why, in words."""

    incident: Incident
    score: float
    reasons: list[str]


def similar(session: Session, incident: Incident, limit: int = 5) -> list[Like]:
    """The incidents before this one that are most like it, best first; of equals the latest."""
    shown = (~Incident.pending, Incident.merged_into.is_(None), Incident.id != incident.id, Incident.first_event <= incident.first_event)
    others = session.scalars(select(Incident).where(*shown).order_by(Incident.id.desc()).limit(LOOKED_AT)).all()
    mine, theirs = _aspects(incident), [_aspects(other) for other in others]
    rarity = {aspect: _rarity([mine[aspect], *(each[aspect] for each in theirs)]) for aspect in _WEIGHTS}
    found = []
    for other, each in zip(others, theirs, strict=True):
        scores = {aspect: _overlap(mine[aspect], each[aspect], rarity[aspect]) for aspect in _WEIGHTS}
        known = {aspect: score for aspect, score in scores.items() if score is not None}
        score = sum(_WEIGHTS[aspect] * much for aspect, much in known.items()) / max(sum(_WEIGHTS[aspect] for aspect in known), 1e-9)
        if score >= ALIKE and (mine["rules"] & each["rules"] or known.get("cause") or known.get("templates")):
            found.append(Like(other, round(score, 2), list(_reasons(mine, each, rarity))))
    return sorted(found, key=lambda like: (-like.score, -like.incident.id))[:limit]


def _aspects(incident: Incident) -> Aspects:
    pairs = [pair.partition("|") for pair in incident.rules]
    cause = incident.cause or {}
    return {
        "alerts": frozenset(incident.rules),
        "rules": frozenset(rule for _, _, rule in pairs if rule),
        "kinds": frozenset(entity.partition(":")[0] for entity, _, _ in pairs if entity),
        "words": frozenset(word.lower() for word in _WORD.findall(incident.title)),
        "templates": frozenset(pattern["template"] for pattern in incident.analysis.get("patterns", []) if pattern["template"]),
        "cause": frozenset({cause["entity"], f"kind {cause.get('kind', '')}"}) if cause.get("entity") else frozenset(),
    }


def _rarity(sets: Sequence[frozenset[str]]) -> dict[str, float]:
    """How much each item tells: 1 for one that nobody else has, near 0 for one that all have."""
    count = Counter(item for each in sets for item in each)
    number = len(sets) + _FEW
    return {item: max(math.log(number / times) / math.log(number), 0.05) for item, times in count.items()}


def _overlap(mine: frozenset[str], theirs: frozenset[str], rarity: Mapping[str, float]) -> float | None:
    """Jaccard's likeness with rare items weighing more; None where neither has any."""
    either = sum(rarity[item] for item in sorted(mine | theirs))
    return sum(rarity[item] for item in sorted(mine & theirs)) / either if either else None


def _reasons(mine: Aspects, theirs: Aspects, rarity: Mapping[str, Mapping[str, float]]) -> Iterable[str]:
    for entity in sorted(item for item in mine["cause"] & theirs["cause"] if not item.startswith("kind ")):
        yield f"the same cause: {entity.partition(':')[2] or entity}"
    if alerts := mine["alerts"] & theirs["alerts"]:
        told = ", ".join(pair.partition("|")[2] or pair for pair in _rarest(alerts, rarity["alerts"]))
        yield f"{len(alerts)} of {len(mine['alerts'])} alerts the same: {told}"
    elif rules := mine["rules"] & theirs["rules"]:
        yield f"the same rules on other entities: {', '.join(_rarest(rules, rarity['rules']))}"
    if templates := mine["templates"] & theirs["templates"]:
        yield f"the same log lines: {_rarest(templates, rarity['templates'])[0][:120]}"
    if not mine["alerts"] & theirs["alerts"] and (words := mine["words"] & theirs["words"]):
        yield f"words of the title: {', '.join(_rarest(words, rarity['words']))}"


def _rarest(items: Iterable[str], rarity: Mapping[str, float]) -> list[str]:
    return sorted(items, key=lambda item: (-rarity[item], item))[:_NAMED]


def remedies(session: Session, incident: Incident) -> list[Json]:
    """What was done about an incident, in order: runs, changes of its entities, what people did and said, until it was resolved.

    Each is ``{time, kind, text, actor, status}`` with kind run, change or the word of the deed.
    """
    begin, end = incident.opened, incident.resolved or incident.last_event
    runs = session.scalars(select(Run).where(Run.incident == incident.id).order_by(Run.id).limit(_LINES))
    done = [(run.started or run.created, "run", run.workflow, run.trigger, run.status) for run in runs]
    entities = {pair.partition("|")[0] for pair in incident.rules} | {(incident.cause or {}).get("entity", ""), incident.entity}
    near = Change.time.between(begin, end), Change.entity.in_(sorted(entities - {""})), Change.kind != TRUTH
    changes = session.scalars(select(Change).where(*near).order_by(Change.time).limit(_LINES))
    done += [(change.time, "change", change.title, str(change.event.get("source", "")), "") for change in changes]
    said = select(Timeline).where(Timeline.incident == incident.id, Timeline.kind.in_(sorted(_DONE)))
    for line in session.scalars(said.order_by(Timeline.time, Timeline.id).limit(_LINES)):
        done.append((line.time, line.kind, f"{line.title}: {line.body}" if line.body else line.title, line.actor, ""))
    return [
        {"time": iso(time), "kind": kind, "text": text, "actor": actor, "status": status}
        for time, kind, text, actor, status in sorted(done, key=lambda deed: deed[0])
    ]


def alike(session: Session, incident: Incident, limit: int = 5) -> list[Json]:
    """`similar` in the API's form, without what was done."""
    return [brief(like) for like in similar(session, incident, limit)]


def brief(like: Like) -> Json:
    """One of them in the API's form, without what was done."""
    other = like.incident
    return {
        "id": incident_key(other.id), "title": other.title, "opened": iso(other.opened),
        "resolved": iso(other.resolved) if other.resolved else None, "cause": (other.cause or {}).get("entity", ""),
        "fixed_by": other.fixed_by, "score": like.score, "reasons": like.reasons,
    }  # fmt: skip
