"""Sources, quarantine, workflows, runs and the roadmap in exactly the shapes of the API."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from fake_words import STEPS, rfc

Json = dict[str, Any]


def sources(now: datetime) -> list[Json]:
    def source(name: str, kind: str, signals: Json, p50: float | None, p99: float | None, bad: int, state: str, ago: float) -> Json:
        flows = {signal: {"rows": rows, "rate_per_s": rate} for signal, (rows, rate) in signals.items()}
        return {
            "name": name,
            "kind": kind,
            "signals": flows,
            "first_seen": rfc(now - timedelta(days=3)),
            "last_seen": rfc(now - timedelta(seconds=ago)),
            "delay_p50_s": p50,
            "delay_p99_s": p99,
            "quarantined": bad,
            "state": state,
            "score": 80.9 if name == "deploys" else None,
            "drifting": int(name == "deploys"),
        }

    return [
        source(
            "otlp",
            "push",
            {"metric": (18_420_771, 2410.0), "span": (4_118_003, 612.4), "log": (9_220_114, 1180.2)},
            0.21,
            0.94,
            0,
            "flowing",
            1,
        ),
        source("prometheus", "push", {"metric": (61_004_220, 8120.0)}, 0.48, 1.9, 0, "flowing", 2),
        source("alertmanager", "push", {"event": (2214, 0.4)}, 0.09, 0.31, 3, "flowing", 14),
        source("syslog", "push", {"log": (811_092, 37.0)}, 0.02, 0.11, 41, "flowing", 1),
        source("deploys", "push", {"event": (94, 0.001)}, 0.3, 1.1, 0, "quiet", 1560),
        source("billing.csv", "file", {"event": (1204, 0.0)}, 41.0, 612.0, 2, "silent", 52_000),
        source("ninefold", "own", {"event": (1890, 0.2), "metric": (220_110, 31.0)}, 0.01, 0.05, 0, "flowing", 1),
    ]


def quarantine(now: datetime) -> list[Json]:
    reasons = (
        (
            "alertmanager",
            "event",
            "alertmanager",
            "the alert has no label that names it",
            "alerts[2].labels",
            '{"status":"firing","labels":{},"annotations":{"summary":"?"},"startsAt":"2026-11-22T20:31:00Z"}',
        ),
        (
            "syslog",
            "log",
            "rfc5424",
            "the time stamp '0000-00-00' is not a time",
            "byte 5",
            "<34>1 0000-00-00 mailhost su - ID47 - 'su root' failed for lonvick",
        ),
        ("billing.csv", "event", "csv", "the column 'amount' is not a number: 'n/a'", "row 118, amount", "2026-11-21,invoice,n/a,EUR"),
    )
    return [
        {
            "id": f"q{index}",
            "time": rfc(now - timedelta(minutes=7 * index)),
            "source": source,
            "signal": signal,
            "format": form,
            "reason": reason,
            "where": where,
            "payload": payload,
            "state": "waiting",
        }
        for index, (source, signal, form, reason, where, payload) in enumerate(reasons * 2)
    ]


def workflows(now: datetime) -> list[Json]:
    def workflow(
        name: str, text: str, mode: str, trigger: str, steps: list[tuple[str, str, str]], counts: tuple[int, int, int], problem: str = ""
    ) -> Json:
        return {
            "name": name,
            "description": text,
            "enabled": True,
            "mode": mode,
            "trigger": trigger,
            "problem": problem,
            "steps": [dict(zip(("id", "uses", "risk"), step, strict=True)) for step in steps],
            "runs": dict(zip(("succeeded", "failed", "waiting"), counts, strict=True)),
            "last_run": rfc(now - timedelta(minutes=24)) if sum(counts) else None,
        }

    return [
        workflow(
            "open-a-ticket",
            "Open a ticket, keep it up to date and close it with the incident.",
            "auto",
            "incident.opened",
            [("open", "request_tracker.create", "write"), ("tell", "notify.send", "write"), ("close", "request_tracker.resolve", "write")],
            (214, 2, 0),
        ),
        workflow(
            "roll-back-deploy",
            "Undo the newest deployment of the probable cause, once a person agrees.",
            "approve",
            "incident.cause.kind == 'deployment'",
            [("look", "http.get", "read"), ("undo", "kubernetes.rollout_undo", "dangerous"), ("check", "http.get", "read")],
            (11, 1, 1),
        ),
        workflow(
            "restart-service",
            "Restart the service whose memory leaks.",
            "approve",
            "incident.title.contains('memory leak')",
            [("restart", "shell.run", "dangerous")],
            (4, 0, 0),
        ),
        workflow(
            "page-the-owner",
            "Call whoever is on duty.",
            "auto",
            "incident.severity == 'critical'",
            [("page", "pagerduty.trigger", "write")],
            (0, 0, 0),
            "the connector pagerduty is not configured; add it to ninefold.yaml",
        ),
    ]


def step(name: str, uses: str, risk: str, status: str, start: datetime, took: float, given: Any, got: Any, error: str = "") -> Json:
    done = status in ("succeeded", "failed")
    return {
        "id": name,
        "uses": uses,
        "risk": risk,
        "status": status,
        "started": rfc(start) if status != "queued" else None,
        "finished": rfc(start + timedelta(seconds=took)) if done else None,
        "attempts": 2 if error else 1,
        "input": given,
        "output": got,
        "error": error,
    }


def runs(incident: str, now: datetime) -> list[Json]:
    begun = now - timedelta(minutes=25)
    ticket = [
        step(
            "open",
            "request_tracker.create",
            "write",
            "succeeded",
            begun,
            0.42,
            {"queue": "Operations", "subject": f"{incident} p99 latency above its expected band"},
            {"ticket": 4711, "url": "http://rt.example/4711"},
        ),
        step(
            "tell", "notify.send", "write", "succeeded", begun, 0.13, {"title": f"{incident}: probable cause payment-gateway"}, {"sent": 1}
        ),
    ]
    undo = [
        step(
            "look",
            "http.get",
            "read",
            "succeeded",
            begun,
            0.09,
            {"url": "http://payment-gateway/version"},
            {"status": 200, "body": "2026.11.3"},
        ),
        step(
            "undo",
            "kubernetes.rollout_undo",
            "dangerous",
            "waiting",
            begun,
            0,
            {"namespace": "shop", "deployment": "payment-gateway"},
            None,
        ),
        step("check", "http.get", "read", "queued", begun, 0, None, None),
    ]
    broken = [
        step(
            "restart",
            "shell.run",
            "dangerous",
            "failed",
            begun,
            30.0,
            {"command": "systemctl restart pricing"},
            None,
            "the command did not end within 30 s; raise timeout_s or look at the host",
        )
    ]

    def run(
        key: str, name: str, status: str, steps: list[Json], trigger: str, error: str = "", back: int = 0, about: str = incident
    ) -> Json:
        started = begun - timedelta(minutes=back)
        return {
            "id": key,
            "workflow": name,
            "incident": about,
            "status": status,
            "started": rfc(started),
            "trigger": trigger,
            "error": error,
            "steps": steps,
            "finished": rfc(started + timedelta(seconds=0.55)) if status in ("succeeded", "failed", "rejected") else None,
        }

    return [
        run(88, "roll-back-deploy", "waiting", undo, "incident.cause.kind == 'deployment'"),
        run(87, "open-a-ticket", "succeeded", ticket, "incident.opened"),
        run(
            71,
            "restart-service",
            "failed",
            broken,
            "M. Lindqvist",
            "step restart failed: the command did not end within 30 s",
            95,
            "INC-8101",
        ),
        run(70, "open-a-ticket", "succeeded", ticket, "incident.opened", "", 96, "INC-8101"),
    ]


def approval(incident: Json, now: datetime) -> Json:
    return {
        "id": 5,
        "kind": "step",
        "role": "operator",
        "decided": None,
        "run": 88,
        "workflow": "roll-back-deploy",
        "step": "undo",
        "incident": incident["id"],
        "incident_title": incident["title"],
        "uses": "kubernetes.rollout_undo",
        "risk": "dangerous",
        "ask": {"namespace": "shop", "deployment": "payment-gateway", "to_revision": 41},
        "question": "Undo deployment 2026.11.3 of payment-gateway? It goes back to 2026.11.2 in about 40 s.",
        "requested": rfc(now - timedelta(minutes=3)),
        "expires": rfc(now + timedelta(minutes=57)),
        "status": "waiting",
        "actor": "",
        "note": "",
    }


def roadmap(connected: bool) -> Json:
    figures: dict[int, list[tuple[str, Any, str, str]]] = {
        1: [
            ("sources that flow", 6, "", "of 7 connected"),
            ("median delay", 0.24, "s", "event to store, 24 h"),
            ("data freedom", 83, "%", "streams, programmatic, fresh"),
        ],
        2: [("incidents with a ticket", 92, "%", "214 of 232"), ("record kinds seen", 3, "of 6", "incident, change, deployment")],
        3: [
            ("time to detect", 48, "s", "median, 7 days"),
            ("time to resolve", 27, "min", "median, 7 days"),
            ("noise cut", 96.4, "%", "47,119 alerts in 1,698 incidents"),
        ],
        4: [("fields in use", 214, "", "over 7 sources, 3 drifted this week"), ("mapped to OpenTelemetry terms", 88, "%", "")],
        6: [("runs this week", 232, "", "97 % succeeded"), ("approvals answered", 12, "", "median wait 2 min")],
        7: [("time saved", 18.5, "h", "this month, from step times")],
        9: [("techniques at work", 4, "", "baseline, templates, correlation, root cause"), ("series watched", 10_412, "", "")],
    }
    missing = {
        2: [("Assets are not measured yet.", "Connect a CMDB or send relations.")],
        5: [("Not measured yet.", "Connect a service desk (Request Tracker, Jira, ServiceNow) so that its ticket history can be read.")],
        7: [("Recurrence after a run is not measured yet.", "It needs two weeks of incidents.")],
        8: [("Not measured yet.", "Give verdicts on incidents; agreement is computed from the tenth on.")],
    }
    steps = []
    for number, (key, title, question) in enumerate(STEPS, 1):
        shown = (
            [{"name": n, "value": v, "unit": u, "text": t, "how": f"computed from {key}"} for n, v, u, t in figures.get(number, [])]
            if connected
            else []
        )
        gaps = (
            [{"text": text, "hint": hint} for text, hint in missing.get(number, [])]
            if connected
            else [{"text": "Not measured yet.", "hint": "Connect a source."}]
        )
        steps.append(
            {
                "number": number,
                "key": key,
                "title": title,
                "stage": ("early", "middle", "late")[(number - 1) // 3],
                "question": question,
                "score": [71, 48, 82, 66, None, 59, 34, None, 52][number - 1] if connected else None,
                "how": "the mean of its shares",
                "figures": shown,
                "missing": gaps,
            }
        )
    return {"steps": steps}
