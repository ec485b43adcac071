"""A small server that speaks the console's part of the API over canned data, with a live socket that tests can push to."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fake_anomalies
import fake_incidents
import fake_mutes
import fake_oncall
import fake_regression
import fake_rest
import fake_sources
import uvicorn
import yaml
from fake_words import rfc
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from ninefold.config import WebhookConfig
from ninefold.ground.errors import NinefoldError
from ninefold.stewardship.mapping import checked

TOKEN = "nf_test"
POLICY = "default-src 'self'; style-src 'self'; img-src 'self' data:; frame-ancestors 'none'"
_NEEDS = {"approval": 0, "acknowledge": 1, "": 2}
_WORST = {"critical": 0, "high": 1, "warning": 2, "info": 3}


def problem(status: int, detail: str) -> Response:
    body = {"type": "about:blank", "title": "Error", "status": status, "detail": detail}
    return JSONResponse(body, status, media_type="application/problem+json")


def _given(body: dict[str, Any]) -> WebhookConfig:
    return checked(yaml.safe_load(body["yaml"]) if body.get("mapping") is None else body["mapping"])


class FakeServer:
    """Serves `static` and the API from a thread; `stop` and `start` keep the port and the data, as a restart does."""

    def __init__(self, static: Path, incidents: int = 60, role: str = "operator") -> None:
        self.static, self.role = static, role
        now = datetime.now(UTC)
        self.now = now
        self.incidents = fake_incidents.incidents(incidents, now) if incidents else []
        first = self.incidents[0] if self.incidents else None
        self.approvals = [fake_rest.approval(first, now)] if first else []
        self.runs = fake_rest.runs(first["id"], now) if first else []
        self.workflows = fake_rest.workflows(now) if first else []
        self.sources = fake_rest.sources(now) if first else []
        self.mappings = fake_sources.FakeMappings(now)
        self.quarantine = fake_rest.quarantine(now) if first else []
        self.series = fake_incidents.series() if first else []
        self.stopped = ""
        self.requests: list[str] = []
        self.posted: list[tuple[str, Any]] = []
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._tabs: set[WebSocket] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> FakeServer:
        config = uvicorn.Config(
            self._app(), host="127.0.0.1", port=self.port, log_level="error", ws="websockets-sansio", timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._server.serve()), daemon=True)
        self._thread.start()
        deadline = time.monotonic() + 30
        while not self._server.started:
            assert time.monotonic() < deadline, "the fake server did not start"
            time.sleep(0.01)
        return self

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)
        self._loop.close()

    def push(self, *topics: str) -> None:
        """Tell every open tab that something of these topics changed."""
        rows = [{"topic": topic, "kind": "changed", "key": "", "data": {}, "time": rfc(datetime.now(UTC))} for topic in topics]
        message = json.dumps({"changes": rows, "time": rfc(datetime.now(UTC))})

        async def send() -> None:
            for tab in list(self._tabs):
                await tab.send_text(message)

        asyncio.run_coroutine_threadsafe(send(), self._loop).result(5)

    @property
    def tabs(self) -> int:
        return len(self._tabs)

    # -- handlers ----------------------------------------------------------------------------------------------------

    def _app(self) -> Starlette:
        api, now = "/api/v1", self.now
        get = {
            "summary": self._summary,
            "incidents": self._incidents,
            "incidents/{id}": self._incident,
            "incidents/{id}/timeline": self._timeline,
            "incidents/{id}/similar": self._similar,
            "incidents/{id}/why": self._why,
            "incidents/{id}/postmortem": lambda _: Response(fake_oncall.MARKDOWN, media_type="text/markdown"),
            "series": self._series,
            "series/{id}/points": self._points,
            "topology": self._topology,
            "sources": self._sources,
            "sources/{name:path}/mapping": self._mapping,
            "sources/{name:path}": self._source,
            "source-kinds": self._source_kinds,
            "quarantine": self._quarantined,
            "workflows": self._workflows,
            "runs": self._runs,
            "runs/{id}": self._run,
            "approvals": self._approvals,
            "roadmap": self._roadmap,
            "me": self._me,
            **{
                path: self._canned(answer)
                for each in (fake_anomalies, fake_mutes, fake_oncall, fake_regression)
                for path, answer in each.answers(now).items()
            },
            "anomalies": self._anomalies,
        }
        post = {
            "sources/{name:path}/mapping/preview": self._preview, "sources/{name:path}/mapping/replay": self._reread,
            "source-kinds/{kind}/check": self._check,
            "incidents/{id}/merge": self._noted, "incidents/{id}/split": self._noted,
            "incidents/{id}/{action}": self._act, "quarantine/replay": self._replay, "workflows/{name}/run": self._start_run,
            "workflows/stop": self._stop, "runs/{id}/cancel": self._cancel, "approvals/{id}": self._decide, "query": self._query,
            "regression": lambda _, body: JSONResponse(fake_regression.fit(now, body)),
            "regressions": lambda *_: JSONResponse(fake_regression.saved(now).model_dump(), 201),
            "oncall/schedules/{name}/overrides": self._noted, "oncall/pages": self._noted, "oncall/pages/{id}/again": self._noted,
            "oncall/schedules/{name}/link": lambda *_: JSONResponse({"path": "/api/v1/oncall/schedules/primary.ics?token=s3cret"}, 201),
            "mutes": self._noted, "mutes/preview": lambda *_: JSONResponse(fake_mutes.preview(self.now)),
            "anomalies/{id}/verdict": self._noted, "detection/learned/{id:path}/undo": self._noted,
            "regroupings/{id}/undo": self._noted,
            "detection/shadow/promote": self._noted, "detection/shadow": self._noted,
        }  # fmt: skip
        routes: list[Route | WebSocketRoute] = [Route(f"{api}/session", self._session, methods=["POST", "DELETE"])]
        routes += [Route(f"{api}/{path}", self._guarded(handler), methods=["GET"]) for path, handler in get.items()]
        routes += [Route(f"{api}/{path}", self._guarded(handler), methods=["POST"]) for path, handler in post.items()]
        routes += [Route(f"{api}/sources/{{name:path}}/mapping", self._guarded(self._save_mapping), methods=["PUT"])]
        routes += [Route(f"{api}/oncall/{{rest:path}}", self._guarded(self._noted), methods=["PUT"])]
        routes += [Route(f"{api}/oncall/{{rest:path}}", self._guarded(lambda _: Response(status_code=204)), methods=["DELETE"])]
        routes += [Route(f"{api}/detection/sensitivity", self._guarded(self._noted), methods=["PUT"])]
        routes += [Route(f"{api}/workflows/stop", self._guarded(self._lift), methods=["DELETE"])]
        routes += [Route(f"{api}/mutes/{{id}}", self._guarded(lambda _: JSONResponse({})), methods=["DELETE"])]
        routes += [Route(f"{api}/alerts/{{rest:path}}", self._guarded(self._noted), methods=["PUT"])]
        routes += [Route(f"{api}/alerts/{{rest:path}}", self._guarded(lambda _: JSONResponse({})), methods=["DELETE"])]
        routes += [Route(f"{api}/inhibitions/{{name}}", self._guarded(self._noted), methods=["PUT"])]
        routes += [Route(f"{api}/regressions/{{id}}", self._guarded(lambda _: Response(status_code=204)), methods=["DELETE"])]
        routes += [WebSocketRoute(f"{api}/live", self._live), Route("/{path:path}", self._page)]
        return Starlette(routes=routes)

    def _guarded(self, handler: Any) -> Any:
        async def guarded(request: Request) -> Response:
            self.requests.append(f"{request.method} {request.url.path}")
            if request.cookies.get("ninefold_session") != TOKEN:
                return problem(401, "a token is needed")
            if request.method in ("POST", "PUT"):
                body = await request.json()
                self.posted.append((request.url.path, body))
                return handler(request, body)
            return handler(request)

        return guarded

    def _canned(self, answer: Any) -> Any:
        return lambda _: JSONResponse(answer)

    def _anomalies(self, request: Request) -> Response:
        asked = {name: value for name, value in request.query_params.items() if name in ("reason", "entity", "technique")}
        items = fake_anomalies.answers(self.now)["anomalies"]["items"]
        return JSONResponse({"items": [one for one in items if all(one[name] == value for name, value in asked.items())]})

    def _noted(self, _: Request, __: Any) -> Response:
        return JSONResponse({"event": "0" * 16})

    async def _session(self, request: Request) -> Response:
        if request.method == "DELETE":
            response = Response(status_code=204)
            response.delete_cookie("ninefold_session")
            return response
        if (await request.json()).get("token") != TOKEN:
            return problem(401, "the token is not known, was revoked, or may not read")
        response = self._me(request)
        response.set_cookie("ninefold_session", TOKEN, httponly=True, samesite="strict")
        return response

    def _me(self, _: Request) -> Response:
        return JSONResponse({"name": "ops", "role": self.role})

    def _counts(self) -> dict[str, int]:
        counts = Counter(incident["status"] for incident in self.incidents)
        return {status: counts[status] for status in ("open", "acknowledged", "mitigated", "resolved")} | {"all": len(self.incidents)}

    def _summary(self, _: Request) -> Response:
        some = bool(self.incidents)
        alerts = sum(incident["alerts"] for incident in self.incidents)
        return JSONResponse(
            self._counts() | {
                "alerts": alerts, "incidents": len(self.incidents), "noise_cut": 1 - len(self.incidents) / alerts if some else None,
                "time_to_acknowledge_s": 192.0 if some else None, "time_to_resolve_s": 1620.0 if some else None,
                "approvals_waiting": self._waiting(), "sources": len(self.sources), "quarantined": len(self.quarantine),
                "delay_s": 0.24 if some else None, "version": "0.1.0",
            }
        )  # fmt: skip

    def _waiting(self) -> int:
        return sum(approval["status"] == "waiting" for approval in self.approvals)

    def _incidents(self, request: Request) -> Response:
        status, words = request.query_params.get("status", "open"), request.query_params.get("q", "").lower()
        limit, after = int(request.query_params.get("limit", 200)), int(request.query_params.get("after", 0))
        found = [i for i in self.incidents if status in ("all", i["status"]) and words in f"{i['id']} {i['title']} {i['entity']}".lower()]
        found.sort(key=lambda i: i["opened"], reverse=True)
        found.sort(key=lambda i: (_NEEDS[i["needs"]], _WORST[i["severity"]]))
        page = found[after : after + limit]
        return JSONResponse({"items": page, "next": str(after + limit) if len(found) > after + limit else None, "counts": self._counts()})

    def _find(self, key: str) -> dict[str, Any] | None:
        return next((incident for incident in self.incidents if incident["id"] == key), None)

    def _detail(self, key: str) -> dict[str, Any] | None:
        found = self._find(key)
        return fake_incidents.detail(found, self.now, self.approvals, self.runs) if found else None

    def _incident(self, request: Request) -> Response:
        found = self._detail(request.path_params["id"])
        return JSONResponse(found) if found else problem(404, f"there is no incident {request.path_params['id']}")

    def _timeline(self, request: Request) -> Response:
        found = self._detail(request.path_params["id"])
        return JSONResponse({"items": fake_incidents.timeline(found, found)}) if found else problem(404, "there is no such incident")

    def _similar(self, request: Request) -> Response:
        found = self._detail(request.path_params["id"])
        return JSONResponse({"items": fake_incidents.similar(found)}) if found else problem(404, "there is no such incident")

    def _why(self, request: Request) -> Response:
        found = self._find(request.path_params["id"])
        return JSONResponse({"items": fake_incidents.why(found)}) if found else problem(404, "there is no such incident")

    def _act(self, request: Request, body: dict[str, Any]) -> Response:
        found, action = self._find(request.path_params["id"]), request.path_params["action"]
        if found is None:
            return problem(404, "there is no such incident")
        if self.role == "viewer":
            return problem(403, "the token 'ops' has the role viewer; this needs operator")
        moment = rfc(datetime.now(UTC))
        if action == "acknowledge":
            found |= {
                "status": "acknowledged",
                "acknowledged": moment,
                "needs": "" if found["needs"] == "acknowledge" else found["needs"],
                "owner": found["owner"] or "ops",
            }
        elif action == "resolve":
            found |= {"status": "resolved", "resolved": moment, "needs": ""}
        elif action == "reopen":
            found |= {"status": "open", "resolved": None, "needs": "acknowledge"}
        elif action == "mitigate":
            found |= {"status": "mitigated", "mitigated": moment, "needs": ""}
        elif action in ("severity", "teams"):
            found |= {action: body[action]}
        elif action == "assign":
            found |= {"owner": body["owner"]}
        elif action == "verdict":
            found |= {"feedback": body["verdict"]}
        return JSONResponse(found)

    def _series(self, request: Request) -> Response:
        words = request.query_params.get("q", "").lower().split()
        return JSONResponse({"items": [s for s in self.series if all(word in f"{s['name']} {s['entity']}".lower() for word in words)]})

    def _points(self, request: Request) -> Response:
        ask = request.query_params
        end = datetime.fromisoformat(ask["to"]) if "to" in ask else self.now
        start = datetime.fromisoformat(ask["from"]) if "from" in ask else self.now - timedelta(hours=20)
        trouble = (self.now - timedelta(minutes=27)).timestamp(), (self.now - timedelta(minutes=6)).timestamp()
        return JSONResponse(
            fake_incidents.points(
                request.path_params["id"], start.timestamp(), end.timestamp(), int(ask.get("points", 600)), trouble, int(ask.get("step", 0))
            )
        )

    def _topology(self, _: Request) -> Response:
        return JSONResponse(fake_incidents.service_map("", set()))

    def _sources(self, _: Request) -> Response:
        return JSONResponse({"items": self.sources})

    def _source(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in [source["name"] for source in self.sources]:
            return problem(404, f"there is no source {name!r}; GET /api/v1/sources lists them")
        return JSONResponse(fake_sources.detail(name, self.now))

    def _mapping(self, _: Request) -> Response:
        return JSONResponse(self.mappings.info())

    def _save_mapping(self, _: Request, body: dict[str, Any]) -> Response:
        try:
            return JSONResponse(self.mappings.save(_given(body), body["note"]))
        except NinefoldError as error:
            return problem(400, str(error))

    def _preview(self, _: Request, body: dict[str, Any]) -> Response:
        try:
            return JSONResponse(self.mappings.preview(_given(body), body["count"]))
        except NinefoldError as error:
            return problem(400, str(error))

    def _reread(self, _: Request, body: dict[str, Any]) -> Response:
        reasons = {"the mapping gives no title": 1}
        return JSONResponse({"read": 94, "replaced": 90, "superseded": 3, "unreadable": 1, "reasons": reasons})

    def _source_kinds(self, _: Request) -> Response:
        return JSONResponse(fake_sources.source_kinds())

    def _check(self, _: Request, body: dict[str, Any]) -> Response:
        if body["settings"].get("host") == "nowhere":
            return problem(503, "MQTT cannot be reached: connection refused")
        return JSONResponse(fake_sources.attempt(self.now))

    def _quarantined(self, request: Request) -> Response:
        source = request.query_params.get("source", "")
        found = [record for record in self.quarantine if not source or record["source"] == source]
        return JSONResponse({"items": found, "total": len(found)})

    def _replay(self, _: Request, body: dict[str, Any]) -> Response:
        hit = [r for r in self.quarantine if r["id"] in body.get("ids", []) or r["source"] == body.get("source")]
        for record in hit[1:]:
            record["state"] = "replayed"
        return JSONResponse({"replayed": len(hit), "still_bad": min(1, len(hit))})

    def _workflows(self, _: Request) -> Response:
        return JSONResponse({"items": self.workflows, "stopped": self.stopped})

    def _stop(self, _: Request, body: dict[str, Any]) -> Response:
        self.stopped = "stopped by ops" + (f": {body['reason']}" if body.get("reason") else "")
        return Response(status_code=204)

    def _lift(self, _: Request) -> Response:
        self.stopped = ""
        return Response(status_code=204)

    def _cancel(self, request: Request, _: dict[str, Any]) -> Response:
        run = next(run for run in self.runs if run["id"] == int(request.path_params["id"]))
        run["status"] = "cancelled"
        return JSONResponse(run)

    def _start_run(self, request: Request, body: dict[str, Any]) -> Response:
        run = self.runs[1] | {
            "id": 89 + len(self.posted),
            "workflow": request.path_params["name"],
            "incident": body["incident"],
            "trigger": "ops",
        }
        self.runs.insert(0, run)
        return JSONResponse(run)

    def _runs(self, request: Request) -> Response:
        wanted = request.query_params.get("workflow")
        return JSONResponse({"items": [run for run in self.runs if wanted in (None, run["workflow"])]})

    def _run(self, request: Request) -> Response:
        found = next((run for run in self.runs if run["id"] == int(request.path_params["id"])), None)
        return JSONResponse(found) if found else problem(404, f"there is no run {request.path_params['id']}")

    def _approvals(self, request: Request) -> Response:
        status = request.query_params.get("status")
        return JSONResponse({"items": [approval for approval in self.approvals if status in (None, approval["status"])]})

    def _decide(self, request: Request, body: dict[str, Any]) -> Response:
        found = next((approval for approval in self.approvals if approval["id"] == int(request.path_params["id"])), None)
        if found is None or found["status"] != "waiting":
            return problem(409, "the approval was already answered")
        found |= {"status": "approved" if body["decision"] == "approve" else "rejected", "note": body["note"], "actor": "ops"}
        run = next(run for run in self.runs if run["id"] == found["run"])
        run["status"] = "succeeded" if body["decision"] == "approve" else "rejected"
        self.incidents[0]["needs"] = "acknowledge"
        return JSONResponse(found)

    def _query(self, _: Request, body: dict[str, Any]) -> Response:
        if "from nowhere" in body["sql"].lower():
            return problem(400, "the table 'nowhere' does not exist; choose one of metric, series, log, span, event, relation, quarantine")
        columns = [{"name": "hour", "type": "DateTime"}, {"name": "severity", "type": "String"}, {"name": "alerts", "type": "UInt64"}]
        rows = [
            [f"2026-11-22 {hour:02d}:00:00", severity, hour * 7 + len(severity)]
            for hour in range(20, 0, -1)
            for severity in ("critical", "warning")
        ]
        return JSONResponse({"columns": columns, "rows": rows, "truncated": False, "elapsed_s": 0.021})

    def _roadmap(self, _: Request) -> Response:
        return JSONResponse(fake_rest.roadmap(bool(self.sources)))

    async def _live(self, tab: WebSocket) -> None:
        if tab.cookies.get("ninefold_session") != TOKEN:
            await tab.close(4401)
            return
        await tab.accept()
        await tab.send_json({"hello": "ninefold", "version": "0.1.0", "time": rfc(datetime.now(UTC))})
        self._tabs.add(tab)
        try:
            while True:
                await tab.receive_text()
                await tab.send_json({"pong": rfc(datetime.now(UTC))})
        except WebSocketDisconnect:
            pass
        finally:
            self._tabs.discard(tab)

    async def _page(self, request: Request) -> Response:
        self.requests.append(f"{request.method} {request.url.path}")
        path = request.path_params["path"]
        if path.startswith("api/"):
            return problem(404, f"there is nothing at /{path}")
        wanted = self.static / path
        file = wanted if path and wanted.is_file() else self.static / "index.html"
        return FileResponse(file, headers={"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"})


if __name__ == "__main__":
    server = FakeServer(Path(__file__).parents[2] / "src/ninefold/web/static").start()
    print(f"{server.url}/#token={TOKEN}")
    threading.Event().wait()
