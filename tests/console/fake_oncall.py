"""On-call, canned."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from fake_words import rfc

PEOPLE = ("anna", "ben", "cleo", "ops")
MARKDOWN = "# Post-mortem of INC-8140: p99 latency\n\n## Summary\n\n- [ ] to do\n"


def answers(now: datetime) -> dict[str, Any]:
    """Answers of GET by path below the API's root."""
    at = lambda hours: rfc(now + timedelta(hours=hours))  # noqa: E731 - as short as it is
    shifts = [
        {"start": at(0), "end": at(20), "person": "anna", "of": "rotation"},
        {"start": at(20), "end": at(44), "person": "cleo", "of": "override"},
        {"start": at(44), "end": at(190), "person": "ben", "of": "rotation"},
        {"start": at(200), "end": at(336), "person": "anna", "of": "rotation"},
    ]  # fmt: skip
    override = {
        "id": 3, "schedule": "primary", "person": "cleo", "starts": at(20), "ends": at(44), "reason": "dentist", "actor": "anna",
    }  # fmt: skip
    layer = {
        "name": "", "people": ["anna", "ben"], "starts": "2026-01-05T09:00", "ends": "", "rrule": "FREQ=WEEKLY",
        "restrictions": [{"days": ["MO", "TU"], "starts": "09:00", "ends": "17:00"}],
    }  # fmt: skip
    schedule = {
        "name": "primary", "title": "Primary", "timezone": "Europe/Berlin", "layers": [layer], "on_call": ["anna"], "until": at(20),
        "next": ["cleo"], "shifts": shifts, "gaps": [{"start": at(190), "end": at(200)}], "overrides": [override],
        "calendar": {"from": "url", "read": at(-1), "linked": True}, "problems": [], "version": 4,
    }  # fmt: skip
    nobody = schedule | {
        "name": "nights", "title": "", "on_call": [], "until": None, "next": [], "shifts": [], "gaps": [], "overrides": [], "layers": [],
        "calendar": {"from": "", "read": None, "linked": False}, "version": 1,
    }  # fmt: skip
    team = {
        "name": "shop", "title": "Shop", "members": ["anna", "ben"], "schedules": ["primary"],
        "matchers": [{"name": "entity", "op": "=~", "value": "service:shop/.*"}], "version": 1,
        "on_call": [{"schedule": "primary", "people": ["anna"], "until": at(20), "next": ["cleo"]}],
    }  # fmt: skip
    policy = {
        "name": "standard", "title": "", "order": 100, "matchers": [{"name": "severity", "op": "=", "value": "critical"}],
        "steps": [{"after_s": 0, "targets": [{"kind": "schedule", "name": "primary"}]},
                  {"after_s": 600, "targets": [{"kind": "team", "name": "shop"}]}],
        "wait_s": 900, "repeat": 1, "enabled": True, "version": 2,
    }  # fmt: skip
    people = [
        {"name": name, "live": name != "cleo",
         "contacts": [] if name == "ben" else [{"name": "phone", "uses": f"{name}_phone.send", "after_s": 60, "asks": []}]}
        for name in PEOPLE
    ]  # fmt: skip
    page = {
        "id": 8, "incident": "INC-8140", "person": "anna", "contact": "phone", "uses": "anna_phone.send",
        "reason": "on call by schedule primary", "status": "unknown", "attempts": 1, "due": at(-1), "sent": at(-1), "finished": at(-1),
        "error": "no answer within 30 s; it may have been delivered",
    }  # fmt: skip
    done = page | {"id": 7, "incident": None, "status": "delivered", "reason": "test by ops", "error": ""}
    return {
        "oncall": {"at": at(0), "end": at(336), "schedules": [schedule, nobody], "teams": [team], "policies": [policy], "people": people},
        "oncall/pages": {"items": [page, done]},
    }
