"""A browser and a server for the console's tests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import build_console
import pytest
from fake_api import TOKEN, FakeServer
from playwright.sync_api import Browser, BrowserContext, Error, Page, expect, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
expect.set_options(timeout=20_000)  # two cores, shared with other tests
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]


@pytest.fixture(scope="session")
def static() -> Path:
    """The built console, built now when it is older than its sources."""
    build_console.build(ROOT)
    return ROOT / "src" / "ninefold" / "web" / "static"


# For a module and not for the session: while it runs, Playwright's loop would be in the way of other tests' own.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """CHROMIUM, else this machine's Chromium or Chrome, else Playwright's own, else the tests are skipped."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    with sync_playwright() as playwright:
        try:
            started = playwright.chromium.launch(executable_path=path, args=FLAGS)
        except Error as error:
            reason = str(error).strip().splitlines()[0]
            pytest.skip(f"no browser: install Chromium, name one in CHROMIUM, or run `playwright install chromium` ({reason})")
        yield started
        started.close()


Serve = Callable[..., FakeServer]
Open = Callable[..., Page]


@pytest.fixture
def serve(static: Path) -> Iterator[Serve]:
    """Start fake servers, which end with the test."""
    running: list[FakeServer] = []

    def start(**options: object) -> FakeServer:
        running.append(FakeServer(static, **options).start())  # type: ignore[arg-type]
        return running[-1]

    yield start
    for server in running:
        server.stop()


@pytest.fixture
def server(serve: Serve) -> FakeServer:
    return serve()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Open]:
    """Open a page of a server, signed in; complaints of the page gather in `page.complaints`."""
    contexts: list[BrowserContext] = []

    def open_page(server: FakeServer, path: str = "/incidents", theme: str = "dark", width: int = 1440, signed_in: bool = True) -> Page:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)  # type: ignore[arg-type]
        contexts.append(context)
        if signed_in:
            context.add_cookies([{"name": "ninefold_session", "value": TOKEN, "url": server.url}])
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.complaints = []  # type: ignore[attr-defined]
        page.on("console", lambda said: page.complaints.append(said.text) if said.type in ("error", "warning") else None)  # type: ignore[attr-defined]
        page.on("pageerror", lambda error: page.complaints.append(str(error)))  # type: ignore[attr-defined]
        page.goto(server.url + path)
        return page

    yield open_page
    for context in contexts:
        context.close()
