"""Anomalies: what is unusual and why, forecasts, log templates, operations, and what the detection learned."""

from __future__ import annotations

import re

import pytest
from fake_anomalies import MARK, TEMPLATE
from fake_regression import SAVED
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
    expect(rows.nth(1)).to_contain_text("frequent but not worsening")
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
    together = pane.get_by_role("table", name="Metrics together").locator("tbody tr")
    expect(together).to_have_count(5)
    expect(together.nth(0)).to_contain_text(re.compile(r"metric 0.*\+9\.1.*60%"))
    pane.get_by_role("button", name="Show 2 more metrics").click()
    expect(together).to_have_count(7)
    expect(pane.get_by_role("table", name="Beside siblings")).to_contain_text("-1.4")
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
    page.get_by_role("button", name="Undo").first.click()
    expect(page.get_by_text("Taken back.")).to_be_visible()
    lesson = page.get_by_role("listitem").filter(has_text="INC-4: noise")
    expect(lesson).to_contain_text("less severe when alone: rule HighCPU: 1.000 → 1.284, ops")
    with page.expect_response(re.compile("/undo$")):
        lesson.get_by_role("button", name="Undo").click()
    page.get_by_role("button", name="Promote").click()
    expect(page.get_by_text("The candidate is current.")).to_be_visible()
    assert [path.removeprefix("/api/v1/detection/") for path, _ in server.posted] == [
        "sensitivity", "learned/7/undo", "learned/incidents/7/undo", "shadow/promote",
    ]  # fmt: skip


def test_anomalies_and_forecasts_follow_their_topics(serve: Serve, visit: Open) -> None:
    server = serve()
    page = visit(server, "/anomalies")
    for topic, path, view in (("detection", "anomalies", "Anomalies"), ("forecast", "forecasts", "Forecasts")):
        expect(page.get_by_role("table", name=view, exact=True)).to_be_visible()
        expect(page.get_by_role("status", name="live")).to_be_visible()
        with page.expect_response(re.compile(f"/api/v1/{path}")):
            server.push(topic)
        page.keyboard.press("2")


def test_a_regression_is_tried_and_watched(serve: Serve, visit: Open) -> None:
    server = serve()
    page = visit(server, "/anomalies/regression")
    page.get_by_role("combobox", name="Search the target").fill("p99")
    page.get_by_role("option", name=re.compile("p99")).first.click()
    page.get_by_role("combobox", name="Add a driver").fill("orders")
    expect(page.get_by_role("option")).to_have_count(1)
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"target=1001&driver=1010$"))
    table = page.get_by_role("table", name="Coefficients")
    expect(table).to_contain_text(re.compile(r"driver 1010.*0\.02.*0\.01 to 0\.03.*0\.80.*1\.2"))
    expect(page.locator(".marks")).to_contain_text("up to 6.0 standard errors above")
    page.get_by_label("goes before").fill("300")
    page.get_by_role("button", name="recursive").click()
    expect(page).to_have_url(re.compile(r"driver=1010%3A300.*method=recursive"))
    expect(page.get_by_role("region", name="Coefficients over time").locator(".chart")).to_have_count(2)
    page.get_by_label("Name of the regression").fill("latency by load")
    page.keyboard.press("Enter")
    expect(page.get_by_text("latency by load is watched from now on.")).to_be_visible()
    sent = dict(server.posted)["/api/v1/regressions"]
    assert sent == {"name": "latency by load", "target": "1001", "drivers": [{"series": "1010", "lag_s": 300}], "step_s": 60}
    page.get_by_role("table", name="Saved regressions").get_by_role("button").click()
    pane = page.get_by_role("complementary", name="Saved regression")
    expect(pane).to_contain_text(re.compile(r"alarm.*0\.1 ± 0\.02"))
    expect(pane.locator(".chart")).to_have_count(3)
    pane.get_by_role("button", name="Remove").click()
    expect(page.get_by_text("latency by load is watched no more.")).to_be_visible()
    assert f"DELETE /api/v1/regressions/{SAVED}" in server.requests
    assert page.complaints == []  # type: ignore[attr-defined]


def test_explore_shows_how_an_entity_behaves(serve: Serve, visit: Open) -> None:
    page = visit(serve(), "/explore?series=1001")
    expect(page.locator(".chart")).to_be_visible()
    page.keyboard.press("b")
    expect(page.get_by_role("region", name=re.compile("^Behaviour of"))).to_contain_text("do not go together")


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


@pytest.mark.parametrize(
    "tab", ["?selected=" + MARK, "/forecasts", "/templates", "/operations", "/learned", "/regression?target=1001&driver=1010"]
)
def test_a_narrow_screen_does_not_scroll_sideways(serve: Serve, visit: Open, tab: str) -> None:
    page = visit(serve(), f"/anomalies{tab}", width=380)
    expect(page.locator(".page-body table").first).to_be_visible()
    assert page.evaluate("document.querySelector('.page-body').scrollWidth <= document.querySelector('.page-body').clientWidth")


def test_an_older_anomaly_is_shown_and_filters_are_asked_of_the_server(serve: Serve, visit: Open) -> None:
    server = serve()
    page = visit(server, "/anomalies?kind=level+shift&selected=00000000000000ac")
    expect(page.get_by_role("table", name="Anomalies").locator("tbody tr")).to_have_count(1)
    expect(page.get_by_role("complementary", name="Why")).to_contain_text("Mail is still")
    page.get_by_label("kind").select_option("")
    expect(page.get_by_role("table", name="Anomalies").locator("tbody tr")).to_have_count(2)
    assert page.complaints == []  # type: ignore[attr-defined]


def test_a_candidate_is_set_and_a_viewer_changes_nothing(serve: Serve, visit: Open) -> None:
    server = serve()
    page = visit(server, "/licenses.txt")
    page.route("**/api/v1/detection/shadow", lambda r: r.fulfill(json={"comparison": None}) if r.request.method == "GET" else r.continue_())
    page.goto(f"{server.url}/anomalies/learned")
    page.get_by_label("Two views agree").fill("5.2")
    page.get_by_role("button", name="Try it in the shadow").click()
    expect(page.get_by_text("The candidate runs in the shadow.")).to_be_visible()
    assert ("/api/v1/detection/shadow", {"sure": 5.2}) in server.posted
    page = visit(serve(role="viewer"), "/anomalies/learned")
    expect(page.get_by_role("group", name="Sensitivity of everything").get_by_role("button", name="calm")).to_be_disabled()
