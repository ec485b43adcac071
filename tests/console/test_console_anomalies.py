"""Anomalies: what is unusual and why, forecasts, log templates, operations, and what the detection learned."""

from __future__ import annotations

import re

import pytest
from fake_anomalies import MARK, TEMPLATE
from playwright.sync_api import expect

from conftest import Open, Serve

pytestmark = pytest.mark.real


def test_an_anomaly_says_why_and_takes_a_verdict(serve: Serve, visit: Open) -> None:
    server = serve()
    page = visit(server)
    expect(page.get_by_role("heading", level=1)).to_have_text("Incidents")
    page.keyboard.press("g")
    page.keyboard.press("a")
    expect(page).to_have_url(re.compile("/anomalies$"))
    rows = page.get_by_role("table", name="Anomalies").locator("tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.nth(0)).to_contain_text("level shift")
    expect(page.get_by_role("table", name="Worth a look")).to_contain_text("orders is 3, expected 7 to 11")
    page.get_by_label("kind").select_option("stall")
    expect(rows).to_have_count(1)
    page.get_by_label("kind").select_option("")
    page.keyboard.press("Escape")
    rows.nth(0).get_by_role("button").click()
    pane = page.get_by_role("complementary", name="Why")
    expect(pane).to_contain_text("5.20 from 4.50")
    expect(pane).to_contain_text("× 1.15")
    expect(pane.locator(".chart")).to_be_visible()
    pane.get_by_role("button", name="noise").click()
    expect(pane.get_by_role("button", name="noise")).to_have_attribute("aria-pressed", "true")
    assert (f"/api/v1/anomalies/{MARK}/verdict", {"verdict": "noise"}) in server.posted
    assert page.complaints == []  # type: ignore[attr-defined]


def test_each_view_has_its_address(serve: Serve, visit: Open) -> None:
    server = serve()
    page = visit(server, "/anomalies/forecasts?selected=1001")
    expect(page.get_by_role("table", name="Forecasts", exact=True)).to_contain_text(re.compile("in 3h.*in 2h.*in 5h"))
    expect(page.get_by_role("complementary", name="Forecast").locator(".chart")).to_be_visible()
    expect(page.get_by_role("table", name="Quality of forecasts")).to_contain_text("94%")
    page.keyboard.press("3")
    expect(page).to_have_url(re.compile("/anomalies/templates$"))
    expect(page.locator(".hole")).to_have_text(["word", "duration"])
    page.get_by_role("table", name="Log templates", exact=True).get_by_role("button").click()
    expect(page).to_have_url(re.compile(TEMPLATE))
    expect(page.get_by_role("complementary")).to_contain_text(re.compile("explains 88%.*anna, ben"))
    page.keyboard.press("4")
    page.get_by_role("button", name="GET /cart").click()
    expect(page.get_by_role("complementary")).to_contain_text(re.compile("TimeoutError.*SELECT cart.*70%"))
    assert page.complaints == []  # type: ignore[attr-defined]


def test_what_was_learned_is_undone_and_words_are_set(serve: Serve, visit: Open) -> None:
    server = serve()
    page = visit(server, "/anomalies/learned")
    page.get_by_role("group", name="Sensitivity of everything").get_by_role("button", name="calm").click()
    expect(page.get_by_text("Everything is calm from now on.")).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_text("Taken back.")).to_be_visible()
    page.get_by_role("button", name="Promote").click()
    expect(page.get_by_text("The candidate is current.")).to_be_visible()
    assert [path.removeprefix("/api/v1/detection/") for path, _ in server.posted] == ["sensitivity", "learned/7/undo", "shadow/promote"]


def test_explore_draws_forecast_and_change_points(serve: Serve, visit: Open) -> None:
    server = serve()
    page = visit(server, "/explore?series=1001")
    expect(page.locator(".chart")).to_be_visible()
    page.keyboard.press("f")
    page.keyboard.press("c")
    expect(page).to_have_url(re.compile("ahead=1&shifts=1"))
    expect(page.locator(".marks")).to_contain_text("level 0.1 → 1.2")
    box = page.locator(".u-over").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + 40)
    expect(page.locator(".chart-value")).to_contain_text("forecast")


@pytest.mark.parametrize("tab", ["?selected=" + MARK, "/forecasts", "/templates", "/operations", "/learned"])
def test_a_narrow_screen_does_not_scroll_sideways(serve: Serve, visit: Open, tab: str) -> None:
    page = visit(serve(), f"/anomalies{tab}", width=380)
    expect(page.locator(".page-body table").first).to_be_visible()
    assert page.evaluate("document.querySelector('.page-body').scrollWidth <= document.querySelector('.page-body').clientWidth")
