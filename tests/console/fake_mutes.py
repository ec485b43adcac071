"""Alerts and mutes, canned."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from fake_words import rfc

LOUD, QUIET, MUTE = "00000000000000c1", "00000000000000c2", "8f8b0a52-43c5-4b8e-9b6e-0d6c9e1f0a01"


def answers(now: datetime) -> dict[str, Any]:
    """Answers of GET by path below the API's root; `{id}` stands for any."""
    ago = {minutes: rfc(now - timedelta(minutes=minutes)) for minutes in (1, 25, 90)}
    soon = rfc(now + timedelta(hours=2))
    loud = {
        "fingerprint": LOUD, "title": "Latency of cart is high", "entity": "service:shop/cart", "kind": "alert", "rule": "HighLatency",
        "severity": "critical", "status": "firing", "first": ago[25], "last": ago[1], "heard": ago[1], "count": 26,
        "incident": "INC-8140", "mutes": [], "source": "prometheus-alerts", "attributes": {"alertname": "HighLatency", "service": "cart"},
    }  # fmt: skip
    quiet = loud | {
        "fingerprint": QUIET, "title": "Disk of db-1 is nearly full", "entity": "host:db-1", "rule": "DiskFull", "severity": "warning",
        "status": "suppressed", "incident": None, "mutes": [MUTE],
    }  # fmt: skip
    mute = {
        "id": MUTE, "kind": "silence", "state": "active", "matchers": [{"name": "alertname", "op": "=", "value": "DiskFull"}],
        "text": 'alertname="DiskFull"', "starts": ago[90], "ends": soon, "rrule": "", "duration_s": 0, "timezone": "UTC", "until": soon,
        "owner": "anna", "reason": "a larger disk is on its way", "created": ago[90], "changed": ago[90], "hides": 1,
        "examples": [{"fingerprint": QUIET, "title": quiet["title"], "entity": "host:db-1", "severity": "warning", "since": ago[25]}],
    }  # fmt: skip
    over = mute | {
        "id": MUTE[:-1] + "2", "kind": "maintenance", "state": "expired", "rrule": "FREQ=WEEKLY", "duration_s": 7200, "ends": ago[25],
        "timezone": "Europe/Berlin", "until": None, "reason": "backup on Sundays", "hides": 0, "examples": [],
    }  # fmt: skip
    why = [{"time": ago[25], "step": "mute", "text": f"hidden by silence {MUTE} of anna until {soon}: a larger disk is on its way",
            "detail": {}}]  # fmt: skip
    return {
        "alerts": {"items": [loud, quiet], "next": None, "counts": {"firing": 1, "suppressed": 1, "resolved": 0, "all": 2}},
        "alerts/{id}": {**quiet, "why": why},
        "mutes": {"items": [mute, over], "counts": {"active": 1, "pending": 0, "expired": 1}, "hidden": 1},
    }


def preview(now: datetime) -> dict[str, Any]:
    """What a mute would have hidden."""
    return {
        "since": rfc(now - timedelta(days=7)), "events": 40, "of_events": 900, "alerts": 3, "of_alerts": 60, "firing": 1,
        "rules": [{"rule": "DiskFull", "events": 40}], "incidents": ["INC-8139"], "examples": [],
    }  # fmt: skip
