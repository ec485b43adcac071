"""Sketches are near the truth and survive a restart; secrets are masked; sampling does not depend on how rows are cut."""

from __future__ import annotations

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from operating import START, Operation

from ninefold.catalogue.masking import MASK, masked
from ninefold.catalogue.models import sampled, type_of
from ninefold.catalogue.sketch import Distinct, Spread
from ninefold.ground.clock import SECOND
from ninefold.model.signal import batch_of


@pytest.mark.parametrize("count", [0, 1, 128, 129, 1000, 50_000])
def test_distinct_is_exact_then_close(count: int) -> None:
    found = Distinct()
    for i in range(count):
        found.add(f"value {i}")
        found.add(f"value {i // 2}")
    assert len(found) == (count if found.exact else pytest.approx(count, rel=0.1))
    assert found.exact == (count <= 128)
    again = Distinct(**orjson.loads(orjson.dumps(found.state())))
    again.add("value 0")
    assert len(again) == max(len(found), 1)


def test_distinct_takes_hashes() -> None:
    found = Distinct()
    values = np.random.default_rng(1).integers(1, 2**63, 20_000).astype(np.uint64) << np.uint64(1)
    for part in np.split(values, 20):
        found.add_hashes(part)
        found.add_hashes(part)
    assert len(found) == pytest.approx(20_000, rel=0.1)


@given(st.lists(st.floats(0.001, 1e6), min_size=1, max_size=200), st.sampled_from([0.0, 0.5, 0.99]))
def test_quantiles_are_within_a_bucket(values: list[float], share: float) -> None:
    spread = Spread()
    for value in values:
        spread.add(value)
    exact = sorted(values)[max(0, int(np.ceil(share * len(values))) - 1)]
    assert spread.quantile(share) == pytest.approx(exact, rel=0.2)
    again = Spread.of(orjson.loads(orjson.dumps(spread, option=orjson.OPT_NON_STR_KEYS)))
    assert again == spread


def test_the_past_of_a_spread_fades() -> None:
    spread = Spread()
    for value in [15.0] * 5000 + [60.0] * 5000:
        spread.add(value)
    assert spread.quantile(0.5) == pytest.approx(60, rel=0.2)
    assert Spread().quantile(0.5) is None


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("attributes.password", "hunter2"), ("raw.auth.api_key", "abc"), ("http.request.header.cookie", "a=b"),
        ("body", "login with password=hunter2 done"), ("body", "Authorization: Bearer abcdefgh12345"), ("url", "http://bob:hunter2@db/x"),
        ("body", "eyJhbGciOiJIUzI1.eyJzdWIiOiIxMjM0.SflKxwRJSMeKKF2QT4"), ("body", "-----BEGIN PRIVATE KEY-----\nhunter2"),
    ],
)  # fmt: skip
def test_secrets_are_masked(name: str, text: str) -> None:
    shown = masked(name, text)
    assert MASK in shown
    assert not any(secret in shown for secret in ("hunter2", "abcdefgh12345", "SflKxw", "abc", "a=b"))


def test_what_is_no_secret_is_shown() -> None:
    assert masked("attributes.http.route", "/cart/{id}") == "/cart/{id}"
    assert masked("body", "x" * 100) == "x" * 80 + "…"


@given(st.integers(0, 200_000), st.integers(0, 3000), st.integers(0, 3000))
def test_samples_do_not_depend_on_cuts(before: int, first: int, second: int) -> None:
    whole = sampled(before, first + second)
    assert whole == sampled(before, first) + [first + place for place in sampled(before + first, second)]
    assert all(0 <= place < first + second for place in whole)


@pytest.mark.parametrize(
    ("value", "kind"),
    [(True, "boolean"), (1, "integer"), (1.5, "number"), ("12", "integer"), ("-1.5e3", "number"), ("true", "boolean"), ([], "list"),
     ({}, "object"), ("2026-11-22T10:00:00Z", "time"), ("2026", "integer"), ("10.0.0.1", "text"), ("", "text")],
)  # fmt: skip
def test_types(value: object, kind: str) -> None:
    assert type_of(value) == kind


def test_json_leaves_of_events_by_kind_and_format(operation: Operation) -> None:
    raw = {"labels": {"severity": "x", "list": [1, 2]}, "items": [{"a": 1}, {"a": None}], "none": None}
    row = {
        "id": "1", "time": START, "kind": "alert", "title": "t", "fingerprint": "f", "raw": orjson.dumps(raw).decode(),
        "attributes": {"ninefold.normaliser": "1 webhook:tool", "copied": "x"},
    }  # fmt: skip
    operation.watch.process(batch_of("event", "tool", START + SECOND, [row, {**row, "raw": "", "attributes": {"plain": "1"}}]))
    read, plain = operation.watch.models("tool")
    assert (plain["type"], read["type"]) == ("alert webhook:tool", "alert") or (read["type"], plain["type"]) == (
        "alert",
        "alert webhook:tool",
    )
    found = {model["type"]: {field["path"] for field in model["fields"]} for model in (read, plain)}
    assert found["alert webhook:tool"] == {"title", "raw.labels.severity", "raw.labels.list", "raw.items[].a"}
    assert found["alert"] == {"title", "attributes.plain"}


def test_a_source_of_countless_kinds_has_few_models(operation: Operation) -> None:
    rows = [{"id": str(i), "time": START, "kind": f"k{i}", "title": "t", "fingerprint": "f"} for i in range(64)]
    for window, some in enumerate((rows[:40], rows[40:], [{**rows[0], "kind": "another"}])):
        operation.watch.process(batch_of("event", "odd", START + window * 300 * SECOND, some))
    types = [model["type"] for model in operation.watch.models("odd")]
    assert len(types) == 65
    assert "other" in types


def test_what_is_quiet_for_longer_than_a_month_is_forgotten(operation: Operation) -> None:
    row = {"time": START, "body": "x"}
    watch = operation.watch
    watch.process(batch_of("log", "once", START, [row]))
    watch._silent(START + 39 * 86400 * SECOND)
    assert watch.sources() == ["once"], "a monthly export is one source"
    watch._silent(START + 41 * 86400 * SECOND)
    assert (watch.sources(), watch.models("once")) == ([], [])
