"""Secrets stay out of the book."""

from __future__ import annotations

from typing import ClassVar

from pydantic import SecretStr

from ninefold.connectors.http import Http
from ninefold.connectors.notify import Notify
from ninefold.plugin import Connector, Strict
from ninefold.workflows.mask import HIDDEN, Mask, secrets_of


class Foreign(Connector):
    """A plug-in whose author did not think of SecretStr."""

    kind: ClassVar[str] = "foreign"

    class Config(Strict):
        api_key: str
        region: str
        accounts: dict[str, dict[str, str]]


CONNECTORS: dict[str, Connector] = {
    "api": Http(Http.Config(base_url="https://a.example/", headers={"Authorization": SecretStr("Bearer abc-def-123")})),
    "team": Notify(Notify.Config(urls=(SecretStr("mailtos://bot:p%40ss-word@mail.example?to=x@example.org"),))),
    "far": Foreign(Foreign.Config(api_key="k3y-k3y", region="eu-west", accounts={"a": {"password": "hunter22", "name": "adam"}})),
}


def test_secrets_of_every_connector_are_found_and_nothing_else() -> None:
    found = secrets_of(CONNECTORS)
    assert {"Bearer abc-def-123", "abc-def-123", "p%40ss-word", "k3y-k3y", "hunter22"} <= found
    assert not {"eu-west", "adam", "https://a.example/"} & found


def test_values_keys_and_pieces_are_hidden_in_depth() -> None:
    mask = Mask(secrets_of(CONNECTORS))
    assert mask(
        {
            "error": "401 for abc-def-123 at https://x/?k=k3y-k3y",
            "headers": {"Set-Cookie": "a=b", "X-Api-Key": "zzz", "Accept": "text/plain"},
            "list": [{"password": "x"}, {"passed": "yes"}, 5, None, True],
            "token": "",
            "token_count": 3,
            "text": "hunter22hunter22",
        }
    ) == {
        "error": f"401 for {HIDDEN} at https://x/?k={HIDDEN}",
        "headers": {"Set-Cookie": HIDDEN, "X-Api-Key": HIDDEN, "Accept": "text/plain"},
        "list": [{"password": HIDDEN}, {"passed": "yes"}, 5, None, True],
        "token": "",
        "token_count": 3,
        "text": HIDDEN * 2,
    }


def test_the_longest_secret_wins_and_short_ones_do_not_maul_texts() -> None:
    assert Mask(["abcd", "abcdef"])("abcdef abcd") == f"{HIDDEN} {HIDDEN}"
    assert Mask(["a", ""])("a banana") == "a banana"
    assert Mask([])({"x": "y"}) == {"x": "y"}
    assert Mask(["a/b c&d"])("https://x/?q=a%2Fb%20c%26d") == f"https://x/?q={HIDDEN}"
