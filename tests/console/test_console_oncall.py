"""On-call in the browser: who it is, standing in, arranging it, sending again; narrow, by keyboard, and for everybody to read."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import fake_oncall
import pytest
from playwright.sync_api import expect
from test_console import settled, violations

from conftest import Open, Serve
from ninefold.oncall import arranging, view
from ninefold.oncall.plans import Person, Policy, Schedule, Team
from ninefold.store.records.access import create_token
from ninefold.store.records.base import Base, Records
from ninefold.store.records.oncall import Page as Paged

pytestmark = pytest.mark.real


def test_it_says_who_is_on_call_and_what_is_wrong(serve: Serve, visit: Open) -> None:
    page = settled(visit(serve(), "/on-call"))
    figures = page.locator(".figures")
    expect(figures).to_contain_text("Shop · primary")
    expect(figures.locator("dd.figure")).to_have_text(["anna", "nobody"])
    expect(figures).to_contain_text(re.compile("then cleo"))
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("nobody is on call from")
    expect(alert).to_contain_text("ben cannot be reached; add a contact method")
    shifts = page.get_by_role("list", name="Shifts of primary").get_by_role("listitem")
    expect(shifts).to_have_count(5)
    expect(shifts.nth(1)).to_contain_text(re.compile("cleo, .* standing in"))
    expect(shifts.nth(4)).to_contain_text("nobody, ")
    assert page.complaints == []  # type: ignore[attr-defined]


def test_somebody_stands_in_by_keyboard_and_is_taken_back(serve: Serve, visit: Open) -> None:
    server = serve()
    page = settled(visit(server, "/incidents"))
    page.keyboard.press("g")
    page.keyboard.press("o")
    expect(page.locator("h1")).to_have_text("On-call")
    expect(page.locator(".rota-line")).to_have_count(2)
    page.keyboard.press("o")
    dialog = page.get_by_role("dialog", name="Stand in")
    expect(dialog.get_by_label("Who")).to_have_value("ops")
    dialog.get_by_label("Reason").fill("swap")
    page.keyboard.press("Enter")
    expect(page.locator(".toast")).to_contain_text("ops stands in")
    ((path, body),) = server.posted
    assert (path, body["person"], body["reason"]) == ("/api/v1/oncall/schedules/primary/overrides", "ops", "swap")
    assert datetime.fromisoformat(body["ends"]) > datetime.fromisoformat(body["starts"])
    page.get_by_role("button", name="Take back").click()
    expect(page.locator(".toast")).to_contain_text("taken back")
    assert "DELETE /api/v1/oncall/schedules/primary/overrides/3" in server.requests


def test_schedules_policies_and_people_are_arranged(serve: Serve, visit: Open) -> None:
    server = serve(role="admin")
    page = settled(visit(server, "/on-call/schedules"))
    page.get_by_role("button", name="Change primary").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label(re.compile("People, in the order")).fill("anna, cleo ,ben")
    dialog.get_by_label("Hand-over").select_option("every two weeks")
    dialog.get_by_label("Wed").check()
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).to_have_count(0)
    page.get_by_role("button", name="New calendar address").click()
    expect(page.get_by_label(re.compile("For your calendar"))).to_have_value(
        f"{server.url}/api/v1/oncall/schedules/primary.ics?token=s3cret"
    )
    page.goto(f"{server.url}/on-call/policies")
    page.get_by_role("button", name="New policy").click()
    expect(dialog.get_by_role("button", name="Save")).to_be_disabled()
    dialog.get_by_label("Name", exact=True).fill("nights")
    dialog.get_by_label("Page also").select_option("person anna")
    dialog.get_by_label(re.compile("Incidents, one condition")).fill("severity=critical")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).to_have_count(0)
    page.goto(f"{server.url}/on-call/people")
    page.get_by_role("button", name="Change how ben is reached").click()
    dialog.get_by_role("button", name="Add a contact method").click()
    dialog.get_by_label("Name", exact=True).fill("mail")
    dialog.get_by_label("Connector and action").fill("mail.send")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).to_have_count(0)
    page.get_by_role("button", name="Test page to anna").click()
    expect(page.locator(".toast")).to_contain_text("on its way to anna")
    sent = dict(server.posted)
    layer = sent["/api/v1/oncall/schedules/primary"]["layers"][0]
    assert (layer["people"], layer["rrule"]) == (["anna", "cleo", "ben"], "FREQ=WEEKLY;INTERVAL=2")
    assert layer["restrictions"] == [{"days": ["MO", "TU", "WE"], "starts": "09:00", "ends": "17:00"}]
    Schedule.model_validate(sent["/api/v1/oncall/schedules/primary"])
    policy = Policy.model_validate(sent["/api/v1/oncall/policies/nights"])
    assert policy.steps[0].targets[0].name == "anna"
    assert policy.matchers[0].value == "critical"
    assert sent["/api/v1/oncall/people/ben"] == {"contacts": [{"name": "mail", "uses": "mail.send", "after_s": 0, "ask": None}]}
    assert sent["/api/v1/oncall/pages"] == {"person": "anna"}
    assert page.complaints == []  # type: ignore[attr-defined]


def test_a_page_is_sent_again_and_a_viewer_only_looks(serve: Serve, visit: Open) -> None:
    server = serve()
    page = settled(visit(server, "/on-call/pages"))
    page.get_by_role("button", name="Send again").click()
    expect(page.locator(".toast")).to_contain_text("sent again")
    assert server.posted == [("/api/v1/oncall/pages/8/again", {})]
    page = settled(visit(serve(role="viewer"), "/on-call/people"))
    for name in ("Stand in", "New team", "Test page to anna", "Change how ben is reached"):
        expect(page.get_by_role("button", name=name)).to_be_disabled()


def test_an_incident_is_mitigated_rated_given_to_a_team_and_its_post_mortem_drafted(serve: Serve, visit: Open) -> None:
    server = serve()
    page = settled(visit(server, "/incidents/INC-8139"))
    page.get_by_label("Severity").first.select_option("warning")
    page.get_by_role("button", name="No team").click()
    page.get_by_role("dialog").get_by_label("shop").check()
    page.get_by_role("dialog").get_by_role("button", name="Save").click()
    expect(page.get_by_role("button", name="shop")).to_be_visible()
    page.get_by_role("button", name="Mitigated").click()
    expect(page.locator(".facts .badge")).to_have_text("mitigated")
    page.keyboard.press("p")
    dialog = page.get_by_role("dialog", name="Post-mortem of INC-8139")
    expect(dialog.get_by_label("Post-mortem draft")).to_contain_text("# Post-mortem of")
    expect(dialog.get_by_role("link", name="Download")).to_have_attribute("download", "INC-8139.md")
    assert violations(page) == []
    sent = dict(server.posted)
    assert sent["/api/v1/incidents/INC-8139/severity"]["severity"] == "warning"
    assert sent["/api/v1/incidents/INC-8139/teams"]["teams"] == ["shop"]
    assert "/api/v1/incidents/INC-8139/mitigate" in sent


def test_it_fits_a_telephone_and_everybody_can_read_its_dialogs(serve: Serve, visit: Open) -> None:
    server, found = serve(role="admin"), []
    page = visit(server, "/on-call", width=380)
    for path, button in (("", "Stand in"), ("/schedules", "Change primary"), ("/policies", "Change standard"), ("/people", "Change shop")):
        page.goto(f"{server.url}/on-call{path}")
        settled(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= 380, path
        page.get_by_role("button", name=button).first.click()
        page.get_by_role("dialog").wait_for()
        found += [f"{path} {line}" for line in violations(page)]
        page.keyboard.press("Escape")
    assert found == []


def test_the_fake_is_as_the_api(tmp_path: Path) -> None:
    records = Records(f"sqlite:///{tmp_path}/records.db")
    Base.metadata.create_all(records.engine)
    fake = fake_oncall.answers(datetime(2026, 6, 1, tzinfo=UTC))
    whole = fake["oncall"]
    with records.session() as session:
        for name in fake_oncall.PEOPLE:
            create_token(session, name, "operator")
        session.flush()
        plans = [
            ("primary", Schedule, whole["schedules"][0]),
            ("shop", Team, whole["teams"][0]),
            ("standard", Policy, whole["policies"][0]),
        ]
        for name, model, body in plans:
            arranging.save(session, name, model.model_validate({k: v for k, v in body.items() if k in model.model_fields}), "a", {})
        arranging.save(session, "ops", Person(), "a", {})
        arranging.stand_in(session, "primary", "cleo", 0, 3600 * 10**9, "", "anna")
        session.add(Paged(person="anna", due=0))
    with records.reading() as session:
        real = view.overview(session, 0, 14 * 86_400 * 10**9)
        pages = view.pages(session, None, 10)
    assert real.keys() == whole.keys()
    for kind in ("schedules", "teams", "policies", "people"):
        assert real[kind][0].keys() == whole[kind][0].keys(), kind
    assert real["schedules"][0]["shifts"][0].keys() == whole["schedules"][0]["shifts"][0].keys()
    assert real["schedules"][0]["overrides"][0].keys() == whole["schedules"][0]["overrides"][0].keys()
    assert real["schedules"][0]["calendar"].keys() == whole["schedules"][0]["calendar"].keys()
    assert real["teams"][0]["on_call"][0].keys() == whole["teams"][0]["on_call"][0].keys()
    assert pages[0].keys() == fake["oncall/pages"]["items"][0].keys()
    records.close()
