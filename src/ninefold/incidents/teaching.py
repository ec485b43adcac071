"""What verdicts on incidents teach: which rules are noise, which alerts belong together, which evidence points to causes.

Each verdict is a few small steps in a log like that of the thresholds (`analytics.metrics.moves`): a factor is what a replay of the
steps not undone gives, between 0.7 and 2, and a step halves every 60 days. What becomes of an incident by itself (taken up, or closed
without anybody) steps less. Everything comes as events through the front door, so that a replay of the journal teaches the same.

A rule whose factor is `NOISY` pages less: an incident of nothing but such rules is one severity lower, never from critical.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from itertools import islice, product
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from ninefold.analytics.alerts.affinity import taught_key
from ninefold.analytics.alerts.correlate import Correlator
from ninefold.analytics.alerts.groups import Group
from ninefold.analytics.metrics.moves import Move, Moves
from ninefold.ground.clock import iso
from ninefold.ground.errors import NotFound
from ninefold.incidents import folding, regroup
from ninefold.incidents.intake import Row
from ninefold.incidents.ledger import Pages
from ninefold.store.records.incidents import Incident
from ninefold.store.records.regrouping import Lesson, Regrouping

RULE, PAIR, CAUSE = "rule", "pair", "cause"
LESSON = "lesson"
"""What a setting's event names when it takes a lesson back."""
AND = "\n"
NOISY = 1.5
LEAN = 1.25
"""The most that verdicts make of a kind of evidence, and the inverse of the least."""
SAID = {"noise": 0.25, "useful": -0.15}
_IGNORED, _TAKEN_UP = 0.03, -0.03
TOGETHER, APART = 0.25, -0.25
EVIDENCE = 0.02
_RULES, SIDE = 20, 5
_LOWER = {"high": "warning", "warning": "info"}


class Teaching:
    """What one records database was taught. Called under the lock of the incidents."""

    def __init__(self) -> None:
        self._moves: Moves | None = None
        self._now = 0
        self._marks: set[str] = set()

    def forget(self) -> None:
        """Read the records again: what was written to them was not kept."""
        self._moves = None

    def log(self, session: Session) -> Moves:
        """What was learned, the oldest first."""
        if self._moves is None:
            kept = [{name: getattr(one, name) for name in Move.__slots__} for one in session.scalars(select(Lesson).order_by(Lesson.id))]
            self._marks = {one["fingerprint"] for one in kept}
            self._moves = Moves(kept, max((one["id"] for one in kept), default=0))
            self._now = max([self._now, *(one["time"] for one in kept)])
        return self._moves

    def take(self, session: Session, rows: Iterable[Row]) -> bool:
        """Learn from Ninefold's own events among these; says whether anything was moved."""
        took = {"incident": self._incident, regroup.KIND: self._regrouping, "setting": self._undo}
        mine = [row for row in rows if row.ours and row.kind in took]
        if not mine:
            return False
        log = self.log(session)
        before = {move.id: move.undone for move in log.log}
        for row in mine:
            took[row.kind](session, log, row)
        self._now = max([self._now, *(move.time for move in log.log if move.id not in before)])
        log.forget(self._now)
        return _keep(session, log, before)

    def steer(self, correlator: Correlator) -> None:
        """Tell a correlator what persons said of pairs of kinds: above 1 they belong together, below they do not."""
        pairs = ((target.split(AND), factor) for target, factor in self._factors(PAIR).items())
        correlator.affinity.taught = {taught_key(_kind(a), _kind(b)): factor for (a, b), factor in pairs}

    def priors(self) -> dict[str, float]:
        """Factors of kinds of evidence and, behind ``on ``, of entities, for the search for causes."""
        return {target: min(max(factor, 1 / LEAN), LEAN) for target, factor in self._factors(CAUSE).items()}

    def grade(self, group: Group) -> str:
        """The severity of a group: one lower than its alerts say when all its rules were found to be noise."""
        severity = group.severity
        moves = self._moves
        if severity not in _LOWER or not moves:
            return severity
        noisy = bool(group.pairs) and all(moves.factor(RULE, rule, self._now) >= NOISY for _, rule in group.pairs)
        return _LOWER[severity] if noisy else severity

    def told(self, incident: Incident, group: Group, pages: Pages) -> None:
        """Write down why a new incident has another severity than its alerts."""
        if incident.severity != group.severity and not incident.rated:
            known = self._factors(RULE)
            factors = {rule: round(known.get(rule, 1.0), 2) for _, rule in islice(group.pairs, _RULES)}
            text = f"severity {incident.severity} and not {group.severity}: people found all its rules to be noise"
            pages.decided(incident.id, "", group.first, LESSON, text, factors=factors)

    def _factors(self, scope: str) -> dict[str, float]:
        return self._moves.factors(scope, self._now) if self._moves else {}

    def _incident(self, session: Session, log: Moves, row: Row) -> None:
        said, key = row.attributes, row.attributes.get("ninefold.incident", "")
        rules = said.get("rules", "").split("\n")[:_RULES]
        if row.status == "verdict":
            verdict, mark = said.get("feedback", ""), f"{key} verdict"
            self._take_back(log, mark)
            if step := SAID.get(verdict):
                for rule in filter(None, rules):
                    log.step(row.time, RULE, rule, step, why=f"{key}: {verdict}", mark=mark, actor=said.get("actor", ""), followed=False)
            for kind, sign in _contrast(said).items():
                why = f"{key}: wrong cause, it was {said.get('right_cause', '')}"
                log.step(row.time, CAUSE, kind, sign * EVIDENCE, why=why, mark=mark, actor=said.get("actor", ""), followed=False)
        elif row.status == "resolved":
            mark = f"{key} outcome"
            self._take_back(log, mark)
            step, why = (_TAKEN_UP, "was taken up") if said.get("handled") else (_IGNORED, "closed by itself, nobody having taken it up")
            for rule in filter(None, rules):
                log.step(row.time, RULE, rule, step, why=f"{key} {why}", mark=mark, actor="", followed=True)

    def _regrouping(self, session: Session, log: Moves, row: Row) -> None:
        done = session.scalar(select(Regrouping).where(Regrouping.event_id == row.id, Regrouping.problem == ""))
        if done is None:
            return
        if done.deed == "undo":
            self._take_back(log, session.get_one(Regrouping, done.before["number"]).event_id)
            return
        if row.id in self._marks:
            return
        self._marks.add(row.id)
        sides = done.before if done.deed == "merge" else done.after
        mine = _kinds(sides[str(done.into)])
        step, word = (TOGETHER, "together") if done.deed == "merge" else (APART, "apart")
        pairs = {
            AND.join(sorted(pair)) for other in done.incidents for pair in product(mine, _kinds(sides[str(other)])) if pair[0] != pair[1]
        }
        for pair in sorted(pairs):
            log.step(row.time, PAIR, pair, step, why=f"{done.before['title']}: {word}", mark=row.id, actor=done.actor, followed=False)

    def _undo(self, session: Session, log: Moves, row: Row) -> None:
        if row.attributes.get("detection") == LESSON:
            log.undo(row.attributes.get("move", ""))

    def _take_back(self, log: Moves, mark: str) -> None:
        """What was learned of the same thing before: the newest word counts."""
        if mark not in self._marks:  # most often; the log is long
            self._marks.add(mark)
            return
        for move in [move for move in log.log if move.fingerprint == mark and not move.undone]:
            log.undo(str(move.id))


def _keep(session: Session, log: Moves, before: Mapping[int, bool]) -> bool:
    """Write what became of the log since it was `before` (undone or not, by number); says whether anything did."""
    now_is = {move.id: move.undone for move in log.log}
    fresh = [asdict(move) for move in log.log if move.id not in before]
    undone = [number for number, over in now_is.items() if over and before.get(number) is False]
    gone = [number for number in before if number not in now_is]
    for some in folding.chunks(undone):
        session.execute(update(Lesson).where(Lesson.id.in_(some)).values(undone=True))
    for some in folding.chunks(gone):
        session.execute(delete(Lesson).where(Lesson.id.in_(some)))
    session.add_all([Lesson(**one) for one in fresh])
    session.flush()
    return bool(fresh or undone or gone)


def lessons_of(incident: Incident) -> dict[str, str]:
    """What is told of an incident's outcome for teaching: the rules that fired and, of a wrong cause, how its evidence differs from that of
    the right one."""
    rules = dict.fromkeys(text.partition("|")[2] for text in incident.rules)
    told = {"rules": "\n".join(islice(filter(None, rules), _RULES)), "right_cause": incident.right_cause}
    if incident.feedback == "wrong_cause" and incident.right_cause:
        told["contrast"] = json.dumps(contrast(incident.analysis.get("candidates", []), incident.right_cause))
    return told


def contrast(candidates: Iterable[Mapping[str, Any]], right: str) -> dict[str, int]:
    """Which kinds of evidence spoke for the right entity more than for the first candidate (1), and which less (-1); beside them, when
    they are of different kinds, ``on <kind>`` of both entities. Nothing when the right one came first or is no candidate."""
    listed = list(candidates)
    place = next((i for i, candidate in enumerate(listed) if candidate["entity"] == right), 0)
    if not place:
        return {}
    weights: dict[str, float] = {}
    for candidate, sign in ((listed[place], 1), (listed[0], -1)):
        for item in candidate["evidence"]:
            weights[item["kind"]] = weights.get(item["kind"], 0.0) + sign * item["weight"]
    found = {kind: 1 if weight > 0 else -1 for kind, weight in sorted(weights.items()) if abs(weight) >= 0.05 and kind != "graph"}
    kinds = [candidate["entity"].partition(":")[0] for candidate in (listed[place], listed[0])]
    if kinds[0] != kinds[1]:
        found |= {f"on {kinds[0]}": 1, f"on {kinds[1]}": -1}
    return found


def _contrast(said: Mapping[str, str]) -> dict[str, int]:
    try:
        return dict(json.loads(said.get("contrast") or "{}"))
    except ValueError:
        return {}


def _kinds(facts: Mapping[str, Any]) -> list[str]:
    """The first kinds of alerts of an incident as it was, ``entity|rule`` each; without an entity nothing is ever grouped."""
    return list(islice((text.replace(AND, " ") for text in facts["rules"] if text.partition("|")[0]), SIDE))


def _kind(text: str) -> tuple[str, str]:
    entity, _, rule = text.partition("|")
    return entity, rule


def listed(session: Session, limit: int) -> list[dict[str, Any]]:
    """What was learned, the newest first, in the API's form."""
    return [_shown(lesson) for lesson in session.scalars(select(Lesson).order_by(Lesson.id.desc()).limit(limit))]


def one(session: Session, number: int) -> dict[str, Any]:
    """A lesson in force, in the API's form.

    Raises:
        NotFound: there is none of this number.
    """
    lesson = session.get(Lesson, number)
    if lesson is None or lesson.undone:
        raise NotFound(f"there is no lesson {number} in force; GET /detection/learned lists them")
    return _shown(lesson)


def _shown(lesson: Lesson) -> dict[str, Any]:
    told = {name: getattr(lesson, name) for name in ("id", "scope", "target", "before", "after", "why", "fingerprint", "actor", "undone")}
    return {"about": "incidents", "time": iso(lesson.time), **told}
