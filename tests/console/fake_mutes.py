"""Alerts and mutes, canned."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from fake_words import rfc

LOUD, QUIET, YOUNG, MUTE = "00000000000000c1", "00000000000000c2", "00000000000000c3", "8f8b0a52-43c5-4b8e-9b6e-0d6c9e1f0a01"


def answers(now: datetime) -> dict[str, Any]:
    """Answers of GET by path below the API's root; `{id}` stands for any."""
    ago = {minutes: rfc(now - timedelta(minutes=minutes)) for minutes in (1, 25, 90)}
    soon = rfc(now + timedelta(hours=2))
    loud = {
        "fingerprint": LOUD, "title": "Latency of cart is high", "entity": "service:shop/cart", "kind": "alert", "rule": "HighLatency",
        "severity": "critical", "state": "firing", "since": ago[25], "until": None, "first": ago[25], "last": ago[1], "heard": ago[1],
        "count": 26, "incident": "INC-8140", "mutes": [], "inhibitions": [], "event": "e1", "source": "prometheus-alerts",
        "source_id": "c1", "attributes": {"alertname": "HighLatency", "service": "cart"},
    }  # fmt: skip
    quiet = loud | {
        "fingerprint": QUIET, "title": "Disk of db-1 is nearly full", "entity": "host:db-1", "rule": "DiskFull", "severity": "warning",
        "state": "suppressed", "incident": None, "mutes": [MUTE],
    }  # fmt: skip
    young = loud | {
        "fingerprint": YOUNG, "title": "Queue of mailer grows", "entity": "service:mailer", "rule": "QueueGrows", "severity": "high",
        "state": "pending", "since": ago[1], "until": soon, "incident": None, "count": 1,
    }  # fmt: skip
    mute = {
        "id": MUTE, "kind": "silence", "origin": "", "state": "active", "matchers": [{"name": "alertname", "op": "=", "value": "DiskFull"}],
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
    counts = {"firing": 1, "acknowledged": 0, "pending": 1, "suppressed": 1, "resolved": 0, "expired": 0, "all": 3}
    rule = {"name": "disks", "origin": "saved", "author": "anna", "version": 3, "matchers": ['alertname=~"Disk.*"'], "for_s": 300.0}
    fixed = {"name": "chatter", "origin": "configuration", "author": "", "version": 0, "matchers": ["severity=warning"], "flapping": 6}
    beat = {
        "name": "prometheus", "origin": "saved", "author": "anna", "version": 1, "matchers": ["alertname=Watchdog"], "every_s": 60.0,
        "grace_s": 30.0, "severity": "critical", "entity": "service:prometheus", "state": "beating", "last": ago[1], "late": None,
        "beats": 812, "event": "00000000000000e1",
    }  # fmt: skip
    inhibition = {
        "name": "node-down", "origin": "saved", "author": "anna", "version": 2, "source_matchers": ["alertname=NodeDown"],
        "target_matchers": ["alertname=~Pod.*"], "equal": ["node"], "hides": 3, "examples": [],
    }  # fmt: skip
    return {
        "alerts": {"items": [loud, quiet, young], "next": None, "counts": counts},
        "alerts/rules": {"items": [rule, fixed]},
        "alerts/heartbeats": {"items": [beat]},
        "alerts/{id}": {**quiet, "why": why},
        "inhibitions": {"items": [inhibition]},
        "events/{id}/why": _why(quiet, why, soon),
        "mutes": {"items": [mute, over], "counts": {"active": 1, "pending": 0, "expired": 1}, "hidden": 1},
    }


def _why(alert: dict[str, Any], decisions: list[Any], soon: str) -> dict[str, Any]:
    """Why the hidden alert is where it is."""
    hid = {"id": MUTE, "text": 'alertname="DiskFull"', "owner": "anna", "reason": "a larger disk is on its way", "until": soon,
           "state": "active", "hid": True}  # fmt: skip
    return {
        "event": alert, "outcome": "It is in no incident: hidden by a silence of anna.", "normaliser": "7", "format": "alertmanager",
        "reading": ["Read by normaliser 7 as alertmanager."], "incidents": [],
        "fingerprint": {"value": QUIET, "made_of": ["alertname"], "text": "The fingerprint is made of alertname."},
        "dedup": {"verdict": "", "text": "It was not compared with others."},
        "groups": {"text": "It was not weighed against incidents: something before that decided.", "items": []},
        "mutes": {"text": "It was hidden.", "items": [hid]},
        "inhibitions": [],
        "workflows": {"text": "No workflow was asked: they follow incidents, and it is in none.", "items": []},
        "decisions": decisions,
    }  # fmt: skip


def preview(now: datetime) -> dict[str, Any]:
    """What a mute would have hidden."""
    return {
        "since": rfc(now - timedelta(days=7)), "events": 40, "of_events": 900, "alerts": 3, "of_alerts": 60, "firing": 1,
        "rules": [{"rule": "DiskFull", "events": 40}], "incidents": ["INC-8139"], "examples": [],
    }  # fmt: skip
