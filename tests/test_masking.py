"""Secrets and personal data leave log lines before anything is kept: the store's rows, quarantine, templates, findings."""

from __future__ import annotations

import random
import re
import string
import time
from typing import Any

import pyarrow as pa
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ninefold.analytics.logs import masking
from ninefold.analytics.logs.masking import SECRET, Masking, is_card, is_iban
from ninefold.analytics.logs.mining import LogTemplates
from ninefold.config import parse
from ninefold.ground.clock import MINUTE, SECOND
from ninefold.ground.errors import ConfigError
from ninefold.model.signal import Batch, batch_of
from ninefold.normalise import Normaliser

START = 1_700_000_000 * SECOND // MINUTE * MINUTE
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("line", "masked"),
    [
        ("login user=bob password=hunter2 ok", "login user=bob password=<secret> ok"),
        ('{"user":"bob","password":"hun\\"ter2","n":1}', '{"user":"bob","password":"<secret>","n":1}'),
        (r'msg="{\"password\":\"hunter2\",\"n\":1}"', r'msg="{\"password\":\"<secret>\",\"n\":1}"'),
        ("DB_PASSWORD='a b' next", "DB_PASSWORD='<secret>' next"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer <secret>"),
        ('curl -H "authorization: Basic dXNlcjpwYXNz" x', 'curl -H "authorization: Basic <secret>" x'),
        ("sent Bearer 9f8e7d6c5b4a today", "sent Bearer <secret> today"),
        ("Set-Cookie: sid=abc; Path=/", "Set-Cookie: <secret>"),
        ("postgres://bob:hunter2@db/x", "postgres://bob:<secret>@db/x"),
        ("got eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc here", "got <secret> here"),
        ("key AKIAIOSFODNN7EXAMPLE used", "key <secret> used"),
        (f"loaded {PEM} twice", "loaded <secret> twice"),
        ("mysql --password hunter2 -h x", "mysql --password <secret> -h x"),
        ("CREATE USER x IDENTIFIED BY 'hunter2'", "CREATE USER x IDENTIFIED BY '<secret>'"),
        ("X-Api-Key: 12345", "X-Api-Key: <secret>"),
        ("db_pwd=abc", "db_pwd=<secret>"),
        ("mail a.b@example.com now", "mail <email> now"),
        ("card 4111 1111 1111 1111, 5500-0055-5555-5559", "card <card>, <card>"),
        ("to DE89 3704 0044 0532 0130 00 today", "to <iban> today"),
        ("from 10.0.0.1 and fe80::1:2", "from <ip> and <ip>"),
        # what is none of it stays
        ("Failed password for root ssh2", "Failed password for root ssh2"),
        ("sudo: bob : PWD=/home/bob ; USER=root", "sudo: bob : PWD=/home/bob ; USER=root"),
        ("total_tokens=512, Unexpected token: }", "total_tokens=512, Unexpected token: }"),
        ("card 4111 1111 1111 1112, at 1700000000000000000", "card 4111 1111 1111 1112, at 1700000000000000000"),
        ("block blk_-4111111111111111 password=", "block blk_-4111111111111111 password="),
    ],
)
def test_lines_are_masked_and_a_second_time_to_themselves(line: str, masked: str) -> None:
    mask = Masking("personal", addresses=True)
    assert mask.text(line) == masked
    assert mask.texts(pa.array(["plain", line])).to_pylist() == ["plain", masked], "the hint finds what the rules would"
    assert mask.text(masked) == masked


WORD = st.text(string.ascii_letters + string.digits, min_size=10, max_size=20).map(lambda word: f"q7{word}Z")
SHAPES = st.sampled_from(
    [
        "login password={} ok", '{{"token": "{}"}}', "api_key: {}", "Authorization: Bearer {}", "client-secret='{}'", "x://u:{}@h/p",
        "Cookie: a={}", "run --token {} now", "PASSWORD={}, user=bob", "auth ghp_{}abcdefghijklmnopqrstuvwxyz done", "pass={}",
    ]
)  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(SHAPES, WORD), min_size=1, max_size=5), st.integers(0, 2))
def test_nothing_of_a_secret_remains_anywhere(found: list[tuple[str, str]], impossible: int) -> None:
    rows: list[dict[str, Any]] = []
    for i, (shape, secret) in enumerate(found):
        line = shape.format(secret)
        rows += [
            {"time": START + m * MINUTE + i, "entity": "service:a", "body": f"ERROR {line} {m}", "severity_number": 17,
             "attributes": {"http.request.header.authorization": secret, "note": line}, "resource": {"db.password": secret}}
            for m in (0, 15, 16, 17, 30)
        ]  # fmt: skip
    rows += [rows[0] | {"time": 5}] * impossible
    rows.sort(key=lambda row: row["time"])
    normal = Normaliser({}).normalise(batch_of("log", "test", START + 40 * MINUTE, rows))
    technique = LogTemplates()
    outputs = [output for batch in normal if batch.signal == "log" for output in technique.process(batch)]
    outputs += technique.process(batch_of("metric", "test", START + 90 * MINUTE, [{"series": 1, "time": START, "value": 1.0}]))
    kept = [str(batch.rows.to_pylist()) for batch in [*normal, *outputs]]
    kept += [str(technique.templates()), technique.snapshot().decode("latin1")]
    kept += [str(technique.template(row["id"])) for row in technique.templates()[0]]
    for _, secret in found:
        assert not any(secret in text for text in kept)
    assert sum(batch.rows.num_rows for batch in normal if batch.signal == "log") == len(rows) - impossible


def test_attributes_are_masked_by_name_in_slices_too() -> None:
    rows = [{"time": START, "body": "x", "attributes": {"n": str(i), "api_key": f"k{i}", "empty.token": ""}} for i in range(6)]
    batch = batch_of("log", "test", START, rows)
    masked = Masking()(batch.rows.slice(2, 3))
    assert masked.column("attributes").to_pylist() == [
        [("n", str(i)), ("api_key", SECRET), ("empty.token", "")] for i in range(2, 5)
    ]  # fmt: skip
    plain: Batch = batch_of("log", "test", START, [{"time": START, "body": "x", "attributes": {"n": "1"}}])
    assert Masking()(plain.rows) is plain.rows


def test_levels_and_own_patterns() -> None:
    line = "password=x1 a@b.example 10.0.0.1 ssn 123-45-6789 badge=77"
    assert Masking("off", patterns=["badge"]).text(line) == line
    assert Masking("secrets").text(line) == line.replace("x1", SECRET)
    assert Masking("personal").text(line) == line.replace("x1", SECRET).replace("a@b.example", "<email>")
    own = Masking("secrets", patterns=[r"\b\d{3}-\d\d-\d{4}\b", r"badge=(?P<secret>\d+)(?!x)"])
    assert own.text(line).endswith(f"ssn {SECRET} badge={SECRET}")
    assert own.texts(pa.array(["badge=5", "none"])).to_pylist() == [f"badge={SECRET}", "none"], "look-ahead is beyond RE2"


def test_the_configuration_is_checked() -> None:
    assert parse(yaml.safe_load("logs: {mask: off}")).logs.mask == "off"
    with pytest.raises(ConfigError, match="no regular expression"):
        parse({"logs": {"mask_patterns": ["("]}})


def test_check_digits() -> None:
    assert is_card("378282246310005")
    assert not is_card("378282246310006")
    assert is_iban("GB82WEST12345698765432")
    assert not is_iban("GB82WEST12345698765433")


@pytest.mark.parametrize(
    "unit", ["password", 'password="', "a@", "4111 ", "AB12", "eyJ", "://a:", "token: ", "Bearer 1", '\\"', "1:", "cookie="]
)
def test_no_line_is_slow(unit: str) -> None:
    mask, line, best = Masking("personal", addresses=True), unit * (10_000 // len(unit)), 1.0
    for _ in range(3):
        started = time.thread_time()
        mask.text(line)
        best = min(best, time.thread_time() - started)
    assert best < 0.1


def test_every_exact_match_has_its_hint() -> None:
    rng = random.Random(5)
    pieces = "password|token|=|:| |\"|'|\\|--|api-key|Bearer |abc1|//|@|u|eyJabcdefgh|.|\n|Authorization|cookie|4111|1111|-|DE89|3704|0044|"
    pieces += "identified by |pwd|pass|/|AKIA|IOSFODNN7EXAMPLE"
    lines = ["".join(rng.choices(pieces.split("|"), k=rng.randint(1, 12))) for _ in range(6_000)]
    for hint, pattern, replace in (*masking._SECRETS, *masking._PERSONAL, masking._ADDRESS):
        for line in lines:
            if pattern.sub(replace, line) != line:
                assert re.search(hint, line), (hint, line)
