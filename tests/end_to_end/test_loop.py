"""From an alert to a result and back, with the whole program, a real Request Tracker, a real mail receiver and a real HTTP service."""

from __future__ import annotations

import json
import shutil
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from rt_server import missing, request_tracker
from served import Program, free_port, until

TICKET = Path(__file__).resolve().parents[2] / "examples" / "workflows" / "ticket.yaml"
REMEDY = """
name: remedy
mode: auto
trigger:
  incident: {on: [opened], when: 'incident.severity == "critical"'}
steps:
  - id: ask
    uses: api.get
    with: {url: "/health?service=${{ incident.entity }}"}
    verify: {that: result.json.healthy == false}
  - id: disk
    uses: shell.inspect
    with: {command: disk}
  - id: restart
    uses: shell.run
    with: {command: restart, arguments: {service: "${{ incident.entity.substring(8) }}"}}
    verify: {that: 'result.stdout.trim() == "restarted payments"'}
"""


class Inbox:
    def __init__(self) -> None:
        self.mails: list[str] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        self.mails.append(envelope.content.decode())
        return "250 OK"


class Health(BaseHTTPRequestHandler):
    asked: list[str] = []  # noqa: RUF012 - one list for the whole server, on purpose

    def do_GET(self) -> None:
        self.asked.append(self.path)
        body = json.dumps({"healthy": False}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def post_alert(program: Program, **more: Any) -> None:
    labels = {"alertname": "PaymentsDown", "service": "payments", "severity": "critical"}
    assert program.http.post("/api/v2/alerts", json=[{"labels": labels, **more}]).status_code == 200


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_from_alert_to_result_and_back(make_program: Callable[..., Program], tmp_path: Path) -> None:
    if reason := missing():
        pytest.skip(reason)
    folder = tmp_path / "workflows"
    folder.mkdir()
    shutil.copy(TICKET, folder)
    (folder / "remedy.yaml").write_text(REMEDY)
    inbox, health = Inbox(), HTTPServer(("127.0.0.1", 0), Health)
    threading.Thread(target=health.serve_forever, daemon=True).start()
    mail_port = free_port()
    mail = Controller(inbox, hostname="127.0.0.1", port=mail_port)
    mail.start()
    echo = shutil.which("echo") or "/bin/echo"
    commands = {
        "disk": {"argv": ["df", "-h", "/"], "risk": "read"},
        "restart": {"argv": [echo, "restarted", "{service}"], "parameters": {"service": "[a-z]+"}},
    }
    try:
        with request_tracker() as tracker:
            program = make_program(
                connectors={
                    "tracker": {"type": "request_tracker", "url": tracker.url, "token": tracker.token, "poll_s": 0.5},
                    "team": {
                        "type": "notify",
                        "urls": [f"mailto://127.0.0.1:{mail_port}?from=n@example.org&to=o@example.org&mode=insecure"],
                    },
                    "api": {"type": "http", "base_url": f"http://127.0.0.1:{health.server_port}"},
                    "shell": {"type": "shell", "commands": commands},
                },
                workflows={"path": str(folder)},
                correlation={"resolve_after_s": 1},
            ).start()
            post_alert(program)
            incident = until(lambda: program.get("incidents")["items"], what="the incident")[0]["id"]

            # the dangerous step waits for a person; the ticket, the mail and the harmless steps do not
            (approval,) = until(lambda: program.get("approvals", status="waiting")["items"], what="the approval")
            assert approval["risk"] == "dangerous"
            assert approval["ask"] == {"command": "restart", "arguments": {"service": "payments"}}
            assert Health.asked == ["/health?service=service%3Apayments"] or Health.asked == ["/health?service=service:payments"]
            (ticket,) = until(lambda: program.get(f"incidents/{incident}")["tickets"], 120, "the ticket")
            until(lambda: inbox.mails, what="the mail")
            assert "PaymentsDown" in inbox.mails[0]
            program.post(f"approvals/{approval['id']}", {"decision": "approve", "note": "go"})
            until(lambda: [r for r in program.get("runs", workflow="remedy")["items"] if r["status"] == "succeeded"], what="the run's end")

            # a person at the desk changes the ticket: it comes back as an event and stands on the timeline
            with tracker.person() as person:
                assert person.put(f"/ticket/{ticket['id']}", json={"Status": "open"}).status_code == 200

            def told(text: str) -> Any:
                items = program.get(f"incidents/{incident}/timeline")["items"]
                return [line for line in items if text in f"{line['title']} {line['body']}"]

            until(lambda: told("new → open"), 90, "the ticket's change on the timeline")
            program.wait_for_row("select count() from event where kind = 'ticket' and source = 'tracker'")
            program.wait_for_row(f"select count() from event where kind = 'workflow' and attributes['ninefold.incident'] = '{incident}'")
            program.wait_for_row("select count() from event where kind = 'approval'")
            until(lambda: told("restart"), what="the step's result on the timeline")

            # the alert resolves: the incident and the ticket close
            post_alert(program, endsAt="2026-01-01T00:00:00Z", startsAt="2025-12-31T00:00:00Z")
            program.post(f"incidents/{incident}/resolve", {"note": "payments are back"})
            until(lambda: program.get(f"incidents/{incident}")["tickets"][0]["status"] == "resolved", 120, "the closed ticket")
            with tracker.person() as person:
                assert person.get(f"/ticket/{ticket['id']}").json()["Status"] == "resolved"
            assert tracker.token not in json.dumps(program.get("runs"))
    finally:
        mail.stop()
        health.shutdown()


def test_ports_are_told_when_they_are_taken(make_program: Callable[..., Program]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        program = make_program(server={"port": taken.getsockname()[1]})
        with pytest.raises(AssertionError, match="choose another one"):
            program.start()
