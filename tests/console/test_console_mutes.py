"""Alerts and mutes: why an alert is where it is, what a mute hides, making one with a look at what it would have hidden."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import fake_mutes
import pytest
from playwright.sync_api import expect

from conftest import Open, Serve
from ninefold.config import CorrelationConfig
from ninefold.ground.clock import now
from ninefold.ground.meter import Meter
from ninefold.incidents import Incidents, alerts
from ninefold.incidents.mutes import Wish
from ninefold.model.matcher import Matcher
from ninefold.model.signal import batch_of
from ninefold.store.records.base import Base, Records
from ninefold.web.api import mutes

pytestmark = pytest.mark.real


def test_a_hidden_alert_says_which_mute_hides_it(serve: Serve, visit: Open) -> None:
    page = visit(serve(), "/alerts?status=all")
    rows = page.get_by_role("table", name="Alerts").locator("tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.nth(0)).to_contain_text("INC-8140")
    page.get_by_role("button", name=re.compile("Disk of db-1")).click()
    pane = page.get_by_role("complementary", name="Why")
    expect(pane).to_contain_text("of anna until")
    pane.get_by_role("link", name="the mute that hides it").click()
    expect(page).to_have_url(re.compile(f"/mutes\\?selected={fake_mutes.MUTE}$"))
    expect(page.get_by_role("complementary", name="Mute")).to_contain_text("a larger disk is on its way")
    assert page.complaints == []  # type: ignore[attr-defined]


def test_a_mute_is_made_from_an_alert_and_shows_what_it_would_have_hidden(serve: Serve, visit: Open) -> None:
    server = serve()
    page = visit(server, f"/alerts?status=all&selected={fake_mutes.QUIET}")
    page.get_by_role("button", name="Mute alerts like this").click()
    dialog = page.get_by_role("dialog", name="Mute alerts")
    expect(dialog.get_by_label("Matchers")).to_have_value("alertname=DiskFull\nentity=host:db-1")
    expect(dialog.get_by_role("status")).to_contain_text("3 alerts of 60, 1 of them firing now")
    dialog.get_by_label("Matchers").fill("nonsense")
    expect(dialog).to_contain_text("“nonsense” is no matcher")
    expect(dialog.get_by_role("button", name="Mute", exact=True)).to_be_disabled()
    dialog.get_by_label("Matchers").fill('alertname=~"Disk.*"\nseverity!=critical')
    dialog.get_by_label("Reason").fill("known")
    dialog.get_by_label("For").select_option("4 hours")
    dialog.get_by_role("button", name="Mute", exact=True).click()
    expect(dialog).to_have_count(0)
    (body,) = [body for path, body in server.posted if path == "/api/v1/mutes"]
    assert body["matchers"] == [
        {"name": "alertname", "op": "=~", "value": "Disk.*"}, {"name": "severity", "op": "!=", "value": "critical"},
    ]  # fmt: skip
    length = datetime.fromisoformat(body["ends"]) - datetime.fromisoformat(body["starts"])
    assert 14_000 <= length.total_seconds() <= 14_400
    assert (body["reason"], body["owner"], body["rrule"]) == ("known", "ops", "")
    assert page.complaints == []  # type: ignore[attr-defined]


def test_a_mute_is_ended_and_a_viewer_only_looks(serve: Serve, visit: Open) -> None:
    server = serve()
    page = visit(server, f"/mutes?selected={fake_mutes.MUTE}")
    page.get_by_role("button", name="End it now").click()
    expect(page.locator(".toast")).to_contain_text("The mute is over")
    assert f"DELETE /api/v1/mutes/{fake_mutes.MUTE}" in server.requests
    page.get_by_role("link", name=re.compile("Expired")).click()
    expect(page.get_by_role("table", name="Mutes").locator("tbody tr")).to_contain_text(["backup on Sundays"])
    page = visit(serve(role="viewer"), f"/mutes?selected={fake_mutes.MUTE}")
    expect(page.get_by_role("button", name="End it now")).to_be_disabled()
    expect(page.get_by_role("button", name=re.compile("New mute"))).to_be_disabled()


def test_the_fake_has_the_fields_of_the_api(tmp_path: Path) -> None:
    records = Records(f"sqlite:///{tmp_path}/records.db")
    Base.metadata.create_all(records.engine)
    incidents = Incidents(records, None, CorrelationConfig(), Meter())  # type: ignore[arg-type]
    mute = incidents.mutes.create(Wish(matchers=[Matcher("kind", "=", "alert")], starts=0, ends=now() * 2, owner="a", reason="b"), "a")
    row = {"id": "1", "time": now(), "kind": "alert", "entity": "host:a", "title": "t", "severity": "high", "status": "firing",
           "fingerprint": "f", "attributes": {}}  # fmt: skip
    incidents.consume([batch_of("event", "s", now(), [row])], 0)
    faked = fake_mutes.answers(datetime.now(UTC))
    with records.reading() as session:
        listed, whole = alerts.page(session, "all", "", 10, 0), alerts.whole(session, "f")
        shown = mutes.listed(session, now(), "all", 10)
    assert listed.keys() == faked["alerts"].keys()
    assert listed["items"][0].keys() == faked["alerts"]["items"][0].keys()
    assert whole.keys() == faked["alerts/{id}"].keys()
    assert whole["why"][0].keys() == faked["alerts/{id}"]["why"][0].keys()
    assert shown.keys() == faked["mutes"].keys()
    assert shown["items"][0].keys() == faked["mutes"]["items"][0].keys()
    assert shown["items"][0]["examples"][0].keys() == faked["mutes"]["items"][0]["examples"][0].keys()
    assert shown["items"][0]["id"] == mute.id
