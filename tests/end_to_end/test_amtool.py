"""amtool works against Ninefold as against an Alertmanager: what fires, silences made, found and ended, and what they hide."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from real_programs import need
from served import Program, until

pytestmark = [pytest.mark.real, pytest.mark.slow]


def test_amtool_shows_alerts_and_keeps_silences(program: Program, tmp_path: Path) -> None:
    amtool = need("amtool")
    (tmp_path / "http.yml").write_text(yaml.safe_dump({"authorization": {"type": "Bearer", "credentials": program.token}}))

    def run(*words: str) -> str:
        command = [amtool, f"--alertmanager.url={program.url}", f"--http.config.file={tmp_path}/http.yml", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def fire(name: str) -> None:
        alert = {"labels": {"alertname": name, "severity": "critical", "service": "shop"}, "annotations": {"summary": f"{name} fires"}}
        headers = {"Authorization": f"Bearer {program.token}"}
        httpx.post(f"{program.url}/api/v2/alerts", json=[alert], headers=headers, trust_env=False).raise_for_status()

    def states() -> dict[str, Any]:
        shown = json.loads(run("alert", "query", "--active", "--silenced", "--output=json"))
        return {each["labels"]["alertname"]: (each["status"]["state"], each["status"]["silencedBy"]) for each in shown}

    fire("Loud")
    until(lambda: states() == {"Loud": ("active", [])}, what="the alert")
    key = run("silence", "add", "service=~shop|cart", "alertname=Quiet", "--author=anna", "--comment=known", "--duration=1h").strip()
    (silence,) = json.loads(run("silence", "query", "--output=json"))
    assert (silence["id"], silence["status"]["state"], silence["createdBy"], silence["comment"]) == (key, "active", "anna", "known")
    assert key in run("silence", "query", "alertname=Quiet")
    assert key not in run("silence", "query", "alertname=Loud", "--output=simple")
    fire("Quiet")
    until(lambda: states() == {"Loud": ("active", []), "Quiet": ("suppressed", [key])}, what="the silenced alert")
    assert [incident["title"] for incident in program.get("incidents", status="open")["items"]] == ["Loud fires"]
    assert run("silence", "update", key, "--duration=2h", "--comment=known longer")
    assert [each["id"] for each in json.loads(run("silence", "query", "--output=json"))] == [key], "the same silence, longer"
    run("silence", "expire", key)
    until(lambda: states()["Quiet"] == ("active", []), what="the alert to be seen again")
    titles = {incident["title"] for incident in program.get("incidents", status="open")["items"]}
    assert "Loud fires" in titles
    assert json.loads(run("silence", "query", "--output=json")) == []
    assert key in run("silence", "query", "--expired", "--quiet")
