"""The console in a real browser: it loads quietly, works by keyboard, lives, comes back, and everybody can read it."""

from __future__ import annotations

import gzip
import re
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from fake_api import TOKEN, FakeServer
from playwright.sync_api import Page, Route, expect

from conftest import ROOT, Open, Serve

pytestmark = pytest.mark.real
PAGES = {
    "/incidents": "Incidents",
    "/incidents/INC-8140": "INC-8140",
    "/incidents/INC-8139": "INC-8139",
    "/incidents/INC-8140/timeline": "INC-8140",
    "/incidents/INC-8140/alerts": "INC-8140",
    "/incidents/INC-8140/why": "INC-8140",
    "/alerts?state=all&selected=00000000000000c2": "Alerts",
    "/mutes?selected=8f8b0a52-43c5-4b8e-9b6e-0d6c9e1f0a01": "Mutes",
    "/on-call": "On-call",
    "/on-call/pages": "On-call",
    "/explore?series=1001&series=1005&range=6h": "Explore",
    "/explore?series=1009": "Explore",
    "/explore?series=1001&series=1010&series=1004&chart=one&step=1m": "Explore",
    "/workflows": "Workflows",
    "/workflows/roll-back-deploy": "roll-back-deploy",
    "/runs/88": "Run 88",
    "/sources": "Sources",
    "/sources?connect=mqtt": "Sources",
    "/sources/deploys": "deploys",
    "/sources/deploys/watch": "deploys",
    "/sources/deploys/models": "deploys",
    "/sources/deploys/mapping": "deploys",
    "/sources/billing.csv": "billing.csv",
    "/sources/billing.csv/models": "billing.csv",
    "/sources/billing.csv/watch": "billing.csv",
    "/sources/billing.csv/mapping": "billing.csv",
    "/query": "Query",
    "/roadmap/4": "Roadmap",
    "/nowhere": "Not found",
    "/anomalies?selected=00000000000000aa": "Anomalies",
    "/anomalies/regression?target=1001&driver=1010&method=recursive&selected=0123456789ab": "Anomalies",
    "/anomalies/learned": "Anomalies",
    "/explore?series=1001&ahead=1&shifts=1&behaviour=1": "Explore",
}
STEPS = [
    "Identify use cases", "Agree on systems of record", "Define success criteria", "Evaluate data models", "Analyse workflows",
    "Begin automation", "Develop analytical workflows", "Adopt new skills", "Customise techniques",
]  # fmt: skip


def settled(page: Page) -> Page:
    """The page once it is live and shows its data."""
    expect(page.get_by_role("status", name="live")).to_be_visible()
    expect(page.locator(".waiting")).to_have_count(0)
    return page


def quiet(page: Page) -> Page:
    """The page once it asks for nothing more."""
    settled(page).wait_for_load_state("networkidle")
    return page


@pytest.mark.parametrize(("path", "title"), PAGES.items())
def test_every_page_loads_without_a_complaint_and_asks_nobody_else(server: FakeServer, visit: Open, path: str, title: str) -> None:
    page = visit(server, "/licenses.txt")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(server.url + path)
    quiet(page)
    expect(page.locator("h1")).to_contain_text(title)
    assert page.complaints == []
    assert {urlsplit(url).netloc for url in asked} == {urlsplit(server.url).netloc}


def test_an_address_that_is_badly_written_is_not_a_white_page(server: FakeServer, visit: Open) -> None:
    page = visit(server, "/incidents/50%")
    expect(page.locator(".shell")).to_be_visible()
    expect(page.locator("h1")).to_be_visible()


def test_every_page_names_the_nine_steps_in_order(server: FakeServer, visit: Open) -> None:
    page = visit(server)
    for path in PAGES:
        page.goto(server.url + path)
        expect(page.locator(".nine a .cut")).to_have_text(STEPS)
    settled(page)
    states = page.locator(".nine a .hidden").all_text_contents()
    assert [number for number, state in enumerate(states, 1) if state == "not measured yet"] == [5, 8]
    hrefs = {link.get_attribute("href") for link in page.locator(".shell a").all()}
    for href in sorted(href for href in hrefs if href):
        page.goto(server.url + href)
        expect(page.locator("h1")).not_to_contain_text("Not found")


def test_a_link_with_a_token_signs_in_once_and_forgets_it(server: FakeServer, visit: Open) -> None:
    page = visit(server, f"/sources#token={TOKEN}", signed_in=False)
    expect(page.locator("h1")).to_have_text("Sources")
    assert page.url == f"{server.url}/sources"
    assert not any(TOKEN in url for url in server.requests)
    page.reload()
    expect(page.locator("h1")).to_have_text("Sources")


def test_sign_in_by_hand_and_sign_out(server: FakeServer, visit: Open) -> None:
    page = visit(server, "/roadmap", signed_in=False)
    page.get_by_label("Token").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("The token is not known, was revoked, or may not read.")
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("h1")).to_have_text("Roadmap")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Token")).to_be_visible()


def test_a_session_that_ends_leads_to_sign_in(server: FakeServer, visit: Open) -> None:
    page = settled(visit(server))
    page.context.clear_cookies()
    page.keyboard.press("g")
    page.keyboard.press("s")
    expect(page.get_by_label("Token")).to_be_visible()


def test_the_keyboard_reaches_everything(server: FakeServer, visit: Open) -> None:
    page = settled(visit(server))
    selected = page.locator(".grid-row.selected")
    expect(selected).to_contain_text("INC-8140")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    second = page.locator(".grid-row").nth(1).locator(".id").inner_text()
    expect(selected).to_contain_text(second)
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{server.url}/incidents/{second}")
    places = (
        ("o", "On-call"),
        ("e", "Explore"),
        ("w", "Workflows"),
        ("s", "Sources"),
        ("q", "Query"),
        ("r", "Roadmap"),
        ("i", "Incidents"),
    )
    for key, title in places:
        page.keyboard.press("g")
        page.keyboard.press(key)
        expect(page.locator("h1")).to_have_text(title)
    page.keyboard.press("/")
    page.keyboard.type("leak")
    expect(page).to_have_url(re.compile("q=leak"))
    expect(page.locator(".grid-row").first).to_contain_text("memory leak")
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("t")
    assert page.evaluate("document.documentElement.dataset.theme") == "light"


def test_the_palette_finds_places_actions_and_incidents(server: FakeServer, visit: Open) -> None:
    page = settled(visit(server))
    page.keyboard.press("Control+k")
    page.keyboard.type("go to sou")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("Sources")
    page.keyboard.press("Control+k")
    page.keyboard.type("INC-8131")
    page.get_by_role("option", name=re.compile("INC-8131")).click()
    expect(page).to_have_url(f"{server.url}/incidents/INC-8131")
    page.keyboard.press("Control+k")
    page.keyboard.type("consumer lag")
    page.get_by_role("option", name=re.compile("kafka.consumer.lag")).click()
    expect(page).to_have_url(f"{server.url}/explore?series=1006")


def test_acknowledge_by_key_and_by_button(server: FakeServer, visit: Open) -> None:
    page = settled(visit(server, "/incidents?selected=INC-8139"))
    expect(page.locator(".pane-head")).to_contain_text("INC-8139")
    page.keyboard.press("a")
    expect(page.locator(".pane-head .badge")).to_have_text("acknowledged")
    expect(page.locator(".grid-row", has_text="INC-8139")).to_have_count(0)
    page.keyboard.press("j")
    expect(page.locator(".pane-head")).not_to_contain_text("INC-8139")
    page.get_by_role("button", name="Acknowledge").click()
    expect(page.locator(".pane-head .badge")).to_have_text("acknowledged")
    assert [path for path, _ in server.posted] == [
        "/api/v1/incidents/INC-8139/acknowledge",
        f"/api/v1/incidents/{page.locator('.pane-head .id').inner_text()}/acknowledge",
    ]


def test_resolve_assign_verdict_and_run(server: FakeServer, visit: Open) -> None:
    page = settled(visit(server, "/incidents/INC-8139"))
    page.keyboard.press("o")
    page.get_by_label("Owner").fill("A. Okafor")
    page.keyboard.press("Enter")
    expect(page.locator(".facts")).to_contain_text("owner A. Okafor")
    page.get_by_role("button", name="Wrong cause").click()
    expect(page.get_by_role("button", name="Wrong cause", pressed=True)).to_be_visible()
    expect(page.get_by_role("status").filter(has_text="wrong cause")).to_be_visible()
    page.keyboard.press("w")
    page.get_by_role("button", name=re.compile("open-a-ticket")).click()
    expect(page.locator(".run").first).to_contain_text("open-a-ticket")
    page.keyboard.press("r")
    page.get_by_label(re.compile("What fixed it")).fill("restarted it")
    page.get_by_role("dialog").get_by_role("button", name="Resolve").click()
    expect(page.locator(".facts .badge")).to_have_text("resolved")
    sent = dict(server.posted)
    assert sent["/api/v1/incidents/INC-8139/assign"]["owner"] == "A. Okafor"
    assert sent["/api/v1/incidents/INC-8139/verdict"]["verdict"] == "wrong_cause"
    assert sent["/api/v1/incidents/INC-8139/resolve"]["note"] == "restarted it"
    assert sent["/api/v1/workflows/open-a-ticket/run"] == {"incident": "INC-8139"}


@pytest.mark.parametrize(("button", "decision", "status"), [("Approve", "approve", "succeeded"), ("Reject", "reject", "rejected")])
def test_an_approval_is_answered_with_a_note(server: FakeServer, visit: Open, button: str, decision: str, status: str) -> None:
    page = settled(visit(server, "/workflows"))
    card = page.get_by_role("article", name="Approval for undo of roll-back-deploy")
    card.get_by_label("Note").fill("seen on call")
    card.get_by_role("button", name=button).click()
    expect(card).to_have_count(0)
    expect(page.locator("tr", has_text="#88")).to_contain_text(status)
    assert server.posted == [("/api/v1/approvals/5", {"decision": decision, "note": "seen on call"})]


def test_what_a_step_will_send_can_be_read_before_approving(server: FakeServer, visit: Open) -> None:
    page = settled(visit(server, "/incidents/INC-8140"))
    page.get_by_text("sends").click()
    expect(page.get_by_label("What will be sent")).to_contain_text('"to_revision": 41')


def test_the_global_stop_holds_and_lets_go(server: FakeServer, visit: Open) -> None:
    page = settled(visit(server, "/workflows"))
    page.get_by_role("button", name="Stop all automation").click()
    expect(page.get_by_text("no further step begins: stopped by ops")).to_be_visible()
    page.get_by_role("button", name="Let automation go on").click()
    expect(page.get_by_role("button", name="Stop all automation")).to_be_visible()


def test_who_may_only_read_sees_but_cannot_act(serve: Serve, visit: Open) -> None:
    page = settled(visit(serve(role="viewer"), "/incidents/INC-8140"))
    for name in ("Acknowledge", "Run workflow", "Approve", "Reject", "Resolve", "Useful"):
        expect(page.get_by_role("button", name=name)).to_be_disabled()


def test_a_change_appears_without_reload(server: FakeServer, visit: Open) -> None:
    page = settled(visit(server))
    expect(page.locator(".figures")).to_contain_text("35")
    new = server.incidents[0] | {"id": "INC-9001", "title": "queue of orders stands still", "needs": "acknowledge"}
    begun = time.monotonic()
    server.incidents.insert(0, new)
    server.push("incident")
    expect(page.locator(".grid-row", has_text="INC-9001")).to_be_visible()
    assert time.monotonic() - begun < 1.5
    expect(page.locator(".figures")).to_contain_text("36")
    expect(page.locator(".grid-row.selected")).to_contain_text("INC-8140")


def test_eight_tabs_live_at_once(server: FakeServer, visit: Open) -> None:
    first = settled(visit(server))
    pages = [first, *(first.context.new_page() for _ in range(7))]
    for page in pages[1:]:
        page.goto(f"{server.url}/incidents")
    for page in pages:
        settled(page)
    server.incidents[0]["title"] = "seen in every tab"
    server.push("incident")
    for page in pages:
        expect(page.locator(".grid-row").first).to_contain_text("seen in every tab")


def test_it_comes_back_after_a_restart_with_fresh_data(server: FakeServer, visit: Open) -> None:
    page = settled(visit(server))
    server.stop()
    expect(page.get_by_role("status", name="reconnecting")).to_be_visible()
    expect(page.locator(".grid-row").first).to_be_visible()
    server.incidents[0]["title"] = "changed while the server was away"
    server.start()
    expect(page.get_by_role("status", name="live")).to_be_visible(timeout=20_000)
    expect(page.locator(".grid-row").first).to_contain_text("changed while the server was away")


def test_two_thousand_incidents_show_at_once_and_scroll_to_the_last(serve: Serve, visit: Open) -> None:
    server = serve(incidents=2000)
    times_ms = []
    for _ in range(3):  # the best of three: other work on the machine is not what is measured
        page = visit(server, "/licenses.txt")
        page.goto(f"{server.url}/incidents?status=all", wait_until="commit")
        page.wait_for_selector(".grid-row")
        times_ms.append(page.evaluate("performance.now()"))
    assert min(times_ms) <= 10_000  # a hang fails; the goal of one second is told, for a test run must not fail on a busy machine
    print(f"first table after {min(times_ms):.0f} ms (goal 1,000)")
    assert page.locator(".grid-row").count() < 60
    body = page.locator(".grid-body")
    last = page.locator('.grid-row[aria-rowindex="2001"]')
    deadline = time.monotonic() + 20
    while not last.count():
        assert time.monotonic() < deadline, "the last incident did not appear"
        body.evaluate("box => box.scrollTop = box.scrollHeight")
        page.wait_for_timeout(50)


def test_a_problem_is_told_as_a_sentence(server: FakeServer, visit: Open) -> None:
    page = settled(visit(server, "/query"))
    page.get_by_label("SQL").fill("select * from nowhere")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("alert")).to_contain_text("The table 'nowhere' does not exist; choose one of metric, series")
    page.get_by_label("SQL").fill("select 1")
    page.get_by_role("button", name="Run").click()
    expect(page.locator(".query-result tbody tr")).to_have_count(40)
    page.goto(f"{server.url}/incidents/INC-1")
    expect(page.get_by_role("alert")).to_contain_text("There is no incident INC-1.")


def test_a_brush_zooms_and_goes_into_the_address(server: FakeServer, visit: Open) -> None:
    page = settled(visit(server, "/explore?range=6h"))
    page.get_by_label("Search a series").fill("checkout duration")
    page.keyboard.press("Enter")
    box = page.locator(".u-over").bounding_box()
    assert box is not None
    expect(page.locator(".chart-box")).to_have_attribute("aria-label", re.compile("left its expected band"))
    page.mouse.move(box["x"] + 100, box["y"] + 40)
    expect(page.locator(".chart-value")).to_contain_text("expected")
    page.mouse.down()
    page.mouse.move(box["x"] + 300, box["y"] + 40, steps=5)
    page.mouse.up()
    expect(page).to_have_url(re.compile(r"from=.*&to="))
    page.get_by_role("button", name="Reset zoom").click()
    expect(page).not_to_have_url(re.compile("from="))


def test_quarantine_is_read_and_replayed(server: FakeServer, visit: Open) -> None:
    page = settled(visit(server, "/sources"))
    page.get_by_role("link", name="41").click()
    expect(page.locator(".quarantine li")).to_have_count(2)
    page.locator(".quarantine summary").first.click()
    expect(page.get_by_label("The record as it came").first).to_contain_text("failed for lonvick")
    page.get_by_role("button", name="Replay all of syslog").click()
    expect(page.locator(".quarantine .badge.good")).to_have_count(1)
    assert server.posted == [("/api/v1/quarantine/replay", {"source": "syslog"})]


def test_an_empty_program_says_what_to_do(serve: Serve, visit: Open) -> None:
    server = serve(incidents=0)
    for path in ("/incidents", "/sources"):
        page = settled(visit(server, path))
        expect(page.get_by_label(re.compile("^curl"))).to_contain_text(f"curl {server.url}/api/v2/alerts")
        assert page.complaints == []
    for tool, words in {
        "Prometheus": "remote_write",
        "Alertmanager": "/webhook/alertmanager",
        "OpenTelemetry SDK": "OTEL_EXPORTER",
        "rsyslog": "omfwd",
    }.items():
        page.get_by_role("button", name=tool).click()
        expect(page.locator(".copyable pre")).to_contain_text(words)
    for path, words in {"/workflows": "No workflow yet", "/explore": "No metric has arrived yet", "/roadmap": "0 of 9 steps"}.items():
        expect(settled(visit(server, path)).locator("main")).to_contain_text(words)


def violations(page: Page) -> list[str]:
    """What axe-core finds against it, one line each: everything in the dark theme, then what another theme changes."""
    page.evaluate((ROOT / "console" / "node_modules" / "axe-core" / "axe.min.js").read_text())
    found = []
    for theme, rules in (("dark", ""), ("light", ", runOnly: {type: 'rule', values: ['color-contrast']}")):
        page.emulate_media(color_scheme=theme, reduced_motion="reduce")  # type: ignore[arg-type]
        result: dict[str, Any] = page.evaluate(f"axe.run(document, {{resultTypes: ['violations']{rules}}})")
        found += [f"{theme} {each['id']}: {node['html'][:160]}" for each in result["violations"] for node in each["nodes"]]
    page.emulate_media(color_scheme="dark")
    return found


def test_everybody_can_read_every_page(serve: Serve, visit: Open) -> None:
    server, empty, found = serve(), serve(incidents=0), []
    for server_, paths in ((empty, ("/incidents", "/explore", "/sources", "/workflows", "/roadmap")), (server, (*PAGES, "/incidents"))):
        page = visit(server_, "/licenses.txt")
        for path in paths:
            page.goto(server_.url + path)
            found += [f"{path} {line}" for line in violations(quiet(page))]
    for key, what in (("Control+k", "palette"), ("?", "help"), ("w", "run"), ("r", "resolve"), ("c", "connect")):
        if what == "connect":
            page.goto(f"{server.url}/sources")
            settled(page)
        page.keyboard.press(key)
        page.get_by_role("dialog").wait_for()
        found += [f"{what} {line}" for line in violations(quiet(page))]
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)
    found += [f"login {line}" for line in violations(visit(server, "/login", signed_in=False))]
    assert found == []


def test_keys_typed_before_a_page_is_there_are_pressed_when_it_is(server: FakeServer, visit: Open) -> None:
    page = settled(visit(server, "/login"))
    waiting: list[Route] = []

    def hold(route: Route) -> None:
        waiting.append(route)

    page.route("**/anomalies-*.js", hold)
    page.reload()
    expect(page.locator("h1")).to_have_text("Incidents")
    for key in "ga2":
        page.keyboard.press(key)
    expect(page.locator("h1")).to_have_text("Anomalies")
    expect(page).to_have_url(re.compile("/anomalies$"))
    for route in waiting:
        route.continue_()
    expect(page).to_have_url(re.compile("/anomalies/forecasts$"))


def test_a_page_whose_file_is_gone_loads_the_console_again_once(server: FakeServer, visit: Open) -> None:
    page = settled(visit(server))
    page.route("**/anomalies-*.js", lambda route: route.fulfill(body="<html>", content_type="text/html"))
    loads: list[str] = []
    page.on("load", lambda _: loads.append(page.url))
    page.goto(f"{server.url}/anomalies")
    expect(page.get_by_role("alert")).to_contain_text("This page could not be loaded")
    assert len(loads) == 2
    page.unroute("**/anomalies-*.js")
    page.get_by_role("link", name="Query").click()
    expect(page.locator("h1")).to_have_text("Query")


def test_the_bundle_stays_small(static: Path) -> None:
    index = (static / "index.html").read_text()
    first = set(re.findall(r'(?:src|href)="/([\w.-]+\.js)"', index))
    imported = {name for file in first for name in re.findall(r'(?:from|import)"\./([\w.-]+\.js)"', (static / file).read_text())}
    assert imported <= first, "what the first page needs is fetched at once"
    assert sum(len(gzip.compress((static / file).read_bytes())) for file in first) <= 55_000
    assert len(list(static.glob("*.js"))) > len(first) + 5, "other pages come later"
    assert not re.search(r"<script>|style=", index)
