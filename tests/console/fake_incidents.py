"""Incidents and series in exactly the shapes of the API, made from one seed."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime, timedelta
from typing import Any

from fake_words import EDGES, OWNERS, SERVICES, TITLES, entity, rfc

Json = dict[str, Any]


def service_map(cause: str, affected: set[str]) -> Json:
    """The whole shop; what is affected stands out."""
    hot = affected | {cause}
    nodes = []
    for name, (x, y) in SERVICES.items():
        state = "cause" if name == cause else "affected" if name in affected else "silent" if name == "warehouse-etl" else "healthy"
        nodes.append({"id": entity(name), "label": name, "x": x, "y": y, "state": state})
    edges = []
    for pair in EDGES.replace("\n", " ").split(","):
        a, b = pair.split()
        edges.append({"from": entity(a), "to": entity(b), "kind": "calls", "affected": a in hot and b in hot})
    return {"nodes": nodes, "edges": edges}


def incidents(number: int, now: datetime) -> list[Json]:
    """`number` incidents, newest first within their severity; the first ones wait for somebody."""
    chance = random.Random(9)
    made = []
    for index in range(number):
        opened = now - timedelta(seconds=40 + index**1.55 * 9)
        status = "open" if index < number * 0.58 else "acknowledged" if index < number * 0.72 else "resolved"
        severity = "critical" if index < 14 else chance.choice(("critical", "high", "high", "warning", "info"))
        where = chance.choice(list(SERVICES))
        sure = None if chance.random() < 0.12 else round(chance.uniform(0.34, 0.99), 2)
        made.append(
            {
                "id": f"INC-{8140 - index}",
                "title": TITLES[index % len(TITLES)],
                "status": status,
                "severity": severity,
                "entity": entity(where),
                "alerts": chance.randint(2, 64),
                "entities": chance.randint(1, 9),
                "opened": rfc(opened),
                "acknowledged": None if status == "open" else rfc(opened + timedelta(minutes=3)),
                "resolved": rfc(opened + timedelta(minutes=27)) if status == "resolved" else None,
                "last_event": rfc(min(now, opened + timedelta(minutes=22))),
                "owner": chance.choice(OWNERS),
                "teams": [],
                "mitigated": None,
                "confidence": sure,
                "cause": None
                if sure is None
                else {
                    "entity": entity("payment-gateway"),
                    "kind": "deployment",
                    "summary": "deploy 2026.11.3 four minutes before the first symptom",
                },
                "needs": "approval" if index == 0 else "acknowledge" if status == "open" else "",
                "truth": None,
                "feedback": "",
                "merged_into": None,
                "version": 1,
            }
        )
    made[0] |= {
        "title": "p99 latency above its expected band",
        "entity": entity("checkout"),
        "confidence": 0.91,
        "alerts": 37,
        "entities": 5,
        "opened": rfc(now - timedelta(minutes=26)),
        "last_event": rfc(now - timedelta(minutes=2)),
    }
    made[0]["cause"] = {
        "entity": entity("payment-gateway"),
        "kind": "deployment",
        "summary": "deploy 2026.11.3 four minutes before the first symptom",
    }
    made[0]["truth"] = {
        "entity": entity("payment-gateway"),
        "kind": "cpu_contention",
        "text": "CPU contention in the code of the new release",
    }
    made[1] |= {
        "confidence": None,
        "cause": None,
        "truth": {"entity": entity("kafka-main"), "kind": "network_delay", "text": "network delay"},
    }
    return made


def detail(incident: Json, now: datetime, approvals: list[Json], runs: list[Json]) -> Json:
    """An incident with all that speaks for it."""
    opened = datetime.fromisoformat(incident["opened"])
    cause = (incident["cause"] or {}).get("entity", entity("fraud"))
    name = cause.rsplit("/", 1)[1]
    candidates = [
        {
            "entity": cause,
            "score": 4.2,
            "confidence": incident["confidence"] or 0.31,
            "evidence": [
                {
                    "kind": "change",
                    "text": "deploy 2026.11.3 was rolled out here 4 minutes before the first symptom",
                    "weight": 1.8,
                    "series": None,
                    "time": rfc(opened - timedelta(minutes=4)),
                },
                {
                    "kind": "metric",
                    "text": "CPU usage rose from 0.41 to 0.97 cores, 11 times its usual spread",
                    "weight": 1.3,
                    "series": "1002",
                    "time": rfc(opened - timedelta(minutes=2)),
                },
                {"kind": "span", "text": "its own time is 83 % of the slow traces", "weight": 0.9, "series": None, "time": None},
                {"kind": "graph", "text": "every affected service needs it, within 3 calls", "weight": 0.6, "series": None, "time": None},
                {"kind": "onset", "text": "moved 48 s before the next candidate", "weight": 0.4, "series": None, "time": None},
            ],
        },
        {
            "entity": entity("payments"),
            "score": 1.9,
            "confidence": 0.22,
            "evidence": [
                {
                    "kind": "span",
                    "text": "p99 latency is 9 times its usual value, all of it waiting for payment-gateway",
                    "weight": 0.8,
                    "series": None,
                    "time": None,
                },
                {
                    "kind": "log",
                    "text": "'upstream timed out after <*> ms' appeared 412 times, usually 2",
                    "weight": 0.5,
                    "series": None,
                    "time": None,
                },
            ],
        },
        {
            "entity": entity("postgres-ledger"),
            "score": 0.7,
            "confidence": 0.08,
            "evidence": [
                {"kind": "metric", "text": "active connections rose from 40 to 61", "weight": 0.3, "series": "1003", "time": None},
                {"kind": "graph", "text": "healthy callers reach it without delay", "weight": -0.4, "series": None, "time": None},
            ],
        },
        {
            "entity": entity("fraud"),
            "score": 0.4,
            "confidence": 0.05,
            "evidence": [
                {"kind": "onset", "text": "moved 3 minutes after the first symptom", "weight": -0.2, "series": None, "time": None},
            ],
        },
    ]
    found = (
        ("payments", "high", "p99 latency 2.4 s, expected below 0.3 s"),
        ("checkout", "critical", "error ratio 7.1 %, expected below 0.5 %"),
        ("web-frontend", "warning", "apdex 0.71, expected above 0.92"),
        ("mobile-bff", "warning", "timeouts 41/min, expected below 3/min"),
    )
    events = [
        {
            "id": f"e{index}",
            "time": rfc(opened + timedelta(seconds=index * 47)),
            "kind": "alert" if index % 3 else "anomaly",
            "source": "prometheus" if index % 3 else "ninefold",
            "entity": entity(found[index % 4][0]),
            "title": found[index % 4][2],
            "severity": found[index % 4][1],
            "status": "firing",
            "attributes": {"alertname": "LatencyHigh"},
        }
        for index in range(12)
    ]
    changes = [
        {
            "id": "c1",
            "time": rfc(opened - timedelta(minutes=4)),
            "kind": "deployment",
            "source": "github",
            "entity": cause,
            "title": f"deploy 2026.11.3 of {name}",
            "severity": "info",
            "status": "succeeded",
            "attributes": {},
        }
    ]
    return incident | {
        "verdict": "determined" if incident["cause"] else "undetermined",
        "reason": ""
        if incident["cause"]
        else "Two entities moved within the same 10 s and share their callers; no change tells them apart.",
        "candidates": candidates,
        "events": events,
        "changes": changes,
        "map": service_map(name if incident["cause"] else "", {"payments", "checkout", "web-frontend", "mobile-bff", "edge-gateway"}),
        "charts": [
            {"series": "1001", "title": "checkout p99 latency", "unit": "ms", "entity": entity("checkout")},
            {"series": "1002", "title": "CPU usage", "unit": "{cores}", "entity": cause},
            {"series": "1004", "title": "error ratio", "unit": "%", "entity": entity("checkout")},
        ],
        "patterns": [
            {
                "pattern": "p1",
                "template": "upstream timed out after <*> ms while reading response header from payment-gateway",
                "count": 4127,
                "usual": 2.1,
                "severity": "high",
            },
            {"pattern": "p2", "template": "retrying charge <*> (attempt <*> of 5)", "count": 1893, "usual": 14, "severity": "warning"},
            {"pattern": "p3", "template": "circuit breaker opened for payment-gateway", "count": 36, "usual": 0, "severity": "critical"},
        ],
        "similar": [
            {
                "id": "INC-7611",
                "title": "p99 latency above its expected band",
                "opened": rfc(now - timedelta(days=21)),
                "resolved": rfc(now - timedelta(days=21)),
                "cause": entity("payment-gateway"),
                "fixed_by": "roll-back-deploy",
                "score": 0.93,
                "reasons": ["the same cause: payment-gateway", "3 of 4 alerts the same: latency, errors, saturation"],
            },
            {
                "id": "INC-6904",
                "title": "connection pool exhausted",
                "opened": rfc(now - timedelta(days=63)),
                "resolved": rfc(now - timedelta(days=63)),
                "cause": entity("postgres-ledger"),
                "fixed_by": "",
                "score": 0.58,
                "reasons": ["the same rules on other entities: saturation"],
            },
        ],
        "runs": [run for run in runs if run["incident"] == incident["id"]],
        "approvals": [approval for approval in approvals if approval["incident"] == incident["id"]],
        "escalation": {
            "policy": "standard",
            "status": "running",
            "step": 1,
            "steps": 2,
            "round": 1,
            "due": rfc(now + timedelta(minutes=4)),
        },
        "tickets": [
            {
                "system": "Request Tracker",
                "id": "4711",
                "url": "http://rt.example/Ticket/Display.html?id=4711",
                "status": "open",
                "owner": "anna",
            }
        ],
    }


def similar(found: Json) -> list[Json]:
    """Earlier incidents with what was done about them."""
    done = [("acknowledged", "Acknowledged by ann", "ann", ""), ("run", "roll-back-deploy", "INC-7611 opened", "succeeded")]
    keys = ("kind", "text", "actor", "status")
    return [
        {**like, "remedies": [{"time": like["opened"], **dict(zip(keys, each, strict=True))} for each in done if like["fixed_by"]]}
        for like in found["similar"]
    ]


def timeline(incident: Json, found: Json) -> list[Json]:
    opened = datetime.fromisoformat(incident["opened"])
    rows = [
        (event["time"], event["kind"], event["title"], "", "", event["source"], event["entity"], event["severity"])
        for event in found["events"][:6] + found["changes"]
    ]
    rows += [
        (
            rfc(opened + timedelta(seconds=20)),
            "incident",
            "Incident opened",
            "2 alerts of one component within 60 s.",
            "",
            "ninefold",
            "",
            "",
        ),
        (
            rfc(opened + timedelta(seconds=32)),
            "workflow",
            "open-a-ticket: ticket 4711 created",
            "Request Tracker answered 201 in 0.4 s.",
            "",
            "ninefold",
            "",
            "",
        ),
        (rfc(opened + timedelta(seconds=95)), "ticket", "Ticket 4711 taken by M. Lindqvist", "", "M. Lindqvist", "rt", "", ""),
        (
            rfc(opened + timedelta(seconds=120)),
            "approval",
            "roll-back-deploy asks: undo 2026.11.3?",
            "",
            "",
            "ninefold",
            entity("payment-gateway"),
            "",
        ),
    ]
    keys = ("time", "kind", "title", "body", "actor", "source", "entity", "severity")
    return sorted((dict(zip(keys, row, strict=True)) for row in rows), key=lambda row: row["time"])


def why(incident: Json) -> list[Json]:
    opened = datetime.fromisoformat(incident["opened"])
    rows = (
        (
            "normalise",
            "alertmanager record mapped by alertmanager/1; severity 'page' became critical",
            {"normaliser": "alertmanager/1", "raw_severity": "page"},
        ),
        ("fingerprint", "fingerprint 9f31c2aa01b77e40 from alertname, service, severity", {"fields": ["alertname", "service", "severity"]}),
        ("dedup", "12 repeats folded into the first alert", {"repeats": 12}),
        (
            "correlate",
            "joined the open group of component edge-gateway: 2 hops away, 47 s after its last alert",
            {"groups": [{"id": 71, "score": 0.83}, {"id": 70, "score": 0.11}]},
        ),
        (
            "cause",
            "payment-gateway leads with 4.2 against 1.9; confidence 0.91 is above the threshold 0.5",
            {"threshold": 0.5, "scores": {"payment-gateway": 4.2, "payments": 1.9}},
        ),
        (
            "workflow",
            "open-a-ticket ran; roll-back-deploy waits for approval; notify-owner skipped: cool-down until 21:14",
            {"skipped": {"notify-owner": "cool-down"}},
        ),
    )
    return [
        {"time": rfc(opened + timedelta(seconds=i * 5)), "step": step, "text": text, "detail": data}
        for i, (step, text, data) in enumerate(rows)
    ]


SERIES = (
    ("1001", "http.server.request.duration.p99", "ms", "checkout"),
    ("1002", "container.cpu.usage", "{cores}", "payment-gateway"),
    ("1003", "db.client.connections.usage", "{connections}", "postgres-ledger"),
    ("1004", "http.server.error.ratio", "%", "checkout"),
    ("1005", "process.memory.usage", "By", "payment-gateway"),
    ("1006", "kafka.consumer.lag", "{messages}", "kafka-main"),
    ("1007", "http.server.request.count", "{requests}/s", "edge-gateway"),
    ("1008", "system.disk.free", "By", "warehouse-etl"),
    ("1009", "shop.baskets", "{basket(s", "checkout"),
    ("1010", "shop.orders", "{orders}/min", "checkout"),
    ("1011", "http.server.request.duration.p50", "ms", "payments"),
)
_SLOW = {"1010": 300}
"""Series that are measured seldom: seconds between two samples."""


_SHAPE = {
    "1001": (120, 34, 260),
    "1002": (0.45, 0.1, 0.97),
    "1003": (44, 9, 61),
    "1004": (0.4, 0.12, 7.1),
    "1005": (410e6, 30e6, 620e6),
    "1009": (12, 3, 20),
    "1010": (310, 60, 90),
    "1011": (61, 9, 90),
    "1006": (900, 220, 5200),
    "1007": (830, 170, 410),
    "1008": (64e9, 2e9, 60e9),
}


def series() -> list[Json]:
    return [
        {
            "series": key,
            "name": name,
            "unit": unit,
            "kind": "gauge",
            "entity": entity(where),
            "attributes": {"service.name": where},
            "source": "otlp",
        }
        for key, name, unit, where in SERIES
    ]


def points(key: str, start: float, end: float, wanted: int, trouble: tuple[float, float], each: int = 0) -> Json:
    """A daily wave with noise, its band, and a burst during the `trouble` window (epoch seconds); `each`: a point so often."""
    _, name, unit, where = next(row for row in SERIES if row[0] == key)
    level, wave, peak = _SHAPE[key]
    apart = float(_SLOW.get(key, 5))
    step = float(each) or max(apart, (end - start) / wanted)
    chance = random.Random(int(key))
    times, values, lows, highs, centres = [], [], [], [], []
    at = start
    while at <= end:
        centre = level + wave * math.sin(at / 5200) + wave * 0.35 * math.sin(at / 1300)
        value = centre + chance.gauss(0, wave * 0.12)
        if trouble[0] <= at <= trouble[1]:
            rise = math.sin(math.pi * (at - trouble[0]) / (trouble[1] - trouble[0])) ** 0.6
            value += (peak - level) * max(0.0, rise)
        times.append(round(at, 1))
        values.append(round(value, 4))
        centres.append(round(centre, 4))
        lows.append(round(centre - wave * 0.5, 4))
        highs.append(round(centre + wave * 0.5, 4))
        at += step
    moment = datetime.fromtimestamp
    measured = [not each or i % max(1, round(apart / each)) == 0 for i in range(len(times))]
    last = max((i for i, was in enumerate(measured) if was), default=0)
    for i in (i for i in range(last) if not measured[i]):
        before = max(j for j in range(i) if measured[j])
        after = min(j for j in range(i, last + 1) if measured[j])
        values[i] = values[before] + (values[after] - values[before]) * (i - before) / (after - before)
    del times[last + 1 :], values[last + 1 :], centres[last + 1 :], lows[last + 1 :], highs[last + 1 :], measured[last + 1 :]
    return {
        "series": key,
        "name": name,
        "unit": unit,
        "entity": entity(where),
        "time": times,
        "kind": "gauge",
        "value": values,
        "low": values,
        "high": values,
        "measured": measured,
        "lower": lows,
        "upper": highs,
        "centre": centres,
        "findings": [
            {
                "time": rfc(moment(trouble[0], UTC)),
                "until": rfc(moment(trouble[1], UTC)),
                "kind": "anomaly",
                "severity": "critical",
                "text": f"{name} left its expected band",
                "horizon": "12",
                "expected": 180.0,
                "demoted": False,
            }
        ],
        "changes": [{"time": rfc(moment(trouble[0] - 240, UTC)), "title": "deploy 2026.11.3 of payment-gateway"}],
        "samples": len(times) * 3,
        "step_s": apart if each else step,
        "resolution": "1m" if end - start > 43_200 else "raw",
    }
