"""Explore: several series in one chart, and what was measured told from what lies between."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from conftest import Open, Serve

pytestmark = pytest.mark.real


def test_it_and_business_series_share_one_chart_by_unit(serve: Serve, visit: Open) -> None:
    server = serve()
    page = visit(server, "/explore?series=1001&series=1010")
    expect(page.locator(".series")).to_have_count(2)
    page.keyboard.press("o")
    expect(page).to_have_url(re.compile("chart=one"))
    legend = page.locator(".together-legend li")
    expect(legend).to_have_count(2)
    expect(legend.nth(0)).to_contain_text(re.compile(r"duration\.p99.*left.* ms"))
    expect(legend.nth(1)).to_contain_text(re.compile(r"shop\.orders.*measured every 5m.*right.* orders/min"))
    page.get_by_role("button", name=re.compile(r"^http\.server\.request\.duration\.p50")).click()
    expect(legend.nth(2)).to_contain_text("left")
    page.get_by_role("button", name=re.compile(r"^http\.server\.error\.ratio")).click()
    expect(page.locator(".explore-charts")).to_contain_text("what is measured in a third unit stands below")
    expect(page.locator(".series")).to_have_count(1)
    page.reload()
    expect(legend).to_have_count(3)
    expect(page.get_by_role("img", name=re.compile("^One chart of"))).to_be_visible()
    page.locator(".together").get_by_role("button", name="Remove shop.orders").click()
    expect(page).not_to_have_url(re.compile("1010"))
    page.get_by_role("button", name="stacked").click()
    expect(page.locator(".together")).to_have_count(0)
    assert page.complaints == []  # type: ignore[attr-defined]


def test_a_drag_over_the_one_chart_zooms(serve: Serve, visit: Open) -> None:
    page = visit(serve(), "/explore?series=1001&series=1010&chart=one")
    box = page.locator(".u-over").bounding_box()
    assert box is not None
    before = page.locator(".last").first.inner_text()
    page.mouse.move(box["x"] + box["width"] * 0.72, box["y"] + 40)
    expect(page.locator(".last").first).not_to_have_text(before)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + 40, steps=4)
    page.mouse.up()
    expect(page).to_have_url(re.compile(r"chart=one.*from=.*&to="))


def test_interpolated_points_are_told_from_measured_ones(serve: Serve, visit: Open) -> None:
    server = serve()
    page = visit(server, "/explore?series=1010")
    expect(page.locator(".grain")).to_have_text("measured every 5m")
    with page.expect_request(re.compile("step=60")):
        page.get_by_role("group", name="Time between points").get_by_role("button", name="1m").click()
    expect(page).to_have_url(re.compile("step=1m"))
    expect(page.locator(".grain")).to_have_text(re.compile(r"measured every 5m · 4\d of 5\d|6\d points interpolated"))
    box = page.locator(".u-over").bounding_box()
    assert box is not None
    said = set()
    for place in range(40, 60):
        page.mouse.move(box["x"] + box["width"] * place / 100, box["y"] + 40)
        said.add(page.locator(".chart-value").inner_text())
    between = {text for text in said if "interpolated, not measured" in text}
    assert between
    assert any(re.search(r" · measured\b", text) for text in said - between)


def test_means_are_not_passed_off_as_measurements(serve: Serve, visit: Open) -> None:
    page = visit(serve(), "/explore?series=1001&range=24h")
    expect(page.locator(".grain")).to_have_text("means of minutes")
