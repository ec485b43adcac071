"""Every call of the API that changes something leaves one row of the audit: who did what to what, and what it was before."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from served import Program, until

READS = {
    "POST /api/v1/mutes/preview", "POST /api/v1/regression", "POST /api/v1/query", "POST /api/v1/sources/{name}/mapping/preview",
    "POST /api/v1/source-kinds/{kind}/check",
}  # fmt: skip
"""They ask, in a body because the question is long."""
FLOW = """
name: flow
mode: approve
trigger: {manual: true}
steps:
- {id: act, uses: shell.run, with: {command: act}, approval: {ttl: 10m, role: operator}}
"""
ORDER = {"kind": "alert", "fields": {"title": "title", "severity": "level", "entity": "'service:shop'"}}
WINDOW = {"matchers": [{"name": "service", "op": "=", "value": "cart"}], "ends": "2100-01-01T00:00:00Z", "reason": "upgrade"}


def alert(program: Program, service: str) -> str:
    """A critical alert of a service; returns its incident."""
    labels = {"alertname": f"{service} is down", "service": service, "severity": "critical"}
    assert program.http.post("/api/v2/alerts", json=[{"labels": labels}]).status_code == 200
    items = until(lambda: [one for one in program.get("incidents")["items"] if service in one["title"]], what="the incident")
    return str(items[0]["id"])


def anomaly(program: Program) -> str:
    """Teach a series what is usual and break it; returns the anomaly's fingerprint."""
    start = time.time_ns() - 80 * 60 * 10**9
    lines = []
    for minute in range(79):
        at = start + minute * 60 * 10**9
        lines += [
            f"latency,service=db value={100 + minute % 7 if minute < 60 else 5000 + minute} {at}",
            f"load,service=db value={minute % 5} {at}",
        ]
    assert program.http.post("/write", content="\n".join(lines)).status_code == 204
    return str(until(lambda: program.get("anomalies")["items"], what="the anomaly")[0]["fingerprint"])


class Caller:
    """Calls routes, and looks for what the audit has of each."""

    def __init__(self, program: Program) -> None:
        self.program, self.called, self.bare = program, dict[str, dict[str, Any]](), list[str]()
        self._records = sqlite3.connect(f"file:{program.folder}/data/records.db?mode=ro", uri=True)

    def rows(self) -> list[tuple[str, str, str, str, str]]:
        return self._records.execute("SELECT actor, action, target, outcome, detail FROM audit ORDER BY id").fetchall()

    def __call__(self, route: str, body: Any = None, *, http: httpx.Client | None = None, query: str = "", **names: object) -> Any:
        method, path = route.split(" ")
        seen = len(self.rows())
        found = (http or self.program.http).request(method, path.format_map(names) + query, json=body)
        assert found.is_success, f"{route}: {found.status_code} {found.text}"
        rows = self.rows()[seen:]
        mine = [row for row in rows if row[0] not in ("", "ninefold")]
        assert len(mine) == 1, f"{route}: {rows}"
        ((actor, action, target, outcome, detail),) = mine
        assert (actor != "", outcome) == (True, "ok"), route
        if action == method:
            self.bare.append(route)
        self.called[route] = {"action": action, "target": target, **json.loads(detail)}
        return found.json() if found.content else None

    def changed(self, *routes: str) -> None:
        """Of these both is written down: what it was before, and what it is."""
        for route in routes:
            assert {"before", "after"} <= self.called[route].keys(), f"{route}: {self.called[route]}"


def incidents(call: Caller) -> None:
    one, other = alert(call.program, "cart"), alert(call.program, "mail")
    path = "POST /api/v1/incidents/{key}"
    for verb in ("acknowledge", "mitigate", "resolve", "reopen"):
        call(f"{path}/{verb}", {"note": "seen"}, key=one)
    call(f"{path}/assign", {"owner": "anna"}, key=one)
    call(f"{path}/severity", {"severity": "high"}, key=one)
    call(f"{path}/teams", {"teams": ["shop"]}, key=one)
    call(f"{path}/verdict", {"verdict": "useful"}, key=one)
    call(f"{path}/merge", {"incidents": [other]}, key=one)
    items = call.program.get("regroupings")["items"]
    call("POST /api/v1/regroupings/{number}/undo", number=items[0]["id"])
    third = alert(call.program, "stock")
    call(f"{path}/merge", {"incidents": [third]}, key=one)
    prints = [item["fingerprint"] for item in call.program.get("alerts", state="all")["items"] if "stock" in json.dumps(item)]
    call(f"{path}/split", {"alerts": prints}, key=one)
    call.changed(*(f"{path}/{verb}" for verb in ("acknowledge", "assign", "severity", "teams", "verdict")))


def alerts(call: Caller) -> None:
    root = "/api/v1/alerts"
    call(f"PUT {root}/rules/{{name}}", {"matchers": ["service=cart"], "for_s": 60}, name="calm")
    call(f"DELETE {root}/rules/{{name}}", name="calm")
    call(f"PUT {root}/heartbeats/{{name}}", {"matchers": ["alertname=Watchdog"], "every_s": 3600}, name="dog")
    call(f"DELETE {root}/heartbeats/{{name}}", name="dog")
    made = call("POST /api/v1/mutes", WINDOW)
    call("PUT /api/v1/mutes/{key}", WINDOW | {"reason": "longer"}, key=made["id"])
    call("DELETE /api/v1/mutes/{key}", key=made["id"])
    both = {"source_matchers": ["severity=critical"], "target_matchers": ["severity=warning"], "equal": ["service"]}
    call("PUT /api/v1/inhibitions/{name}", both, name="worse")
    call("DELETE /api/v1/inhibitions/{name}", name="worse")
    call.changed(
        f"PUT {root}/rules/{{name}}", f"DELETE {root}/heartbeats/{{name}}", "PUT /api/v1/mutes/{key}", "PUT /api/v1/inhibitions/{name}"
    )


def on_call(call: Caller) -> None:
    root = "/api/v1/oncall"
    for name in ("anna", "ben"):
        call("POST /api/v1/tokens", {"name": name, "role": "operator"})
    soon = datetime.fromtimestamp(time.time() + 86400, UTC).isoformat()
    contacts = [{"name": "phone", "uses": "desk.post", "ask": {"url": "/page"}}]
    call(f"PUT {root}/people/{{name}}", {"contacts": contacts}, name="anna")
    call(f"PUT {root}/people/{{name}}", {"contacts": []}, name="ben")
    layers = [{"people": ["anna"], "starts": "2026-01-05T09:00"}]
    call(f"PUT {root}/schedules/{{name}}", {"layers": layers}, name="night")
    call(f"PUT {root}/teams/{{name}}", {"members": ["anna"], "schedules": ["night"]}, name="shop")
    call(
        f"PUT {root}/policies/{{name}}",
        {"steps": [{"targets": [{"kind": "schedule", "name": "night"}]}], "enabled": False},
        name="standard",
    )
    made = call(f"POST {root}/schedules/{{name}}/overrides", {"person": "ben", "ends": soon}, name="night")
    call(f"DELETE {root}/schedules/{{name}}/overrides/{{number}}", name="night", number=made["id"])
    calendar = "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//test\r\nEND:VCALENDAR\r\n"
    call(f"PUT {root}/schedules/{{name}}/calendar", {"text": calendar}, name="night")
    call(f"POST {root}/schedules/{{name}}/link", name="night")
    call(f"DELETE {root}/schedules/{{name}}/link", name="night")
    call(f"POST {root}/pages", {"person": "anna"})
    page = until(
        lambda: [one for one in call.program.get("oncall/pages")["items"] if one["status"] in ("failed", "unknown")], what="the page"
    )[0]["id"]
    call(f"POST {root}/pages/{{number}}/again", number=page)
    call(f"DELETE {root}/{{kind}}/{{name}}", kind="policies", name="standard")
    call.changed(
        *(f"PUT {root}/{kind}/{{name}}" for kind in ("people", "schedules", "teams", "policies")), f"DELETE {root}/{{kind}}/{{name}}"
    )


def workflows(call: Caller) -> None:
    call("POST /api/v1/workflows/stop", {"reason": "too many"})
    call("DELETE /api/v1/workflows/stop")
    call("POST /api/v1/workflows/{name}/run", {}, name="flow")
    approval = until(lambda: call.program.get("approvals", status="waiting")["items"], what="the approval")[0]["id"]
    call("POST /api/v1/approvals/{approval}", {"decision": "reject", "note": "no"}, approval=approval)
    run = call("POST /api/v1/workflows/{name}/run", {}, name="flow")["id"]
    until(lambda: call.program.get("approvals", status="waiting")["items"], what="the second approval")
    call("POST /api/v1/runs/{run}/cancel", run=run)


def detection(call: Caller) -> None:
    mark = anomaly(call.program)
    root = "/api/v1/detection"
    call("POST /api/v1/anomalies/{fingerprint}/verdict", {"verdict": "noise"}, fingerprint=mark)
    for about, path in (("thresholds", "learned"), ("incidents", "learned/incidents")):
        moves = until(
            lambda: [item for item in call.program.get("detection/learned")["items"] if item["about"] == about and not item["undone"]],  # noqa: B023
            what="what was learned",
        )
        call(f"POST {root}/{path}/{{number}}/undo", number=moves[0]["id"])
    call(f"PUT {root}/sensitivity", {"scope": "entity", "name": "service:*", "word": "keen"})
    call(f"DELETE {root}/sensitivity", query="?scope=entity&name=service:*")
    for settings, then in (({"sure": 6}, f"POST {root}/shadow/promote"), ({"sure": 5}, f"DELETE {root}/shadow")):
        call(f"POST {root}/shadow", settings)
        until(lambda: call.program.get("detection/shadow")["comparison"], what="the candidate")
        call(then)
        until(lambda: not call.program.get("detection/shadow")["comparison"], what="the candidate's end")
    shown = until(lambda: {item["name"]: item["series"] for item in call.program.get("series")["items"]}, what="the series")
    target, driver = (next(key for name, key in shown.items() if name.startswith(start)) for start in ("latency", "load"))
    key = call("POST /api/v1/regressions", {"name": "fit", "target": target, "drivers": [{"series": driver}], "step_s": 60})["id"]
    call("DELETE /api/v1/regressions/{key}", key=key)
    call.changed(f"PUT {root}/sensitivity", f"DELETE {root}/sensitivity")


def sources(call: Caller) -> None:
    program = call.program
    assert program.http.post("/webhook/shop", json={"title": "order failed", "level": "critical"}).is_success
    program.wait_for_row("select count() from event where source = 'shop'")
    root = "/api/v1/sources/{name}/mapping"
    call(f"PUT {root}", {"mapping": ORDER, "note": "they are alerts"}, name="shop")
    call(f"POST {root}/replay", {"from": "2020-01-01T00:00:00Z", "source": "shop"}, name="shop")
    call("POST /api/v1/quarantine/replay", {"source": "shop"})
    call.changed(f"PUT {root}")


def upkeep(call: Caller) -> None:
    call("POST /api/v1/tokens", {"name": "shop", "role": "viewer"})
    call("DELETE /api/v1/tokens/{name}", name="shop")
    with httpx.Client(base_url=call.program.url, timeout=60, trust_env=False) as http:
        call("POST /api/v1/session", {"token": call.program.token}, http=http)
        call("DELETE /api/v1/session", http=http)
    call("POST /api/v1/backup", {"to": str(call.program.folder / "backup")})
    call("POST /api/v1/export", {"to": str(call.program.folder / "export"), "before": "2020-01-01"})


@pytest.fixture
def desk() -> Iterator[str]:
    """The address of a service that knows no pages."""

    class Desk(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Desk) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.timeout(200)
def test_every_change_is_audited(make_program: Callable[..., Program], desk: str, tmp_path: Path) -> None:
    folder = tmp_path / "workflows"
    folder.mkdir()
    (folder / "flow.yaml").write_text(FLOW)
    program = make_program(
        connectors={
            "shell": {"type": "shell", "commands": {"act": {"argv": ["/bin/true"]}}},
            "desk": {"type": "http", "base_url": desk},
        },
        workflows={"path": str(folder)},
        webhooks={"shop": {"kind": "business"}},
    ).start()
    call = Caller(program)
    for part in (incidents, alerts, on_call, workflows, detection, sources, upkeep):
        part(call)
    assert call.bare == [], "of these it is only known that they were called"
    paths = program.get("openapi.json")["paths"]
    there = {f"{verb.upper()} {path}" for path, methods in paths.items() for verb in methods if verb in ("post", "put", "patch", "delete")}
    assert there - READS == call.called.keys(), "a route that changes something is not tried here"
    assert program.token not in json.dumps(call.called), "no secret is written down"
