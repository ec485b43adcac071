"""Anomalies and what people make of them: verdicts, sensitivity, what was learned from both, and a candidate in the shadow."""

from __future__ import annotations

import asyncio
import re
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field

from ninefold.analytics.findings import quantity
from ninefold.analytics.metrics.steering import SCOPES, WORDS, covers, experts
from ninefold.app import App
from ninefold.ground.clock import MINUTE, iso, now
from ninefold.ground.errors import BadData, Conflict, NotFound
from ninefold.incidents import teaching
from ninefold.model.signal import batch_of, event_id
from ninefold.store.records.base import Audit
from ninefold.web.auth import AUDITED, Operator, Viewer
from ninefold.web.state import TheApp

router = APIRouter(tags=["detection"])
Fingerprint = Annotated[str, Path(pattern=r"^[0-9a-f]{16}$")]
Text = Annotated[str, Query(max_length=300)]
Scope = Literal["everything", "source", "entity", "metric", "series"]
_SOURCE = "ninefold.console"
_TOKENS = ("value", "expected", "lower", "upper", "score")
_Changes = tuple[dict[str, Any], dict[str, Any]]
"""What somebody changed, as it was before and as it is after."""
_ID = re.compile(r"[0-9]{1,20}")
_EVER_DAYS = 3650
_WORDS = 500
"""The most scopes a word can be set for: each is measured over the series it covers."""


class Anomaly(BaseModel):
    """One episode: `since` to `until` (null while it lasts)."""

    fingerprint: str
    title: str
    entity: str
    series: str
    metric: str
    unit: str
    reason: str
    horizon: str
    technique: str
    severity: str
    status: str
    value: float | None
    expected: float | None
    lower: float | None
    upper: float | None
    score: float | None
    since: str
    until: str | None
    verdict: str = Field(description="The latest: useful, noise, expected; empty without.")
    demoted: bool = Field(description="Its series alarms often, and this is no worse than before.")


class Anomalies(BaseModel):
    """Those that fire first, then the most severe, then the latest."""

    items: list[Anomaly]


class Verdict(BaseModel):
    """What an anomaly was worth."""

    verdict: Literal["useful", "noise", "expected"]
    note: str = Field("", max_length=2000)


class Accepted(BaseModel):
    """It is durable and in force as soon as the detection has read it, usually within a second."""

    event: str = Field(description="The id of the event it became.")


class Sensitivity(BaseModel):
    """How often a scope may alarm without need."""

    scope: Scope
    name: str = Field("", max_length=300, description="Of the source, entity (or a glob), metric, or series; empty for everything.")
    word: Literal["calm", "normal", "keen"]


class Measured(Sensitivity):
    """With what was asked for and what came, in alarms a series-week; those found useful are not counted."""

    target: float
    measured: float | None = Field(description="Over the last week; null while nothing was watched.")
    alarms: int
    useful: int
    series: int


class Sensitivities(BaseModel):
    """The scopes in which a word was set, and everything; the narrowest that covers a series decides."""

    items: list[Measured]
    experts: dict[str, int] = Field(description="Series by the expert they believe now: level, fast, daily; learning: none yet.")


class Learned(BaseModel):
    """One change of what is believed, and why; numbers are counted for each of `about`."""

    about: Literal["thresholds", "incidents"] = "thresholds"
    id: int
    time: str
    scope: str = Field(
        description="Of thresholds series, metric, or settings (of all series); of incidents rule, pair (of rules) or cause."
    )
    target: str
    before: float | dict[str, float] = Field(description="Factor on the thresholds; of settings the values.")
    after: float | dict[str, float]
    why: str
    fingerprint: str
    actor: str
    undone: bool


class Log(BaseModel):
    """The latest first."""

    items: list[Learned]


class Thresholds(BaseModel):
    """Why a series alarms where it does."""

    threshold: float = Field(description="-log10 of the chance of a point from which on two views agree on an alarm.")
    base: float = Field(description="The same without anything below.")
    scope: str
    scope_name: str
    word: str
    word_factor: float
    verdict_factor: float = Field(description="What verdicts on this series and on its metric made of it.")
    fatigue_factor: float = Field(description="What its own recent alarms make of it.")
    held: bool = Field(description="Judged but not learned just now: an incident, a maintenance window.")
    learned: list[Learned]


class Why(BaseModel):
    """What was expected, what came, and what made an alarm of it."""

    anomaly: Anomaly
    expected_band: list[float | None] = Field(description="Lower and upper bound when the alarm was raised.")
    deviation: float | None = Field(description="Value less expected.")
    deviation_words: str = Field(description="The same in words, with how many times the usual margin it is; empty where it is not known.")
    details: dict[str, str] = Field(description="What else the technique said of it.")
    thresholds: Thresholds | None = Field(description="Of the series, in force now; null for techniques that judge no single series.")


class Candidate(BaseModel):
    """Settings to try; what is left out stays as it is."""

    sure: float | None = Field(None, ge=3, le=9, description="-log10 of the chance of a point at which two views raise an alarm; 4.5.")
    alone: float | None = Field(None, ge=4, le=14, description="The same for a point that nothing confirms; 6.")
    fatigue: float | None = Field(None, ge=0, le=2, description="How much each own alarm raises a series' bar; 0.3.")
    rest: float | None = Field(None, ge=10, le=5000, description="Points after which that is mostly forgotten; 300.")


class Side(BaseModel):
    """One of the two: alarms, and a series-week with the bounds of its 95 % interval; fingerprints with verdicts."""

    alarms: int
    rate: float | None
    low: float | None
    high: float | None
    useful: int
    noise: int


class Comparison(BaseModel):
    """What both would have said on the same series."""

    candidate: dict[str, float]
    since: str | None
    series: int
    series_weeks: float
    current: Side
    candidate_side: Side
    both: int = Field(description="Alarms that both raised.")
    only_current: int
    only_candidate: int
    earlier: int = Field(description="Of those of both, how many the candidate raised earlier.")
    later: int
    pages_saved: int = Field(description="High alarms only the current one raised; in the sample.")
    pages_added: int
    chance: float = Field(description="Of a difference as large between two that are alike (sign test over alarms of only one).")


class InShadow(BaseModel):
    """Null without a candidate."""

    comparison: Comparison | None


_ANOMALIES = """
SELECT fingerprint, argMax(title, time) AS last_title, any(entity) AS place, argMax(severity, time) AS grade,
    argMax(status, time) AS state, argMaxIf(attributes, time, status = 'firing') AS said, argMaxIf(title, time, status = 'firing') AS told,
    maxIf(toUnixTimestamp64Nano(time), status = 'resolved') AS until, max(toUnixTimestamp64Nano(time)) AS latest
FROM event WHERE kind = 'anomaly' AND startsWith(source, 'ninefold') AND fingerprint != ''
    AND received >= fromUnixTimestamp64Nano({since:Int64}, 'UTC') AND ({mark:String} = '' OR fingerprint = {mark:String})
    AND ({entity:String} = '' OR entity = {entity:String})
GROUP BY fingerprint, source_id
HAVING ({status:String} = 'all' OR state = {status:String}) AND ({reason:String} = '' OR said['reason'] = {reason:String})
    AND ({demoted:String} = '' OR (said['demoted'] != '') = ({demoted:String} = 'true'))
    AND ({technique:String} = '' OR said['technique'] = {technique:String})
ORDER BY state = 'firing' DESC, grade = 'high' DESC, latest DESC LIMIT {limit:UInt32}
"""


@router.get("/anomalies")
def anomalies(
    actor: Viewer,
    app: TheApp,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    entity: Text = "",
    status: Literal["firing", "resolved", "all"] = "all",
    reason: Text = "",
    technique: Text = "",
    demoted: Annotated[bool | None, Query(description="Only those, or only the others.")] = None,
    days: Annotated[int, Query(ge=1, le=3650, description="How many days back they may have been told.")] = 30,
) -> Anomalies:
    """What the techniques found unusual."""
    asked = {"entity": entity, "status": status, "reason": reason, "technique": technique}
    return Anomalies(items=_found(app, limit, days, **asked, demoted="" if demoted is None else str(demoted).lower()))


@router.get("/anomalies/{fingerprint}")
def anomaly(fingerprint: Fingerprint, actor: Viewer, app: TheApp) -> Anomaly:
    """The latest episode of an anomaly."""
    return _one(app, fingerprint)


@router.post("/anomalies/{fingerprint}/verdict", dependencies=[AUDITED])
async def verdict(fingerprint: Fingerprint, wanted: Verdict, actor: Operator, app: TheApp) -> Accepted:
    """Say what it was worth: the thresholds of its series, and a little those of its metric, move."""
    one = await asyncio.to_thread(_one, app, fingerprint)
    said = {
        "fingerprint": fingerprint, "verdict": wanted.verdict, "series": one.series if one.technique == "baseline" else "",
        "metric": one.metric if one.technique == "baseline" else "", "status": one.status, "actor": actor.name,
    }  # fmt: skip
    title = f"{actor.name} says {wanted.verdict}: {one.title}"
    changes = {"verdict": one.verdict}, {"verdict": wanted.verdict}
    return await _tell(app, "verdict", said, changes, entity=one.entity, title=title, body=wanted.note, fingerprint=fingerprint)


@router.get("/anomalies/{fingerprint}/why")
def why(fingerprint: Fingerprint, actor: Viewer, app: TheApp) -> Why:
    """The expected band, the deviation, and the thresholds in force with what made them so."""
    one, told = _episode(app, fingerprint)
    return Why(
        anomaly=one,
        expected_band=[one.lower, one.upper],
        deviation=None if one.value is None or one.expected is None else one.value - one.expected,
        deviation_words=_words(one),
        details={name: text for name, text in told.items() if name not in Anomaly.model_fields and not name.startswith("ninefold.")},
        thresholds=_thresholds(app, one.series) if one.technique == "baseline" else None,
    )


@router.get("/detection/sensitivity")
def sensitivity(actor: Viewer, app: TheApp) -> Sensitivities:
    """The words set, what they ask for, and what was measured."""
    return Sensitivities(**app.runner.ask("baseline", _sensitivities))


@router.put("/detection/sensitivity", dependencies=[AUDITED])
async def set_sensitivity(wanted: Sensitivity, actor: Operator, app: TheApp) -> Accepted:
    """Set the word of a scope."""
    name = _name(wanted.scope, wanted.name)
    words = await asyncio.to_thread(app.runner.ask, "baseline", lambda technique: dict(technique.steering.words))
    if len(words) >= _WORDS and (wanted.scope, name) not in words:
        raise Conflict(f"a word is set for {_WORDS} scopes already; take one back, or set it for a wider scope")
    title = f"{actor.name} set the sensitivity of {name or 'everything'} to {wanted.word}"
    said = {"scope": wanted.scope, "name": name, "word": wanted.word, "actor": actor.name}
    return await _set(app, "sensitivity", said, title, ({"word": words.get((wanted.scope, name), "")}, {"word": wanted.word}))


@router.delete("/detection/sensitivity", dependencies=[AUDITED])
async def unset_sensitivity(scope: Scope, actor: Operator, app: TheApp, name: Text = "") -> Accepted:
    """Take the word of a scope back: the next wider scope decides."""
    words = await asyncio.to_thread(app.runner.ask, "baseline", lambda technique: dict(technique.steering.words))
    before = words.get((scope, _name(scope, name)))
    if before is None:
        raise NotFound(f"no sensitivity is set for the {scope} {name!r}; GET /detection/sensitivity lists those that are")
    title = f"{actor.name} took back the sensitivity of {name or 'everything'}"
    said = {"scope": scope, "name": name, "word": "", "actor": actor.name}
    return await _set(app, "sensitivity", said, title, ({"word": before}, {"word": ""}))


@router.get("/detection/learned")
def learned(actor: Viewer, app: TheApp, limit: Annotated[int, Query(ge=1, le=5000)] = 200) -> Log:
    """What moved thresholds, the severity of noisy rules, what belongs together and what points to causes, and why."""
    moves = app.runner.ask("baseline", lambda technique: [_plain(move) for move in technique.steering.moves[-limit:]])
    with app.records.reading() as session:
        lessons = [Learned(**said) for said in teaching.listed(session, limit)]
    items = [_learned(move) for move in reversed(moves)] + lessons
    return Log(items=sorted(items, key=lambda one: one.time, reverse=True)[:limit])


@router.post("/detection/learned/{number}/undo", dependencies=[AUDITED])
async def undo(number: Annotated[int, Path(ge=1)], actor: Operator, app: TheApp) -> Accepted:
    """Take one change back: thresholds are as they would be without it."""
    moves = await asyncio.to_thread(
        app.runner.ask, "baseline", lambda technique: {m.id: _plain(m) for m in technique.steering.moves if not m.undone}
    )
    if number not in moves:
        raise NotFound(f"there is no change {number} in force; GET /detection/learned lists them")
    said = {"move": str(number), "scope": moves[number]["scope"], "actor": actor.name}
    title = f"{actor.name} took back change {number} of the thresholds"
    return await _set(app, "undo", said, title, (moves[number], moves[number] | {"undone": True}))


@router.get("/detection/shadow")
def shadow(actor: Viewer, app: TheApp) -> InShadow:
    """How the candidate does beside the current settings."""
    found = app.runner.ask("shadow", lambda technique: technique.comparison())
    if found is None:
        return InShadow(comparison=None)
    return InShadow(comparison=Comparison(**found | {"since": iso(found["since"]) if found["since"] else None}))


@router.post("/detection/shadow", dependencies=[AUDITED])
async def set_shadow(wanted: Candidate, actor: Operator, app: TheApp) -> Accepted:
    """Let a candidate run beside the current settings, afresh, on a sixteenth of the series."""
    given = {name: str(value) for name, value in wanted.model_dump().items() if value is not None}
    if not given:
        raise BadData("a candidate without any setting is the current one; give at least one of sure, alone, fatigue, rest")
    before = await asyncio.to_thread(app.runner.ask, "shadow", lambda technique: dict(technique.candidate))
    title = f"{actor.name} tries other settings of detection in the shadow"
    return await _set(app, "shadow", given | {"actor": actor.name}, title, (before, given))


@router.delete("/detection/shadow", dependencies=[AUDITED])
async def discard_shadow(actor: Operator, app: TheApp) -> Accepted:
    """Discard the candidate."""
    before = await _candidate(app)
    return await _set(app, "shadow", {"actor": actor.name}, f"{actor.name} discarded the settings in the shadow", (before, {}))


@router.post("/detection/shadow/promote", dependencies=[AUDITED])
async def promote(actor: Operator, app: TheApp) -> Accepted:
    """Make the candidate the current settings; the log of what was learned has it, with undo."""
    candidate = await _candidate(app)
    current = await asyncio.to_thread(app.runner.ask, "baseline", lambda technique: dict(technique.steering.settings))
    wanted = current | candidate
    said = {name: str(value) for name, value in wanted.items()} | {"why": "promoted from the shadow", "actor": actor.name}
    return await _set(app, "settings", said, f"{actor.name} made the settings in the shadow current", (current, wanted))


async def _candidate(app: App) -> dict[str, float]:
    candidate = await asyncio.to_thread(app.runner.ask, "shadow", lambda technique: dict(technique.candidate))
    if not candidate:
        raise NotFound("there is no candidate in the shadow; POST /detection/shadow sets one")
    return candidate


def _words(one: Anomaly) -> str:
    if one.value is None or one.expected is None:
        return ""
    far = abs(one.value - one.expected)
    side, bound = ("above", one.upper) if one.value >= one.expected else ("below", one.lower)
    margin = abs(bound - one.expected) if bound is not None else 0.0
    times = f", {far / margin:.2g} times the usual margin" if margin else ""
    return f"{quantity(far, one.unit)} {side} the {quantity(one.expected, one.unit)} that was expected{times}"


def _sensitivities(technique: Any) -> dict[str, Any]:
    steering, items = technique.steering, []
    ids, about, texts, cells = technique.known()
    for scope, name in sorted({("everything", ""), *steering.words}, key=lambda place: (SCOPES.index(place[0]), place[1])):
        mine = ids[covers(scope, name, ids, about, texts)]
        alarms, useful, weeks = steering.measured(mine)
        word = steering.words.get((scope, name), "normal")
        items.append(
            {"scope": scope, "name": name, "word": word, "target": WORDS[word].target, "alarms": alarms, "useful": useful,
             "series": len(mine), "measured": (alarms - useful) / weeks if weeks else None}
        )  # fmt: skip
    return {"items": items, "experts": experts(cells)}


def _plain(move: Any) -> dict[str, Any]:
    return {name: getattr(move, name) for name in Learned.model_fields if name != "about"}


def _learned(move: dict[str, Any]) -> Learned:
    return Learned(**{name: move[name] for name in Learned.model_fields if name != "about"} | {"time": iso(move["time"])})


@router.post("/detection/learned/incidents/{number}/undo", dependencies=[AUDITED])
async def undo_lesson(number: Annotated[int, Path(ge=1, lt=1 << 62)], actor: Operator, app: TheApp) -> Accepted:
    """Take back one thing that verdicts on incidents taught: all is as it would be without it."""
    lesson = await asyncio.to_thread(_lesson, app, number)
    said = {"move": str(number), "scope": lesson["scope"], "actor": actor.name}
    title = f"{actor.name} took back lesson {number}"
    return await _set(app, teaching.LESSON, said, title, (lesson, lesson | {"undone": True}))


def _lesson(app: App, number: int) -> dict[str, Any]:
    with app.records.reading() as session:
        return teaching.one(session, number)


def _name(scope: str, name: str) -> str:
    if scope == "everything":
        return ""
    if not name or (scope == "series" and _series(name) is None):
        raise BadData(f"a sensitivity for one {scope} needs its name; give it as `name`", "name")
    return name


def _series(text: str) -> int | None:
    """The id of a series, None if it is not one."""
    number = int(text) if _ID.fullmatch(text) else 1 << 64
    return number if number < 1 << 64 else None


def _thresholds(app: App, series: str) -> Thresholds | None:
    number = _series(series)
    if number is None:
        return None
    said = app.runner.ask("baseline", lambda technique: technique.thresholds(number))
    return Thresholds(learned=[_learned(move) for move in said.pop("moves")], **said)


def _found(app: App, limit: int, days: int, **asked: str) -> list[Anomaly]:
    return [one for one, _ in _told(app, limit, days, **asked)]


def _told(app: App, limit: int, days: int, **asked: str) -> list[tuple[Anomaly, dict[str, str]]]:
    """Episodes, each with all its attributes."""
    wanted = dict.fromkeys(("entity", "reason", "technique", "demoted", "mark"), "") | {"status": "all"} | asked
    since = max(0, now() - days * 1440 * MINUTE)
    rows = app.store.query(_ANOMALIES, {**wanted, "limit": limit, "since": since}).to_pylist(maps_as_pydicts="lossy")
    marks = sorted({row["fingerprint"] for row in rows})
    said = app.store.query(
        """SELECT fingerprint, argMax(attributes['verdict'], time) AS verdict FROM event
        WHERE kind = 'verdict' AND startsWith(source, 'ninefold') AND fingerprint IN {marks:Array(String)} GROUP BY fingerprint""",
        {"marks": marks},
    ).to_pylist()
    verdicts = {row["fingerprint"]: row["verdict"] for row in said}
    return [(_anomaly(row, verdicts.get(row["fingerprint"], "")), row["said"]) for row in rows]


def _anomaly(row: dict[str, Any], verdict: str) -> Anomaly:
    said = row["said"]
    fields = {name: said.get(name, "") for name in ("series", "metric", "unit", "reason", "horizon", "technique", "since")}
    numbers = {name: _number(said.get(name, "")) for name in _TOKENS}
    return Anomaly(
        fingerprint=row["fingerprint"], title=row["told"] or row["last_title"], entity=row["place"], severity=row["grade"],
        status=row["state"], until=iso(row["until"]) if row["state"] == "resolved" and row["until"] else None, verdict=verdict,
        demoted=bool(said.get("demoted")),
        **fields, **numbers,
    )  # fmt: skip


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _one(app: App, fingerprint: str) -> Anomaly:
    return _episode(app, fingerprint)[0]


def _episode(app: App, fingerprint: str) -> tuple[Anomaly, dict[str, str]]:
    found = _told(app, 1, _EVER_DAYS, mark=fingerprint)
    if not found:
        raise NotFound(f"there is no anomaly {fingerprint}; GET /anomalies lists them")
    return found[0]


async def _set(app: App, what: str, said: dict[str, str], title: str, changes: _Changes) -> Accepted:
    return await _tell(app, "setting", {"detection": what, **said}, changes, title=title)


async def _tell(app: App, kind: str, said: dict[str, str], changes: _Changes, **fields: str) -> Accepted:
    """Through the front door; the audit row is written first, so that nothing is in force that nobody is known to have done."""
    time = now()
    await asyncio.to_thread(_audit, app, kind, said, changes)
    number = event_id(_SOURCE, kind, str(time), *said.values())
    row = {"id": number, "time": time, "kind": kind, "source_id": number, "severity": "info", "attributes": said, **fields}
    await app.emit([batch_of("event", _SOURCE, time, [row])], "own")
    return Accepted(event=number)


def _audit(app: App, kind: str, said: dict[str, str], changes: _Changes) -> None:
    detail = {name: text for name, text in said.items() if name != "actor"} | {"before": changes[0], "after": changes[1]}
    target = said.get("fingerprint") or said.get("detection", "")
    with app.records.session() as session:
        session.add(Audit(actor=said["actor"], action=f"detection {kind}", target=target, detail=detail))
