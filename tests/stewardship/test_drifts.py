"""A drift is one record with its blast radius, one change for others, one notice within the cool-down, and one recovery notice."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from pydantic import BaseModel
from sqlalchemy import select

from ninefold.catalogue.watch import Episode, SourceWatch, drift_event
from ninefold.ground.clock import MINUTE, SECOND, iso, now
from ninefold.ground.errors import Unavailable
from ninefold.model.signal import batch_of
from ninefold.plugin import Connector, action
from ninefold.stewardship import BYTES, REQUESTS, Stewardship
from ninefold.stewardship.drifts import Drifts, notifiers
from ninefold.stewardship.radius import Radius, sentence
from ninefold.store.records.base import Outbox, Records
from ninefold.store.records.incidents import Timeline
from ninefold.store.records.sources import SourceDrift, SourceFacts
from ninefold.store.records.workflows import Dispatch
from ninefold.store.telemetry import Telemetry

CASES = {"Fold alerts": ("alerts", "topology"), "Automate": ("tickets",)}


class Said(BaseModel):
    title: str
    body: str
    severity: str


class Administrators(Connector):
    """Takes messages, or is away."""

    kind = "notify"

    def __init__(self) -> None:
        super().__init__(None)
        self.heard: list[Said] = []
        self.away = False

    @action(risk="write")
    async def send(self, ask: Said) -> Said:
        """Take a message."""
        if self.away:
            raise Unavailable("nobody is there")
        self.heard.append(ask)
        return ask

    def of(self, source: str) -> list[Said]:
        """What was said of a source."""
        return [said for said in self.heard if said.title.startswith(f"Source {source}:")]


@pytest.fixture
def administrators() -> Administrators:
    return Administrators()


@pytest.fixture
def drifts(store: Telemetry, records: Records, administrators: Administrators) -> Drifts:
    workflows = [SimpleNamespace(name="restart", source="on: prom-east"), SimpleNamespace(name="other", source="")]
    return Drifts(store, records, Radius(store, records, workflows, CASES), notifiers({"team": administrators, "x": Connector2(None)}))


class Connector2(Connector):
    """Of another kind."""

    kind = "http"


def happen(store: Telemetry, source: str, what: str, since: int, firing: bool = True, severity: str = "") -> None:
    episode = Episode(source, "metric", what, since, "every 15 s", "nothing for 3 min", f"{source} has sent no points for 3 min")
    row = drift_event(episode, since + 3 * MINUTE, firing=firing, text="" if firing else f"{source} sends points again")
    row["severity"] = severity or row["severity"]
    store.append([batch_of("event", "ninefold.watch", now(), [row])], f"{source} {what} {since} {firing}")


def fill(store: Telemetry, records: Records) -> None:
    at = now()
    about = [{"series": i, "name": "up", "kind": "gauge", "entity": f"host:h{i % 2}", "seen": at} for i in range(1, 5)]
    alerts = [{"id": f"e{i}", "time": at, "kind": "alert", "title": f"Rule{i % 2}", "fingerprint": "f"} for i in range(4)]
    store.append([batch_of("series", "prom-east", at, about), batch_of("event", "prom-east", at, alerts)], "fill")
    with records.session() as session:
        session.add(Timeline(incident=1, time=at, kind="alert", title="Rule0", source="prom-east"))
        session.add(Dispatch(workflow="page", outbox=1, verdict="started", incident=1))


def test_the_blast_radius_names_what_depends_on_it(store: Telemetry, records: Records, drifts: Drifts) -> None:
    fill(store, records)
    happen(store, "prom-east", "silence", now() - 5 * MINUTE)
    assert drifts.follow() == 1
    assert drifts.follow() == 0, "reading it again changes nothing"
    (found,) = drifts.history("prom-east")
    assert found["radius"] == {
        "series": 4, "detectors": 4, "entities": 2, "rules": ["Rule0", "Rule1"], "incidents_30d": 1, "workflows": ["page", "restart"],
        "kpis": ["Noise reduction", "Time to acknowledge", "Time to detect", "Time to resolve"], "use_cases": {"Fold alerts": "lost"},
        "only_source_of": ["alerts", "metrics"],
    }  # fmt: skip
    said = "It feeds 4 series with their detectors, 2 alert rules, 2 workflows, 4 KPIs; lost without it: Fold alerts."
    assert sentence(found["radius"]) == said
    with records.reading() as session:
        (change,) = session.scalars(select(Outbox).where(Outbox.key == "prom-east"))
    assert (change.topic, change.kind, change.data["what"], change.data["radius"]["series"]) == ("source", "drifted", "silence", 4)


def test_administrators_hear_once_and_hear_the_end(
    store: Telemetry, drifts: Drifts, administrators: Administrators, monkeypatch: pytest.MonkeyPatch
) -> None:
    since = now() - 50 * MINUTE
    happen(store, "web", "volume", since)
    drifts.follow()
    administrators.away = True
    assert asyncio.run(drifts.tell()) == 0
    administrators.away = False
    assert asyncio.run(drifts.tell()) > 0, "what nobody took is sent again"
    assert asyncio.run(drifts.tell()) == 0
    (said,) = administrators.of("web")
    assert said.title == "Source web: volume"
    assert said.body == f"web has sent no points for 3 min, since {iso(since)}. Nothing is known to depend on it."
    assert said.severity == "warning"
    happen(store, "web", "volume", since, firing=False)
    happen(store, "web", "volume", since + 20 * MINUTE)
    drifts.follow()
    assert asyncio.run(drifts.tell()) == 1
    assert [(said.title, said.severity) for said in administrators.of("web")[1:]] == [("Source web: volume is over", "success")]
    states = [(item["notice"], item["until"] is not None, item["ending"]) for item in drifts.history("web")]
    assert states == [("waiting", False, ""), ("recovered", True, "web sends points again")], "the second began within the cool-down"
    later = now() + 61 * MINUTE
    monkeypatch.setattr("ninefold.stewardship.drifts.now", lambda: later)
    assert asyncio.run(drifts.tell()) == 1, "it lasts beyond the cool-down"
    assert administrators.of("web")[-1].title == "Source web: volume"
    assert asyncio.run(drifts.tell()) == 0


def test_what_lags_behind_the_limits_is_not_passed_over(store: Telemetry, drifts: Drifts) -> None:
    at = now()
    early, late = (drift_event(Episode(name, "metric", "volume", at, "", "", "x"), at, firing=True) for name in ("lagging", "full"))
    store.append([batch_of("event", "ninefold.limits", at + 60 * MINUTE, [late])], "limits first")
    assert drifts.follow() >= 1
    store.append([batch_of("event", "ninefold.watch", at, [early])], "then the watch")
    assert drifts.follow() >= 1
    assert [len(drifts.history(name)) for name in ("lagging", "full")] == [1, 1]


def test_only_well_made_events_of_ninefold_count(store: Telemetry, drifts: Drifts) -> None:
    since = now() - 5 * MINUTE
    episode = Episode("odd", "metric", "lag", since, "", "", "odd is late")
    good = drift_event(episode, since, firing=True)
    strange = {**good, "id": "strange", "status": "maybe"}
    broken = {**good, "id": "broken", "source_id": "b", "attributes": {"source": "odd"}}
    untimed = {**good, "id": "untimed", "source_id": "u", "attributes": {**good["attributes"], "since": "soon"}}
    store.append([batch_of("event", "ninefold.watch", now(), [good, strange, broken, untimed])], "odd ones")
    store.append([batch_of("event", "somebody", now(), [{**good, "id": "other", "source_id": "o"}])], "of somebody")
    drifts.follow()
    assert [(item["id"], item["until"]) for item in drifts.history("odd")] == [(good["id"], None)]


def test_what_is_no_warning_or_over_at_once_is_not_told(store: Telemetry, drifts: Drifts, administrators: Administrators) -> None:
    since = now() - 5 * MINUTE
    happen(store, "calm", "fields 2", since, severity="info")
    happen(store, "short", "lag", since)
    happen(store, "short", "lag", since, firing=False)
    drifts.follow()
    asyncio.run(drifts.tell())
    assert administrators.of("calm") + administrators.of("short") == []


def test_the_load_put_on_a_source_is_counted_over_a_minute(steward: Stewardship, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, given = steward._meter.counter(REQUESTS), steward._meter.counter(BYTES)
    asked.add(1000, source="shop")
    start = now()
    assert steward.freedom("shop").load is None, "how much it is a minute is not known at once"
    asked.add(20, source="shop")
    asked.add(500, source="other")
    given.add(6000, source="shop")
    monkeypatch.setattr("ninefold.stewardship.now", lambda: start + 120 * SECOND)
    load = steward.freedom("shop").load
    assert load is not None
    assert [load.requests, load.bytes] == pytest.approx([10, 3000], rel=0.01)
    assert steward.freedom("shop").load == load, "measured once a minute"


def test_facts_are_kept_for_the_roadmap(steward: Stewardship, records: Records) -> None:
    watch: SourceWatch = steward.watch
    at = now()
    for i in range(40):
        row = {"time": at + i * SECOND, "body": "x", "attributes": {"user": "ada"}}
        batch = batch_of("log", "app", at + (i + 1) * SECOND, [row])
        steward._traffic.record(batch, "push")
        watch.process(batch)
    steward.keep_now()
    steward.keep_now()
    with records.reading() as session:
        (kept,) = session.scalars(select(SourceFacts))
        (drift,) = [*session.scalars(select(SourceDrift)), None]
    assert drift is None
    assert (kept.source, kept.facts["types"], kept.facts["extraction"]) == ("app", ["log"], "push")
    assert kept.facts["score"] > 50
    assert kept.facts["models"] == [{"signal": "log", "type": "", "version": 0, "fields": 2, "named": ["attributes.user", "body"]}]
    assert steward.kept() == {"app": kept.facts}


def test_a_source_without_a_class_is_of_the_kind_by_which_it_came(steward: Stewardship) -> None:
    """The same in the API's answer and in what is kept; the mapping's name only chooses the advice."""
    at = now()
    for name, kind in (("hook", "push"), ("asked", "poll"), ("read", "file"), ("again", "own"), ("evicted", "")):
        row = {"time": at, "title": "x", "kind": "alert", "attributes": {"ninefold.normaliser": "1 webhook:jira"}}
        batch = batch_of("event", name, at, [row])
        if kind:
            steward._traffic.record(batch, kind)
        steward.watch.process(batch)
    steward.keep_now()
    kept, kinds = steward.kept(), {"hook": "push", "asked": "poll", "read": "file", "again": "push", "evicted": ""}
    assert {name: found["kind"] for name, found in kept.items()} == kinds
    assert {name: found["extraction"] for name, found in kept.items()} == kinds
    assert {name: steward.freedom(name).extraction for name in kinds} == kinds
    points = {name: found["terms"][0]["points"] for name, found in kept.items()}
    assert points == {"hook": 15.0, "asked": 9.0, "read": 5.0, "again": 15.0, "evicted": None}, "what is not known takes no points"
    assert any("jira" in line["text"].lower() for line in kept["asked"]["advice"] if line["term"] == "extraction"), kept["asked"]["advice"]


def test_keeping_facts_looks_over_what_is_counted_once(steward: Stewardship, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pass over all of it for each source would be quadratic in sources."""
    for n in range(5):
        steward.watch.process(batch_of("log", f"s{n}", now(), [{"time": now(), "body": "x"}]))
    passes, samples = [], steward._meter.samples
    monkeypatch.setattr(steward._meter, "samples", lambda: passes.append(1) or samples())
    monkeypatch.setattr(steward.watch, "of", lambda source: pytest.fail("it looks for one source among all"))
    steward.keep_now()
    assert passes == [1]
    assert len(steward.kept()) == 5
