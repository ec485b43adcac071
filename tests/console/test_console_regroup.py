"""Merging, splitting and taking back on an incident's page; saying what the cause was."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from conftest import Open, Serve

pytestmark = pytest.mark.real


def test_incidents_are_merged_split_and_put_back(serve: Serve, visit: Open) -> None:
    server = serve()
    page = visit(server, "/incidents/INC-8140/alerts")
    merge = page.get_by_role("form", name="Merge")
    merge.get_by_label("Why the same").fill("one outage")
    merge.get_by_role("button", name="Merge into INC-8140").click()
    expect(page.get_by_text("Merged into INC-8140.")).to_be_visible()
    page.get_by_role("button", name="Split alerts out").click()
    split = page.get_by_role("form", name="Split")
    split.get_by_role("checkbox").first.check()
    split.get_by_role("button", name="Split out of INC-8140").click()
    expect(page.get_by_text("Split out of INC-8140.")).to_be_visible()
    done = page.get_by_role("list", name="Merges and splits")
    expect(done).to_contain_text("INC-41 merged into INC-42 by ops")
    with page.expect_response(re.compile("/regroupings/3/undo$")):
        done.get_by_role("button", name="Undo").click()
    (into, merged), (_, gone), (back, _) = server.posted
    assert into.endswith("incidents/INC-8140/merge")
    assert (merged["note"], re.fullmatch(r"INC-\d+", merged["incidents"][0]) is not None) == ("one outage", True)
    assert len(gone["alerts"]) == 1
    assert back.endswith("regroupings/3/undo")
    assert page.complaints == []  # type: ignore[attr-defined]


def test_a_wrong_cause_asks_which_it_was(serve: Serve, visit: Open) -> None:
    server = serve()
    page = visit(server, "/incidents/INC-8140")
    page.get_by_role("button", name="Wrong cause").click()
    page.get_by_label("What was the cause?").fill("service:shop/db")
    page.get_by_role("button", name="It was this").click()
    expect(page.get_by_text("Noted: it was service:shop/db.")).to_be_visible()
    assert [body["entity"] for _, body in server.posted if "entity" in body] == ["service:shop/db"]


def test_viewers_see_merges_and_change_nothing(serve: Serve, visit: Open) -> None:
    page = visit(serve(role="viewer"), "/incidents/INC-8140/alerts")
    done = page.get_by_role("list", name="Merges and splits")
    expect(done.get_by_role("button", name="Undo")).to_be_disabled()
    expect(page.get_by_role("form", name="Merge")).to_have_count(0)
