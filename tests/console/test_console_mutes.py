"""Alerts and mutes: why an alert is where it is, what a mute hides, making one with a look at what it would have hidden."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import fake_mutes
import pytest
from playwright.sync_api import expect

from conftest import Open, Serve
from ninefold.config import AlertRule, CorrelationConfig, HeartbeatConfig, Inhibition
from ninefold.ground.clock import now
from ninefold.ground.meter import Meter
from ninefold.incidents import Incidents, alerts, heartbeats
from ninefold.incidents.mutes import Wish
from ninefold.model.matcher import Matcher
from ninefold.model.signal import batch_of
from ninefold.store.records.base import Base, Records
from ninefold.web.api import mutes, why

pytestmark = pytest.mark.real


def test_a_hidden_alert_says_which_mute_hides_it(serve: Serve, visit: Open) -> None:
    page = visit(serve(), "/alerts?state=all")
    rows = page.get_by_role("table", name="Alerts").locator("tbody tr")
    expect(rows).to_have_count(3)
    expect(rows.nth(0)).to_contain_text("INC-8140")
    page.get_by_role("button", name=re.compile("Disk of db-1")).click()
    pane = page.get_by_role("complementary", name="Why")
    expect(pane).to_contain_text("It is in no incident: hidden by a silence of anna.")
    expect(pane).to_contain_text("Read by normaliser 7 as alertmanager.")
    expect(pane).to_contain_text("No workflow was asked")
    expect(pane).to_contain_text("of anna until")
    pane.get_by_role("link", name="the mute that hides it").click()
    expect(page).to_have_url(re.compile(f"/mutes\\?selected={fake_mutes.MUTE}$"))
    expect(page.get_by_role("complementary", name="Mute")).to_contain_text("a larger disk is on its way")
    assert page.complaints == []  # type: ignore[attr-defined]


def test_an_alert_of_an_incident_says_why_it_is_there(serve: Serve, visit: Open) -> None:
    page = visit(serve(), "/incidents/INC-8140/alerts")
    page.locator("main").get_by_role("table").get_by_role("button").first.click()
    expect(page.get_by_role("complementary", name="Why")).to_contain_text("Read by normaliser 7 as alertmanager.")
    assert page.complaints == []  # type: ignore[attr-defined]


def test_a_mute_is_made_from_an_alert_and_shows_what_it_would_have_hidden(serve: Serve, visit: Open) -> None:
    server = serve()
    page = visit(server, f"/alerts?state=all&selected={fake_mutes.QUIET}")
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


def test_an_inhibition_is_looked_at_changed_and_removed(serve: Serve, visit: Open) -> None:
    server = serve()
    page = visit(server, "/mutes")
    page.get_by_role("link", name="Inhibitions").click()
    row = page.get_by_role("table", name="Inhibitions").locator("tbody tr")
    expect(row).to_contain_text(["alertname=NodeDown"])
    row.get_by_role("button", name="Change").click()
    dialog = page.get_by_role("dialog", name="Change the inhibition")
    dialog.get_by_label("Labels that must be equal").fill("node, zone")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).to_have_count(0)
    ((path, body),) = [(path, body) for path, body in server.posted if "inhibitions" in path]
    assert (path, body["equal"], body["version"]) == ("/api/v1/inhibitions/node-down", ["node", "zone"], 2)
    assert page.complaints == []  # type: ignore[attr-defined]


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
    saved = incidents.states.rules.save("rule", "r", AlertRule(matchers=["a=b"], for_s=1), "a", None)
    assert saved.keys() == faked["alerts/rules"]["items"][0].keys()
    incidents.states.rules.save("heartbeat", "h", HeartbeatConfig(matchers=["a=b"], every_s=1), "a", None)
    with records.reading() as session:
        (beat,) = heartbeats.shown(session, incidents.states.rules.listed(session, "heartbeat"))
    assert beat.keys() == faked["alerts/heartbeats"]["items"][0].keys()
    assert shown.keys() == faked["mutes"].keys()
    assert shown["items"][0].keys() == faked["mutes"]["items"][0].keys()
    assert shown["items"][0]["examples"][0].keys() == faked["mutes"]["items"][0]["examples"][0].keys()
    assert shown["items"][0]["id"] == mute.id
    assert why.Why.model_fields.keys() == faked["events/{id}/why"].keys()
    rule = incidents.states.rules.save("inhibition", "i", Inhibition(source_matchers=["a=b"], target_matchers=["a=c"]), "a", None)
    assert rule.keys() | {"hides", "examples"} == faked["inhibitions"]["items"][0].keys()


def test_rules_for_alerts_are_shown_and_changed_and_heartbeats_are_listed(serve: Serve, visit: Open) -> None:
    server = serve()
    page = visit(server, "/alerts?state=rules")
    rules = page.get_by_role("table", name="Rules", exact=True).locator("tbody tr")
    expect(rules).to_contain_text(["pending for 5m", "flapping above 6 changes"])
    expect(rules.nth(1)).to_contain_text("the configuration")
    expect(rules.nth(1).get_by_role("button")).to_have_count(0)
    expect(page.get_by_role("table", name="Heartbeats").locator("tbody tr")).to_contain_text(["beating"])
    rules.nth(0).get_by_role("button", name="Change").click()
    dialog = page.get_by_role("dialog", name="Change the rule")
    expect(dialog.get_by_label("Name")).to_be_disabled()
    dialog.get_by_label("Pending for").fill("60")
    dialog.get_by_label("Flapping above").fill("6")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).to_have_count(0)
    wanted = {"matchers": ['alertname=~"Disk.*"'], "for_s": 60, "flapping": 6, "version": 3}
    assert [body for path, body in server.posted if path == "/api/v1/alerts/rules/disks"] == [wanted]
    page.get_by_role("link", name=re.compile("Pending")).click()
    expect(page.get_by_role("table", name="Alerts").locator("tbody tr").nth(2)).to_contain_text("pending")
    assert page.complaints == []  # type: ignore[attr-defined]
