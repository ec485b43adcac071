"""Root cause: evidence from metrics, spans, logs, changes and alerts, put together on the dependency graph, every term visible.

What an entity's callees explain is taken off its propagating symptoms (errors, missing calls and lines, slowness): the cause is
where the chain of symptoms ends. Resources (CPU, memory, ...) and network time do not propagate and are not discounted. One set of weights
serves all systems. When nothing exceeds what quiet minutes show, or two candidates are equally good, the answer is
"undetermined": on hard benchmarks even the best methods are right once in three times (arXiv 2510.04711), and a confident guess
costs more than none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from ninefold.analytics.alerts.evidence import Surge, is_resource, log_evidence, metric_evidence
from ninefold.analytics.alerts.invocations import SPANS, Evidence, Invocations
from ninefold.analytics.alerts.rollouts import rollout_evidence

WEIGHTS = {
    "metric": 1.0, "network": 1.0, "own_time": 1.0, "calls": 1.0, "inner": 1.0, "failures": 1.5, "errors": 1.5, "missing": 1.0, "more": 0.3,
    "version": 1.0,
}  # fmt: skip
"""One set for all systems; within a factor of two the accuracy on the development data does not move much."""
PROPAGATING = frozenset(("own_time", "calls", "inner", "failures", "errors", "missing", "more", "symptom", "version"))
BLAME = 0.8
"""The share of its worst callee's evidence that an entity's own propagating symptoms are discounted by."""
LEAD = 2
"""Buckets of the incident before its first alert."""
_CHANGE, _CHANGE_DECAY_S = 1.2, 600.0
_ALERT, _FIRST = 0.15, 0.1
_OFF_PATH = 0.5
_CURVE, _ALONE = (3.0, 4.1), 2.0
"""The curve of confidence over log(1 + score); where metrics are all there is, scores are half as high."""
_MOST, _UNSURE, _NOISE = 0.97, 0.5, 0.25
_SHOWN = 5
_KIND = {
    "metric": "metric",
    "errors": "log",
    "missing": "log",
    "more": "log",
    "change": "change",
    "version": "change",
    "graph": "graph",
    "onset": "onset",
    "alert": "alert",
}
_WORD = {
    "network": "network", "own_time": "slow", "failures": "errors", "errors": "errors", "change": "change", "version": "change",
    "alert": "alerts",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Changed:
    """A change of an entity, `ago_s` seconds before the incident began."""

    entity: str
    ago_s: float
    title: str
    time: int


@dataclass(slots=True)
class Item:
    """One line of evidence: kind is metric, span, log, change, graph, onset or alert; `weight` is what it adds to the score."""

    kind: str
    text: str
    weight: float
    series: int = 0
    bucket: int | None = None
    time: int | None = None
    source: str = ""
    """The finer kind of evidence behind it."""


@dataclass(slots=True)
class Candidate:
    """An entity that may be the cause: its score is the sum of its items' weights."""

    entity: str
    score: float
    items: list[Item]
    confidence: float = 0.0
    kind: str = ""
    summary: str = ""


@dataclass(slots=True)
class Ranking:
    """Candidates, best first; `verdict` is determined or undetermined, then with a `reason`."""

    verdict: str
    reason: str
    candidates: list[Candidate] = field(default_factory=list)
    surges: list[Surge] = field(default_factory=list)


def rank(
    metrics: pa.Table, spans: pa.Table, logs: pa.Table, *, texts: Mapping[int, str] | None = None,
    needs: Mapping[str, set[str]] | None = None, changes: Sequence[Changed] = (), alerts: Mapping[str, float] | None = None,
    priors: Mapping[str, float] | None = None,
) -> Ranking:  # fmt: skip
    """Rank the entities by how much they look like the cause.

    Args:
        metrics: `evidence.METRICS`; spans: `invocations.SPANS`; logs: `evidence.LOGS`. Buckets below 0 are quiet, from 0 on the incident.
        texts: the templates of log patterns, for words.
        needs: who needs whom, beside what the spans show.
        changes: changes shortly before.
        alerts: how telling the alerts on each entity are (`rarity`, or just how many differ).
        priors: factors that verdicts gave to kinds of evidence (`Item.kind`) and, as ``on <kind>``, to those of kinds of entities.
    """
    found: dict[str, Evidence] = {"metric": metric_evidence(metrics)}
    traced = Invocations(spans)
    if traced.usable():
        found.update(
            network=traced.network(), own_time=traced.own_time(), calls=traced.calls(), inner=traced.inner(), failures=traced.failures()
        )
    else:
        traced = Invocations(SPANS.empty_table())
    from_logs, surges = log_evidence(logs, traced, dict(texts or {}))
    found.update(from_logs)
    latest = {change.entity: change.ago_s for change in sorted(changes, key=lambda change: -change.ago_s)}
    found["version"] = rollout_evidence(metrics, {entity: math.floor(LEAD - ago / 60) for entity, ago in latest.items()})
    graph = {entity: set(others) for entity, others in (needs or {}).items()}
    for entity, others in traced.needs().items():
        graph.setdefault(entity, set()).update(others)
    candidates = _candidates(found, graph, set(traced.entities), changes, alerts or {}, priors or {})
    _confide(candidates, 1.0 if traced.entities or logs.num_rows else _ALONE)
    verdict, reason = _judge(candidates, quiet=_has_quiet(metrics, spans, logs), alerts=alerts or {})
    return Ranking(verdict, reason, candidates[:_SHOWN], surges[:12])


def _has_quiet(*tables: pa.Table) -> bool:
    return any(table.num_rows and (table.column("bucket").to_numpy() < 0).any() for table in tables)


def _candidates(
    found: Mapping[str, Evidence], graph: Mapping[str, set[str]], traced: set[str], changes: Sequence[Changed], alerts: Mapping[str, float],
    priors: Mapping[str, float],
) -> list[Candidate]:  # fmt: skip
    entities = {entity for evidence in found.values() for entity in evidence.scores} | set(alerts) | {c.entity for c in changes}
    terms = {entity: _terms(entity, found, bool(traced) and entity not in traced) for entity in sorted(entities) if entity}
    own = {entity: sum(item.weight for item in items) for entity, items in terms.items()}
    for entity, items in terms.items():
        spread = sum(item.weight for item in items if item.source in PROPAGATING)
        needed = sorted(other for other in graph.get(entity, ()) if other != entity)  # of equals, the first by name
        blamed = max(needed, key=lambda other: own.get(other, 0.0), default="")
        theirs = own.get(blamed, 0.0) if blamed else 0.0
        discount = min(BLAME * theirs, spread)
        if discount > 0.005:
            items.append(Item("graph", f"{_name(blamed)}, which it needs, explains part of this", -discount, source="graph"))
        items.extend(_beside(entity, changes, alerts))
    _first_one(terms)
    if priors:
        _lean(terms, priors)
    candidates = [Candidate(entity, sum(item.weight for item in items), items) for entity, items in terms.items()]
    candidates = sorted((c for c in candidates if c.score > 0.05), key=lambda c: (-c.score, c.entity))
    return candidates


def _terms(entity: str, found: Mapping[str, Evidence], off_path: bool) -> list[Item]:
    """The evidence an entity shows itself; errors in spans and in logs are one symptom and count once."""
    items = []
    for name, weight in WEIGHTS.items():
        evidence = found.get(name)
        score = evidence.scores.get(entity, 0.0) * weight * (_OFF_PATH if off_path else 1.0) if evidence else 0.0
        if score < 0.005 or evidence is None:
            continue
        lines = sorted(evidence.lines.get(entity, ()), key=lambda line: -line.score)
        text = lines[0].text if lines else name
        if len(lines) > 1 and name != "metric":
            text += f" (and {len(lines) - 1} more like it)"
        line = lines[0] if lines else None
        source = "symptom" if name == "metric" and line and not is_resource(line.text) else name
        items.append(Item(_KIND.get(name, "span"), text, score, line.series if line else 0, line.bucket if line else None, source=source))
    twice = [item for item in items if item.source in ("failures", "errors")]
    if len(twice) == 2:
        items.remove(min(twice, key=lambda item: item.weight))
    return items


def _beside(entity: str, changes: Sequence[Changed], alerts: Mapping[str, float]) -> list[Item]:
    items = []
    near = min((change for change in changes if change.entity == entity), key=lambda change: change.ago_s, default=None)
    if near is not None:
        weight = _CHANGE * math.exp(-max(near.ago_s, 0.0) / _CHANGE_DECAY_S)
        ago = f"{near.ago_s / 60:.0f} min" if near.ago_s >= 90 else f"{near.ago_s:.0f} s"
        items.append(Item("change", f"changed {ago} before: {near.title}", weight, time=near.time, source="change"))
    if alerts.get(entity):
        rare = " that come with few other incidents" if alerts[entity] >= 0.5 * max(alerts.values()) else ""
        items.append(Item("alert", f"it has alerts{rare}", _ALERT * math.log1p(alerts[entity]), source="alert"))
    return items


def _first_one(terms: Mapping[str, list[Item]]) -> None:
    """A small bonus for whoever deviated first among the strong ones: onset breaks ties, no more."""
    totals = {entity: sum(item.weight for item in items) for entity, items in terms.items()}
    top = max(totals.values(), default=0.0)
    starts = {
        entity: min((item.bucket for item in terms[entity] if item.bucket is not None), default=None)
        for entity, total in totals.items()
        if total >= 0.5 * top
    }
    known = {entity: start for entity, start in starts.items() if start is not None}
    if len(known) > 1 and len(set(known.values())) > 1:
        earliest = min(known.values())
        for entity, start in known.items():
            if start == earliest:
                terms[entity].append(Item("onset", "among the first to deviate", _FIRST, bucket=start, source="onset"))


def _lean(terms: Mapping[str, list[Item]], priors: Mapping[str, float]) -> None:
    """What people said of earlier causes, a little."""
    for entity, items in terms.items():
        on = priors.get(f"on {entity.partition(':')[0]}", 1.0)
        for item in items:
            item.weight *= on * priors.get(item.kind, 1.0)


def _confide(candidates: Sequence[Candidate], scale: float) -> None:
    """How likely each candidate is the cause: a logistic curve over the score, fitted on half of the labelled development data."""
    if not candidates:
        return
    best = candidates[0]
    second = candidates[1].score if len(candidates) > 1 else 0.0
    lead = (best.score - second) / best.score
    fitted = 1 / (1 + math.exp(_CURVE[0] - _CURVE[1] * math.log1p(scale * best.score)))
    best.confidence = min(fitted, 0.5 + 1.5 * lead, _MOST)  # of two equally good ones each is right at most every other time
    rest = sum(candidate.score for candidate in candidates[1:])
    for candidate in candidates[1:]:
        candidate.confidence = min(best.confidence, (1 - best.confidence) * candidate.score / rest * 0.8)
    for candidate in candidates:
        candidate.items.sort(key=lambda item: -abs(item.weight))
        leading = max(candidate.items, key=lambda item: item.weight)
        measured = leading.source in ("metric", "symptom")
        candidate.kind = leading.text.partition(" is ")[0] if measured else _WORD.get(leading.source, "behaviour")
        candidate.summary = f"{_name(candidate.entity)}: {leading.text}"


def _judge(candidates: Sequence[Candidate], quiet: bool, alerts: Mapping[str, float]) -> tuple[str, str]:
    measured = [c for c in candidates if any(item.kind in ("metric", "span", "log") for item in c.items)]
    if not measured:
        why = "no entity deviates from its quiet minutes" if quiet else "there is no telemetry from before it to compare with"
        hints = [
            f"; {_name(c.entity)} {item.text}" for c in candidates if c.entity in alerts for item in c.items if item.source == "change"
        ]
        return "undetermined", f"{why}; only the alerts themselves are known{''.join(hints[:1])}"
    best = candidates[0]
    if best.confidence < _NOISE:
        return "undetermined", f"no entity deviates from its quiet minutes by more than noise; {_name(best.entity)} is nearest"
    if best.confidence < _UNSURE:
        return "undetermined", f"the evidence is thin: {_name(best.entity)} is nearest and more likely wrong than right"
    return "determined", ""


def _name(entity: str) -> str:
    return entity.partition(":")[2] or entity
