"""The notify connector: a real SMTP receiver gets the mail, and every failure is told."""

from __future__ import annotations

import asyncio
import email
import email.policy
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from ninefold.connectors.notify import Message, Notify
from ninefold.ground.errors import ConfigError, Refused, Unavailable


class Inbox:
    def __init__(self) -> None:
        self.mails: list[Envelope] = []
        self.answer = "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's name
        self.mails.append(envelope)
        return self.answer


@pytest.fixture
def inbox() -> Iterator[tuple[Inbox, int]]:
    handler = Inbox()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    controller = Controller(handler, hostname="127.0.0.1", port=port)
    controller.start()
    yield handler, port
    controller.stop()


def mail_url(port: int) -> str:
    return f"mailto://watch:s3cret-password@127.0.0.1:{port}?from=ninefold@example.org&to=oncall@example.org&mode=insecure"


def send(*urls: str, **message: Any) -> Any:
    connector = Notify(Notify.Config.model_validate({"urls": urls}))
    return asyncio.run(connector.send(Message.model_validate(message)))


def test_a_real_mail_arrives(inbox: tuple[Inbox, int]) -> None:
    handler, port = inbox
    url = mail_url(port).replace("watch:s3cret-password@", "")
    delivery = send(url, title="INC-1 checkout is slow", body="ts-order-service → 5xx\nsee INC-1", severity="failure")
    (mail,) = handler.mails
    parsed = email.message_from_bytes(mail.content or b"", policy=email.policy.default)
    assert mail.rcpt_tos == ["oncall@example.org"]
    assert parsed["Subject"] == "INC-1 checkout is slow"
    body = parsed.get_body(("plain", "html"))
    assert body is not None
    assert "ts-order-service → 5xx" in body.get_content()
    assert (delivery.delivered, len(delivery.services)) == (1, 1)
    assert delivery.elapsed_s > 0


def test_a_receiver_that_says_no_is_not_a_success(inbox: tuple[Inbox, int]) -> None:
    handler, port = inbox
    handler.answer = "550 no such mailbox"
    with pytest.raises(Unavailable, match="could not be delivered"):
        send(mail_url(port).replace("watch:s3cret-password@", ""), body="x")


def test_nobody_there_is_unavailable() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(Unavailable) as caught:
        send(mail_url(port), body="x")
    assert "s3cret" not in str(caught.value)


def test_reaching_only_some_is_told_and_not_to_be_repeated(inbox: tuple[Inbox, int]) -> None:
    handler, port = inbox
    with pytest.raises(Refused, match="reached 1 of 2 services"):
        send(mail_url(port).replace("watch:s3cret-password@", ""), "json://127.0.0.1:1/", body="x")
    assert len(handler.mails) == 1


def test_check_reads_the_addresses_without_sending(inbox: tuple[Inbox, int]) -> None:
    handler, port = inbox
    connector = Notify(Notify.Config.model_validate({"urls": [mail_url(port), "json://127.0.0.1/"]}))
    assert asyncio.run(connector.check()).startswith("2 addresses: ")
    assert handler.mails == []
    assert "s3cret" not in repr(connector.config)


def test_an_unknown_address_is_named_by_its_place_only() -> None:
    connector = Notify(Notify.Config.model_validate({"urls": ["json://127.0.0.1/", "nonsense-s3cret"]}))
    with pytest.raises(ConfigError, match=r"urls\[1\] is no address") as caught:
        asyncio.run(connector.check())
    assert "s3cret" not in str(caught.value)
