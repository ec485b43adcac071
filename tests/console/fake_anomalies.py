"""What the analytics answer, canned."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from fake_words import rfc

MARK, TEMPLATE = "00000000000000aa", "00000000000000bb"


def answers(now: datetime) -> dict[str, Any]:
    """Answers of GET by path below the API's root; `{id}` stands for any."""
    ago = {minutes: rfc(now - timedelta(minutes=minutes)) for minutes in (1, 25, 600)}
    ahead = {hours: rfc(now + timedelta(hours=hours)) for hours in (2, 3, 5)}
    anomaly = {
        "fingerprint": MARK, "title": "p99 of cart is 1.2 s, expected 80 to 140 ms", "entity": "service:shop/cart", "series": "1001",
        "metric": "p99", "unit": "s", "reason": "level shift", "horizon": "12", "technique": "baseline", "severity": "high",
        "status": "firing", "value": 1.2, "expected": 0.11, "lower": 0.08, "upper": 0.14, "score": 9.1, "since": ago[25], "until": None,
        "verdict": "", "demoted": False,
    }  # fmt: skip
    over = anomaly | {"fingerprint": "00000000000000ac", "title": "Mail is still", "entity": "service:shop/mail", "reason": "stall",
                      "status": "resolved", "until": ago[1], "technique": "peers", "severity": "warning", "demoted": True}  # fmt: skip
    move = {
        "about": "thresholds",
        "id": 7, "time": ago[25], "scope": "series", "target": "1001", "before": 1.0, "after": 1.15, "why": "noise, says ops",
        "fingerprint": MARK, "actor": "ops", "undone": False,
    }  # fmt: skip
    lesson = move | {"about": "incidents", "scope": "rule", "target": "HighCPU", "after": 1.284, "why": "INC-4: noise", "time": ago[600]}
    side = {"alarms": 4, "rate": 0.4, "low": 0.1, "high": 0.9, "useful": 1, "noise": 0}
    breach = {"earliest": ahead[2], "likely": ahead[3], "latest": ahead[5], "chance": 0.92}
    quality = [
        {
            "lead": "1h",
            "lead_s": 3600,
            "issued": 40,
            "judged": 8,
            "relative_error": 0.61,
            "wape": 0.1,
            "coverage_95": 0.94,
            "coverage_80": 0.8,
        }
    ]
    template = {
        "id": TEMPLATE, "text": "user <word> took <duration>", "count": 1204, "rate_now": 80.0, "rate_usual": 4.2, "severity": 17,
        "first_seen": ago[600], "last_seen": ago[1], "entities": ["service:shop/cart"], "kinds": ["surging"], "example": "user a took 3ms",
    }  # fmt: skip
    times = [now.timestamp() + 600 * step for step in range(1, 13)]
    return {
        "anomalies": {"items": [anomaly, over]},
        "anomalies/{id}": over,
        "anomalies/{id}/why": {
            "anomaly": anomaly, "expected_band": [0.08, 0.14], "deviation": 1.09,
            "deviation_words": "1.09 above the 0.11 that was expected", "details": {"calls": "120 in the last minute"},
            "thresholds": {
                "threshold": 5.2, "base": 4.5, "scope": "everything", "scope_name": "", "word": "normal", "word_factor": 1.0,
                "verdict_factor": 1.15, "fatigue_factor": 1.0, "held": False, "learned": [move],
            },
        },
        "interesting": {"items": [{
            "series": "1010", "name": "shop.orders", "label": "orders", "entity": "", "unit": "1", "strength": 4.2, "value": 3.0,
            "expected": 9.0, "lower": 7.0, "upper": 11.0, "kinds": ["daily"], "since": ago[25], "time": ago[1],
            "text": "orders is 3, expected 7 to 11", "deviation": "far below",
        }]},
        "forecasts": {"quality": quality, "items": [{
            "series": "1001", "name": "disk", "unit": "By", "entity": "host:db-1", "title": "Disk of db-1 is full in 3 h", "issued": ago[1],
            "threshold": 1e9, "direction": "above", "why": "its capacity", "model": "trend", "last": 9e8, "breach": breach,
        }]},
        "series/{id}/forecast": {
            "series": "1001", "name": "p99", "unit": "s", "entity": "", "time": times, "centre": [0.2] * 12, "lower": [0.1] * 12,
            "upper": [0.3] * 12, "lower_80": [0.15] * 12, "upper_80": [0.25] * 12, "model": "trend", "trained_from": ago[600],
            "step_s": 600, "backtest_error": 0.6, "threshold": None, "direction": None, "why": None, "breach": None, "quality": quality,
        },
        "series/{id}/change-points": {"series": "1001", "points": 90, "resolution": "raw", "items": [{
            "time": ago[25], "earliest": ago[25], "latest": ago[25], "kind": "level", "before": 0.1, "after": 1.2, "size": 1.1,
            "spreads": 8.0, "confidence": 0.99,
        }]},
        "log-templates": {"items": [template], "total": 1},
        "log-templates/{id}": template | {
            "aliases": [], "holes": [{"type": "word", "distinct": 3, "looked": 40, "examples": ["anna", "ben"]}],
            "surges": [{"entity": "service:shop/cart", "fields": [{
                "field": "#1", "value": "anna", "now": 0.9, "before": 0.1, "lines": 30, "explained": 0.88, "text": "#1 is anna in 90 %",
            }]}],
            "rate": [{"time": now.timestamp() - 120, "lines": 4}, {"time": now.timestamp() - 60, "lines": 80}],
        },
        "operations": {"items": [{
            "entity": "service:shop/cart", "operation": "GET /cart", "calls_per_min": 120.0, "usual_calls_per_min": 118.0,
            "error_share": 0.04, "usual_error_share": 0.01,
            "p50_ms": 20.0, "p95_ms": 400.0, "p99_ms": 900.0, "usual_p50_ms": 18.0, "usual_p95_ms": 60.0,
            "usual_p99_ms": 90.0, "first_seen": ago[600], "last_seen": ago[1], "shifted_since": ago[25],
            "errors": [{"kind": "TimeoutError", "share": 0.04, "usual_share": 0.0, "first_seen": ago[25], "last_seen": ago[1],
                        "since": ago[25]}],
        }]},
        "operations/critical-path": {"entity": "service:shop/cart", "operation": "GET /cart", "traces": 90.0, "contributors": [{
            "entity": "service:shop/db", "operation": "SELECT cart", "in_transit": False, "share": 0.7, "usual_share": 0.3,
            "usual_ms": 6.0, "first_seen": ago[600], "since": ago[25],
        }]},
        "detection/sensitivity": {"experts": {"level": 12, "daily": 3}, "items": [{
            "scope": "everything", "name": "", "word": "normal", "target": 0.5, "measured": 0.31, "alarms": 6, "useful": 2, "series": 15,
        }]},
        "detection/learned": {"items": [move, lesson]},
        "regroupings": {"items": [{
            "id": 3, "time": ago[25], "deed": "merge", "actor": "ops", "note": "one outage", "into": "INC-42", "incidents": ["INC-41"],
            "alerts": 2, "title": "INC-41 merged into INC-42 by ops", "undone": "",
        }]},
        "detection/shadow": {"comparison": {
            "candidate": {"sure": 5.0}, "since": ago[600], "series": 12, "series_weeks": 0.3, "current": side,
            "candidate_side": side | {"alarms": 2}, "both": 2, "only_current": 2, "only_candidate": 0, "earlier": 0, "later": 1,
            "pages_saved": 1, "pages_added": 0, "chance": 0.5,
        }},
    }  # fmt: skip
