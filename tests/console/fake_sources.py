"""One source in depth, in exactly the shapes of the API; kinds, suggestions and readings come from the product's own code."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from fake_words import rfc

from ninefold.config import WebhookConfig
from ninefold.ground.clock import iso, parse
from ninefold.ground.errors import NinefoldError
from ninefold.sources.webhook import Reader
from ninefold.stewardship.mapping import suggested
from ninefold.stewardship.trying import dump, kinds

Json = dict[str, Any]
_SHOWN = ("kind", "title", "body", "time", "severity", "status", "source_id", "entity", "attributes")
_RADIUS = {
    "series": 412, "detectors": 412, "entities": 27, "rules": ["DiskWillFill", "HighErrorRate"], "incidents_30d": 31,
    "workflows": ["open-a-ticket", "roll-back-deploy"], "kpis": ["Noise reduction", "Time to detect"],
    "use_cases": {"Explain causes": "weaker", "Know what was deployed": "lost"}, "only_source_of": ["changes"],
}  # fmt: skip
_NOTHING = {
    "series": 0, "detectors": 0, "entities": 0, "rules": [], "incidents_30d": 0, "workflows": [], "kpis": [], "use_cases": {},
    "only_source_of": [],
}  # fmt: skip


def _freedom(name: str, known: bool) -> Json:
    terms = [
        ("extraction", 15.0, 15, "push", "Pushed or streamed 15, polled 9, read from files 5."),
        ("programmatic", 10.0, 10, "by program", "By program 10, by hand 0."),
        ("frequency", 6.0, 15, "every 5 min", "At most 10 s apart 15, a minute 11, 5 min 6, an hour 3; pushed when it happens 15."),
        ("jitter", 3.0, 5, "3.4x", "Rare gaps (p99) over usual ones: at most 2 gives 5, 5 gives 3, more 0."),
        ("delay", 12.0, 12, "300 ms", "Half of the records arrive within 2 s 12, 10 s 10, a minute 6, 10 min 3."),
        ("late records", 8.0, 8, "1.1 s", "99 % of the records arrive within 10 s 8, a minute 6, 10 min 3."),
        ("completeness", 14.4, 15, "12 of 4,210 points missing in the series followed, 3 refused", "15 x (1 - 10 x the missing share)."),
        ("history", 0.5, 5, "3.0 days", "Newest minus oldest record time; 30 days give all."),
        ("schema", 8.0, 10, "1 changes", "10 less 2 for every change of a data model in 30 days."),
        ("load", None, 5, "not measured", "Polled at most 6 times a minute 5, 60 times 3, more 0."),
    ]  # fmt: skip
    if not known:
        terms = [(term, None, most, "unknown", how) for term, _, most, _, how in terms]
    had, most = sum(t[1] or 0 for t in terms), sum(t[2] for t in terms if t[1] is not None)
    score = round(100 * had / most, 1) if most else None
    total = " + ".join(f"{term} {points:.3g}/{of}" for term, points, of, _, _ in terms if points is not None)
    advice = [
        {"term": "frequency", "lost": "9", "text": "let it deliver more often: what happens between two deliveries is not seen"},
        {"term": "history", "lost": "4.5", "text": "load what the product has kept: export it once and send it with `ninefold replay`"},
        {"term": "jitter", "lost": "2", "text": "look for a queue or a schedule that slips on the way"},
    ]  # fmt: skip
    return {
        "source": name, "kind": "webhook", "extraction": "push", "programmatic": True, "types": ["event", "metric"] if known else [],
        "frequency_s": 300.0 if known else None, "jitter": 3.4 if known else None, "delay_p50_s": 0.3 if known else None,
        "delay_p99_s": 1.1 if known else None, "completeness": 0.99583 if known else None, "history_days": 3.0 if known else 0.0,
        "schema_changes": 1 if known else None, "load": None, "score": score, "advice": advice if known else [],
        "terms": [dict(zip(("name", "points", "most", "measured", "how"), term, strict=True)) for term in terms],
        "arithmetic": f"({total}) = {had:.3g} of {most} = {score}",
    }  # fmt: skip


def _stream(signal: str, now: datetime, **more: Any) -> Json:
    usual = {
        "signal": signal, "rows": 94, "deliveries": 90, "regular": False, "every_s": 1260.0, "silent_after_s": None, "rows_usual": None,
        "delay_p50_s": 0.3, "delay_p99_s": 1.1, "step_s": None, "points_missing": 0, "variety": 61, "oldest": rfc(now - timedelta(days=3)),
        "newest": rfc(now - timedelta(minutes=26)),
    }  # fmt: skip
    return usual | more


def _field(path: str, kind: str, now: datetime, examples: list[str], **more: Any) -> Json:
    usual = {
        "path": path, "type": kind, "types": {kind: 94}, "unit": "", "examples": examples, "distinct": len(examples),
        "distinct_exact": True, "null_rate": 0.0, "first_seen": rfc(now - timedelta(days=3)), "last_seen": rfc(now), "gone": False,
    }  # fmt: skip
    return usual | more


def _models(now: datetime) -> list[Json]:
    raw = [
        _field("raw.app", "text", now, ["checkout", "payment-gateway", "cart"]),
        _field("raw.version", "text", now, ["2026.11.3", "2026.11.2"], distinct=31),
        _field("raw.finished_at", "time", now, ["2026-11-22T19:31:07Z"], distinct=94),
        _field("raw.took_ms", "integer", now, ["41230", "38114"], unit="ms", types={"integer": 91, "text": 3}, distinct=90),
        _field("raw.steps[].name", "text", now, ["build", "push", "roll out"], null_rate=0.021, first_seen=rfc(now - timedelta(hours=5))),
        _field("raw.commit", "text", now, ["9f31c2aa01b7", "77e01c9d4410"], distinct=12_400, distinct_exact=False, null_rate=0.4),
        _field("raw.operator", "text", now, ["m.lindqvist"], gone=True, null_rate=0.61),
    ]
    raw += [_field(f"raw.labels.label_{n:02d}", "text", now, [f"value {n}"], null_rate=0.5) for n in range(64)]
    versions = [
        {
            "version": 2, "since": rfc(now - timedelta(hours=5)), "changes": [
                {"field": "raw.steps[].name", "change": "new", "was": "", "now": "text"},
                {"field": "raw.operator", "change": "vanished", "was": "text", "now": ""},
                {"field": "raw.took_ms", "change": "retyped", "was": "text", "now": "number"},
            ],
        },
        {"version": 1, "since": rfc(now - timedelta(days=3)), "changes": []},
    ]  # fmt: skip
    seen = {"first_seen": rfc(now - timedelta(days=3)), "last_seen": rfc(now)}
    series = [_field("name", "text", now, ["shop.orders", "shop.revenue"]), _field("unit", "text", now, ["{orders}/min", "EUR"])]
    return [
        {
            "signal": "event", "type": "deployment webhook:deploys", "version": 2, "learning": False, "sampled": 94, **seen,
            "fields": raw, "overflow": 0, "versions": versions,
        },
        {
            "signal": "series", "type": "", "version": 0, "learning": True, "sampled": 12, **seen, "fields": series, "overflow": 0,
            "versions": [],
        },
    ]  # fmt: skip


def _drifts(now: datetime) -> list[Json]:
    def drift(identity: str, what: str, title: str, usual: str, is_now: str, hours: float, lasted: float | None, notice: str) -> Json:
        since = now - timedelta(hours=hours)
        over = lasted is not None
        return {
            "id": identity, "signal": "metric" if what == "volume" else "event", "what": what, "title": title, "usual": usual,
            "severity": "high" if what == "silence" else "info" if what.startswith("fields") else "warning", "since": rfc(since),
            "until": rfc(since + timedelta(hours=lasted or 0)) if over else None, "now": is_now,
            "ending": f"{what} of deploys is as usual again" if over else "", "radius": _RADIUS, "notice": notice,
        }  # fmt: skip

    changed = "records of deploys have changed: raw.steps[].name is new, raw.operator vanished, raw.took_ms retyped (text -> number)"
    silent = "deploys has sent no events for 9 h, usually every 21 min"
    return [
        drift("d3", "volume", "deploys sends only 8 % of its usual points", "1,200 in 5 min", "96 in 5 min", 0.4, None, "sent"),
        drift("d2", "fields deployment webhook:deploys 2", changed, "version 1", "version 2", 5, 1, "none"),
        drift("d1", "silence", silent, "every 21 min", "nothing for 9 h", 40, 9.5, "recovered"),
    ]


def detail(name: str, now: datetime) -> Json:
    """GET sources/{name}: `deploys` is rich, everything else has barely begun."""
    if name != "deploys":
        return {
            "name": name, "mapping": "", "freedom": _freedom(name, False), "streams": [], "models": [], "drifting": [], "drifts": [],
            "radius": _NOTHING,
        }  # fmt: skip
    drifts = _drifts(now)
    drifting = [
        {
            "source": name, "signal": found["signal"], "what": found["what"], "since": found["since"], "usual": found["usual"],
            "now": found["now"], "text": found["title"], "bad": 4, "good": 0, "fired": True, "detail": "",
        } for found in drifts if found["until"] is None
    ]  # fmt: skip
    orders = _stream(
        "metric", now, rows=61_004, deliveries=4210, regular=True, every_s=300.0, silent_after_s=900.0, rows_usual=1200.0, step_s=300.0,
        points_missing=12, variety=412, newest=rfc(now),
    )  # fmt: skip
    return {
        "name": name, "mapping": "deploys", "freedom": _freedom(name, True), "streams": [_stream("event", now), orders],
        "models": _models(now), "drifting": drifting, "drifts": drifts, "radius": _RADIUS,
    }  # fmt: skip


def records(now: datetime) -> list[str]:
    """What a deployment tool has sent."""
    apps = ("checkout", "payment-gateway", "cart", "orders", "search")
    return [
        json.dumps(
            {
                "app": apps[n % 5], "version": f"2026.11.{9 - n}", "state": "ok" if n % 3 else "broken", "run": 7100 + n,
                "text": f"rolled out {apps[n % 5]} 2026.11.{9 - n}",
                "finished_at": rfc(now - timedelta(minutes=21 * n)), "level": "page" if n % 3 == 0 else "info",
            }
        )
        for n in range(8)
    ]  # fmt: skip


class FakeMappings:
    """The mapping of `deploys`: saved, tried and applied as the product does it, over a few records."""

    def __init__(self, now: datetime) -> None:
        self.records = records(now)
        self.received = parse(rfc(now))
        self.saved: list[Json] = []

    def info(self) -> Json:
        table = self.saved[-1]["mapping"] if self.saved else None
        found = suggested([json.loads(record) for record in self.records])
        return {
            "name": "deploys", "origin": "saved" if self.saved else "none", "version": len(self.saved), "mapping": table,
            "yaml": dump(table) if table else "", "versions": self.saved[::-1], "suggestions": [asdict(one) for one in found],
        }  # fmt: skip

    def save(self, config: WebhookConfig, note: str) -> Json:
        Reader("deploys", config)
        self.saved.append(
            {
                "version": len(self.saved) + 1,
                "author": "ops",
                "note": note,
                "time": iso(self.received),
                "mapping": config.model_dump(mode="json"),
            }
        )
        return self.info()

    def preview(self, config: WebhookConfig, count: int) -> Json:
        reader, usual = Reader("deploys", config), Reader("deploys")
        items = [self._tried(reader, usual, record, n) for n, record in enumerate(self.records[:count])]
        return {
            "items": items,
            "changed": sum(bool(item["changed"]) for item in items),
            "failed": sum(bool(item["error"]) for item in items),
        }

    def _tried(self, reader: Reader, usual: Reader, record: str, number: int) -> Json:
        before = _shown(usual.to_event(record.encode(), self.received))
        tried: Json = {"id": f"e{number}", "raw": record, "before": before, "after": None, "changed": [], "error": ""}
        try:
            after = _shown(reader.to_event(record.encode(), self.received))
        except NinefoldError as error:
            return tried | {"error": str(error)}
        return tried | {"after": after, "changed": [key for key in _SHOWN if before[key] != after[key]]}


def _shown(row: Json) -> Json:
    shown = {key: row[key] for key in _SHOWN} | {"time": iso(row["time"])}
    return shown | {"attributes": {key: value for key, value in dict(row["attributes"]).items() if not key.startswith("ninefold.")}}


def source_kinds() -> Json:
    """GET source-kinds, with every kind there is."""
    return {"items": kinds()}


def attempt(now: datetime) -> Json:
    """POST source-kinds/{kind}/check that went well."""
    found = [asdict(one) for one in suggested([json.loads(record) for record in records(now)])]
    rows = [{"received": rfc(now), "source": "trial", "format": "webhook:shop", "payload": record} for record in records(now)[:3]]
    return {
        "said": "connected to MQTT 5 broker mosquitto, 8 messages in 3 s", "samples": [{"signal": "raw", "rows": 8, "first": rows}],
        "suggestions": found, "mapping": "shop", "cadence": "It is pushed: nothing has to be asked.", "kind": "alert",
        "settings": {"batch": 500},
    }  # fmt: skip
