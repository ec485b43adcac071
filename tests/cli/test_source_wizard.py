"""`ninefold source`: the wizard tries what it is given, proposes the rest, and writes YAML that the program reads back."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import Field, SecretStr
from typer.testing import CliRunner, Result

from ninefold.cli import sources
from ninefold.config import load
from ninefold.ground.clock import SECOND
from ninefold.ground.errors import BadData, ConfigError, Unavailable
from ninefold.model.signal import batch_of
from ninefold.plugin import Reached, Source, Strict, plugins
from ninefold.sources.reading import raw_batch
from ninefold.stewardship import trying


class Shop(Source):
    """Asks a shop."""

    kind, title, extraction, signals = "shop", "A shop", "poll", frozenset(("event",))

    class Config(Strict):
        """Where the shop is."""

        url: str = Field(description="Its address.")
        password: SecretStr = Field(SecretStr(""), description="Opens it.")
        interval_s: float = Field(60.0, gt=0, description="How often to ask.")
        tags: list[str] = Field(default_factory=list, description="Only these.")

    async def check(self) -> Reached:
        """Shows two orders when the password is right."""
        if self.config.password.get_secret_value() != "sesame":
            raise Unavailable("the shop is closed")
        rows = [orjson.dumps({"subject": "late", "priority": "high"})] * 2
        events = [{"time": 20 * i * SECOND, "title": "late"} for i in range(3)]
        return Reached("A shop with 2 orders.", [raw_batch("webhook:shop", "shop", 1, rows), batch_of("event", "shop", 1, events)])


@pytest.fixture(autouse=True)
def kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trying, "plugins", lambda group: {"shop": Shop})


def run(*words: str, **options: Any) -> Result:
    return CliRunner().invoke(sources.app, list(words), **options)


GIVEN = ("--set", "url=http://shop", "--set", "password=sesame")


def test_without_a_terminal_everything_comes_from_the_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run("add", "shop", "orders", *GIVEN, "--set", "tags=[a, b]")
    assert done.exit_code == 0, done.output
    assert "A shop with 2 orders." in done.stderr
    assert "Set the environment variable ORDERS_PASSWORD" in done.stderr
    assert "sesame" not in done.output
    part = yaml.safe_load(done.stdout)
    assert part == {
        "sources": {
            "orders": {"type": "shop", "url": "http://shop", "password": "${ORDERS_PASSWORD}", "tags": ["a", "b"], "interval_s": 10}
        },
        "webhooks": {"shop": {"kind": "alert", "fields": {"title": "subject", "severity": "priority"}}},
    }
    file = tmp_path / "ninefold.yaml"
    file.write_text(done.stdout)
    monkeypatch.setenv("ORDERS_PASSWORD", "sesame")
    assert load(file).sources["orders"]["password"] == "sesame"
    checked = run("check", "--config", str(file))
    assert json.loads(checked.stdout)[0] == {"name": "orders", "type": "shop", "state": "ok", "said": "A shop with 2 orders."}
    monkeypatch.setenv("ORDERS_PASSWORD", "wrong")
    checked = run("check", "orders", "--config", str(file))
    assert (checked.exit_code, json.loads(checked.stdout)[0]["said"]) == (1, "the shop is closed")


def test_a_source_is_added_to_a_file_with_its_comments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "sesame")
    file = tmp_path / "ninefold.yaml"
    file.write_text("# ours\nsources:\n    old: {type: shop, url: x}  # keep\n\nserver:\n  port: 0\n")
    done = run("add", "shop", "new", "--set", "url=y", "--set", "password=${SECRET}", "--config", str(file))
    assert done.exit_code == 0, done.output
    text = file.read_text()
    assert text.startswith("# ours\nsources:\n    old: {type: shop, url: x}  # keep\n    new:\n      type: shop\n")
    assert yaml.safe_load(text)["server"] == {"port": 0}
    assert load(file).sources["new"] == {"type": "shop", "url": "y", "password": "sesame", "interval_s": 10}
    with pytest.raises(ConfigError, match="there already"):
        run("add", "shop", "new", "--set", "url=y", "--set", "password=${SECRET}", "--config", str(file), catch_exceptions=False)


def test_what_does_not_work_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="closed"):
        run("add", "shop", "--set", "url=x", catch_exceptions=False)
    with pytest.raises(BadData, match="url is needed: Its address"):
        run("add", "shop", catch_exceptions=False)
    with pytest.raises(BadData, match="key=value"):
        run("add", "shop", "--set", "url", catch_exceptions=False)
    with pytest.raises(BadData, match="no kind"):
        run("add", catch_exceptions=False)
    unchecked = run("add", "shop", "--set", "url=x", "--no-check")
    assert yaml.safe_load(unchecked.stdout) == {"sources": {"shop": {"type": "shop", "url": "x"}}}


def test_on_a_terminal_it_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    answers = {"Kind": "shop", "Name": "orders", "Its address.": "http://shop", "Opens": "sesame", "How often": "30"}

    def answer(question: str, default: str = "", **_: Any) -> str:
        asked.append(question)
        return next((text for key, text in answers.items() if question.startswith(key)), default)

    monkeypatch.setattr(sources.sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sources.Prompt, "ask", answer)
    monkeypatch.setattr(sources.Confirm, "ask", lambda question, **_: "mapping" not in question)
    found_settings = sources._settings(Shop, [], ask=True)
    assert found_settings == {"url": "http://shop", "password": "sesame", "interval_s": 30}
    assert len(asked) == 4
    assert sources._kind(True) == "shop"
    found = sources._try("shop", "orders", found_settings, True)
    assert found is not None
    assert sources._take(found, found_settings, True) == {}


def test_a_proposed_mapping_keeps_the_kind_as_which_records_are_read() -> None:
    """A mapping without a kind would make alerts of them."""
    read = [({"message": "v2 is out"}, "webhook:deploys"), ({"message": "v2 is out"}, "webhook:shop"), ([1], "webhook:shop")]
    kinds = [trying._mapped([raw_batch(format_, "x", 1, [orjson.dumps(record)])])[2] for record, format_ in read]
    assert kinds == ["deployment", "alert", "alert"]
    assert trying._mapped([])[2] == ""


def test_a_real_database_is_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trying, "plugins", plugins)
    file = tmp_path / "shop.db"
    with sqlite3.connect(file) as shop:
        shop.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, placed TEXT, subject TEXT, level TEXT)")
        shop.execute("INSERT INTO orders VALUES (1, '2026-11-22 10:00:00', 'late', 'high'), (2, '2026-11-22 10:01:00', 'lost', 'high')")
    query = "SELECT * FROM orders WHERE id > :cursor ORDER BY id"
    done = run("add", "sql", "shop", f"--set=url=sqlite:///{file}", f"--set=query={query}",
               "--set=cursor=id", "--set=shape=events")  # fmt: skip
    assert done.exit_code == 0, done.output
    part = yaml.safe_load(done.stdout)
    assert part["sources"]["shop"] == {
        "type": "sql", "url": "${SHOP_URL}", "query": query, "cursor": "id", "shape": "events", "every_s": 30,
    }  # fmt: skip
    assert part["webhooks"]["shop"]["fields"] == {"title": "subject", "time": "placed", "severity": "level", "source_id": "id"}


NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)


@settings(max_examples=40, deadline=None)
@example({"b": {"type": "a", "url": "\x85"}}, "a", False)
@given(st.dictionaries(NAMES, st.fixed_dictionaries({"type": NAMES, "url": st.text(max_size=8)}), max_size=4), NAMES, st.booleans())
def test_adding_to_any_file_keeps_the_rest(entries: dict[str, Any], name: str, last: bool) -> None:
    sections = [{"sources": entries}, {"server": {"port": 1}}]
    text = "".join(trying.dump(section) for section in (sections if last else sections[::-1]))
    part = {"sources": {name: {"type": "x", "list": [1, {"a": "b"}]}}}
    if name in entries:
        with pytest.raises(ConfigError):
            trying.merged(text, part)
    else:
        assert yaml.safe_load(trying.merged(text, part)) == {"sources": {**entries, **part["sources"]}, "server": {"port": 1}}
