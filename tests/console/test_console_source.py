"""One source in the console: its freedom, watch, data models and mapping; connecting another one."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import fake_incidents
import fake_rest
import fake_sources
import pytest
import yaml
from playwright.sync_api import Page, expect

from conftest import Open, Serve
from ninefold.catalogue.models import Model
from ninefold.config import WebhookConfig
from ninefold.stewardship.trying import Attempt
from ninefold.web.api.series import Points
from ninefold.web.api.source import MappingInfo, Preview, SourceDetail
from ninefold.web.api.sources import SourceInfo

NOW = datetime(2026, 11, 22, 20, 0, tzinfo=UTC)


def sent(posted: list[tuple[str, Any]], ending: str) -> list[Any]:
    """The bodies that went to a path."""
    return [body for path, body in posted if path.endswith(ending)]


def section(page: Page, name: str) -> Any:
    return page.get_by_role("region", name=name)


def test_the_fake_speaks_exactly_the_shapes_of_the_api() -> None:
    mappings = fake_sources.FakeMappings(NOW)
    saved = mappings.save(WebhookConfig(fields={"title": "text"}), "first")
    tried = mappings.preview(WebhookConfig(fields={"title": "app"}), 5)
    series = fake_incidents.points("1010", NOW.timestamp() - 3600, NOW.timestamp(), 600, (0.0, 1.0), 60)
    for model, answer in (
        (SourceDetail, fake_sources.detail("deploys", NOW)), (SourceDetail, fake_sources.detail("otlp", NOW)),
        (MappingInfo, saved), (Preview, tried), (Points, series),
        (SourceInfo, fake_rest.sources(NOW)[0]),
    ):  # fmt: skip
        assert set(answer) == set(model.model_fields)
        model.model_validate(answer)
    Attempt(**fake_sources.attempt(NOW))
    real = Model("deploys", "event", "deployment", 0)
    real.learn(iter([("raw.app", "cart")]), 1)
    assert {tuple(sorted(field)) for field in fake_sources.detail("deploys", NOW)["models"][0]["fields"]} == {
        tuple(sorted(real.table()[0]))
    }


pytestmark = pytest.mark.real


def test_freedom_is_shown_term_by_term_with_advice(serve: Serve, visit: Open) -> None:
    page = visit(serve(), "/sources")
    expect(page.locator(".sources tr", has_text="deploys")).to_contain_text(re.compile("1 drift.*81"))
    expect(page.locator(".sources tr", has_text="syslog")).to_contain_text(re.compile("no.*–"))
    page.get_by_role("link", name="deploys").click()
    expect(page.get_by_role("img", name="Freedom 80.9 of 100")).to_be_visible()
    rows = page.locator(".terms tbody tr")
    expect(rows).to_have_count(10)
    expect(rows.nth(2)).to_contain_text("6 of 15")
    expect(rows.nth(9)).to_contain_text("not measured")
    expect(page.get_by_label("The sum")).to_contain_text("frequency 6/15")
    expect(page.get_by_label("The sum")).to_contain_text("= 76.9 of 95 = 80.9")
    expect(page.locator(".advice li").first).to_contain_text("up to +9")
    expect(page.locator(".figures")).to_contain_text("rare gaps are 3.4× as long")
    expect(section(page, "Not as usual")).to_contain_text("usual1,200 in 5 minnow96 in 5 min")


def test_the_watch_shows_checks_drifts_and_who_depends_on_it(serve: Serve, visit: Open) -> None:
    page = visit(serve(), "/sources/deploys")
    page.get_by_role("link", name="Watch").click()
    expect(page).to_have_url(re.compile("/sources/deploys/watch$"))
    checks = page.locator(".checks tbody tr")
    expect(checks).to_have_count(9)
    expect(checks.nth(1)).to_contain_text("not judged")
    expect(checks.nth(1)).to_contain_text("usually 1,200 in 5 min")
    expect(checks.nth(0)).to_contain_text("silent after 15m")
    expect(checks.nth(2)).to_contain_text("Cadence")
    expect(checks.nth(2)).to_contain_text("every 5m")
    drift = section(page, "Drifts so far").locator("li", has_text="has sent no events for 9 h")
    drift.locator("summary").first.click()
    expect(drift).to_contain_text("administrators were told, and of its end")
    depends = section(page, "What depends on it")
    expect(depends).to_contain_text("Know what was deployed")
    depends.get_by_role("link", name="roll-back-deploy").click()
    expect(page).to_have_url(re.compile("/workflows/roll-back-deploy$"))


def test_a_data_model_shows_its_fields_and_how_its_versions_differ(serve: Serve, visit: Open) -> None:
    page = visit(serve(), "/sources/deploys/models")
    row = page.locator(".fields tr", has_text="raw.took_ms")
    expect(row).to_contain_text("integer 97 %, text 3 %")
    expect(row).to_contain_text("ms")
    expect(page.locator(".fields tr", has_text="raw.operator")).to_contain_text("vanished")
    expect(page.locator(".fields tbody tr")).to_have_count(60)
    page.get_by_role("button", name="Show 11 more fields").click()
    expect(page.locator(".fields tbody tr")).to_have_count(71)
    page.get_by_label("Search a field").fill("raw.co")
    expect(page.locator(".fields tbody tr")).to_have_count(1)
    expect(page.locator(".changes li")).to_have_text(
        [re.compile("steps.*new"), re.compile("operator.*vanished"), re.compile("text → number")]
    )
    page.get_by_role("button", name=re.compile("^series")).click()
    expect(page).to_have_url(re.compile("model=series"))
    expect(page.locator(".model")).to_contain_text("learning")


def test_a_mapping_is_suggested_tried_saved_and_applied_to_the_past(serve: Serve, visit: Open) -> None:
    server = serve()
    page = visit(server, "/sources/deploys/mapping")
    expect(section(page, "Preview")).to_contain_text("the newest 8 stored records")
    page.get_by_role("button", name="Take 5 suggestions").click()
    expect(page.get_by_label("Path of time")).to_have_value("finished_at")
    expect(page.locator(".mapping .badge.good")).to_have_count(5)
    page.get_by_label("Path of title").fill("join(' ', [app, version])")
    changed = page.locator(".compare .differs", has_text="title").first
    expect(changed).to_contain_text("rolled out checkout 2026.11.9")
    expect(changed).to_contain_text("checkout 2026.11.9")
    page.get_by_label("Path of body").fill("app..x")
    expect(section(page, "Preview").get_by_role("status")).to_contain_text("is not a JMESPath")
    expect(page.get_by_role("button", name="Save")).to_be_disabled()
    page.get_by_label("Path of body").fill("")
    page.get_by_label("Another field").fill("team")
    page.get_by_role("button", name="Add a field").click()
    page.get_by_label("Path of attributes.team").fill("app")
    page.get_by_label("Note").fill("titles that say what")
    page.get_by_role("button", name="Save").click()
    expect(section(page, "Versions")).to_contain_text("titles that say what")
    expect(section(page, "Versions")).to_contain_text("in force")
    (saved,) = [body for path, body in server.posted if path.endswith("/mapping")]
    assert saved["note"] == "titles that say what"
    assert saved["mapping"]["kind"] == "deployment"
    assert saved["mapping"]["fields"]["attributes.team"] == "app"
    assert "body" not in saved["mapping"]["fields"]
    page.get_by_role("button", name="last week").click()
    page.get_by_role("button", name="Read them again").click()
    expect(page.locator(".applied")).to_contain_text("94 records read: 90 replaced in place, 3 superseded by a new event, 1 left")
    (again,) = sent(server.posted, "/replay")
    assert again["source"] == "deploys"
    assert again["from"]


def test_a_mapping_can_be_written_as_yaml(serve: Serve, visit: Open) -> None:
    server = serve()
    page = visit(server, "/sources/deploys/mapping")
    page.get_by_role("button", name="Take 5 suggestions").click()
    page.get_by_role("button", name="YAML").click()
    text = page.get_by_label("The mapping as YAML").input_value()
    assert yaml.safe_load(text)["fields"]["time"] == "finished_at"
    page.get_by_label("The mapping as YAML").fill("kind: change\nfields: {title: version}\n")
    expect(page.locator(".compare .differs", has_text="kind").first).to_contain_text("change")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_label("Path of title")).to_have_value("version")
    assert [body["yaml"] for path, body in server.posted if path.endswith("/mapping")] == ["kind: change\nfields: {title: version}\n"]


def test_who_may_only_read_sees_a_mapping_but_cannot_save_it(serve: Serve, visit: Open) -> None:
    page = visit(serve(role="viewer"), "/sources/deploys/mapping")
    page.get_by_role("button", name="Take 5 suggestions").click()
    expect(page.locator(".readings li")).to_have_count(8)
    expect(page.get_by_role("button", name="Save")).to_be_disabled()
    expect(page.get_by_role("button", name="Read them again")).to_be_disabled()


def test_a_source_that_nothing_is_known_of_says_what_will_come(serve: Serve, visit: Open) -> None:
    server = serve()
    for tab, words in {
        "": "Nothing has been measured yet",
        "watch": "It is not watched",
        "models": "No data model yet",
        "mapping": "has to be mapped",
    }.items():
        expect(visit(server, f"/sources/otlp/{tab}".rstrip("/")).locator("main")).to_contain_text(words)
    expect(visit(server, "/sources/none").get_by_role("alert")).to_contain_text("There is no source 'none'")


def test_a_source_is_connected_step_by_step(serve: Serve, visit: Open) -> None:
    server = serve(role="admin")
    page = visit(server, "/sources")
    expect(page.locator(".sources")).to_be_visible()
    page.keyboard.press("c")
    page.get_by_label("Search a tool or protocol").fill("mqtt")
    expect(page.locator(".kinds-list li")).to_have_count(1)
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("connect=mqtt"))
    dialog = page.get_by_role("dialog", name="Connect a source")
    expect(dialog.get_by_role("button", name="Try it")).to_be_disabled()
    dialog.get_by_label(re.compile("^name")).fill("shop")
    dialog.get_by_label(re.compile("^host")).fill("nowhere")
    dialog.get_by_label(re.compile("^topics")).fill("shop/orders\nshop/#")
    dialog.get_by_text("more settings with good defaults").click()
    dialog.get_by_label(re.compile("^password")).fill("secret")
    dialog.get_by_label(re.compile("^tls.enabled")).check()
    dialog.get_by_label(re.compile("^qos")).select_option("2")
    dialog.get_by_role("button", name="Try it").click()
    expect(dialog.get_by_role("alert")).to_contain_text("connection refused")
    dialog.get_by_label(re.compile("^host")).fill("broker")
    dialog.get_by_role("button", name="Try it").click()
    expect(dialog.locator(".tried")).to_contain_text("connected to MQTT 5 broker mosquitto")
    expect(dialog.locator(".samples tbody tr")).to_have_count(3)
    asked = sent(server.posted, "/source-kinds/mqtt/check")[-1]
    topics = ["shop/orders", "shop/#"]
    assert asked == {
        "name": "shop",
        "settings": {"host": "broker", "topics": topics, "password": "secret", "tls": {"enabled": True}, "qos": 2},
    }
    written = yaml.safe_load(dialog.get_by_label("Lines for ninefold.yaml").inner_text())
    assert written["sources"]["shop"] == {
        "type": "mqtt", "host": "broker", "topics": topics, "password": "${SHOP_PASSWORD}", "tls": {"enabled": True}, "qos": 2,
        "batch": 500,
    }  # fmt: skip
    assert written["webhooks"]["shop"]["fields"]["time"] == "finished_at"
    expect(dialog).to_contain_text("set SHOP_PASSWORD in Ninefold’s environment")
    page.keyboard.press("Escape")
    expect(page).to_have_url(f"{server.url}/sources")


def test_every_kind_of_source_has_a_form_and_an_operator_sees_but_cannot_try(serve: Serve, visit: Open) -> None:
    page = visit(serve(), "/sources?connect=any")
    kinds = page.locator(".kinds-list li button")
    expect(kinds.first).to_be_visible()
    assert kinds.count() >= 20
    for place in range(kinds.count()):
        kinds.nth(place).click()
        expect(page.locator(".kind h3")).to_have_text(kinds.nth(place).locator(".strong").inner_text())
        if page.get_by_role("button", name="Try it").count():
            expect(page.get_by_role("button", name="Try it")).to_be_disabled()
            text = page.get_by_label("Lines for ninefold.yaml").inner_text()
            (settings,) = yaml.safe_load(text)["sources"].values()
            assert settings["type"] in page.url
        else:
            expect(page.locator(".kind")).to_contain_text("it listens already")
    assert page.complaints == []  # type: ignore[attr-defined]
    page.get_by_label("Search a tool or protocol").fill("qqzz")
    expect(page.locator(".kinds-list")).to_contain_text("Nothing matches")
