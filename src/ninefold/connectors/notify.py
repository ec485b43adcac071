"""Messages to people, by e-mail, chat, push or any of the hundred services Apprise knows.

```yaml
connectors:
  team:
    type: notify
    urls: ["mailtos://${MAIL_USER}:${MAIL_PASSWORD}@mail.example.org?to=oncall@example.org", "slack://${SLACK_TOKENS}"]
```

The address forms are listed at https://appriseit.com/services/. They hold credentials, so they never appear in runs or logs.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar, Literal

from pydantic import Field, SecretStr

from ninefold.ground.errors import ConfigError, OutcomeUnknown, Refused, Unavailable
from ninefold.plugin import Connector, Strict, action


class Message(Strict):
    """What to say."""

    title: str = Field("", max_length=250)
    body: str = Field(min_length=1, max_length=60_000)
    format: Literal["text", "markdown", "html"] = "text"
    severity: Literal["info", "success", "warning", "failure"] = "info"


class Delivery(Strict):
    """Who took it."""

    delivered: int
    services: list[str] = Field(description="The services' addresses without their credentials.")
    elapsed_s: float


class Notify(Connector):
    """One audience: all of its addresses get each message."""

    kind: ClassVar[str] = "notify"

    class Config(Strict):
        """Where the audience is."""

        urls: tuple[SecretStr, ...] = Field(min_length=1, description="Apprise addresses.")

    def __init__(self, config: Notify.Config) -> None:
        super().__init__(config)
        self._apprise: Any = None

    @action(risk="write")
    async def send(self, ask: Message) -> Delivery:
        """Deliver a message to every address.

        Raises:
            Unavailable: nobody took it.
            OutcomeUnknown: a service did not answer in time.
            Refused: some took it and some did not; sending again would say it twice.
        """
        services = await asyncio.to_thread(self._services)
        result = await services.async_notify(
            body=ask.body, title=ask.title, notify_type=ask.severity, body_format=ask.format, interpret_escapes=False
        )
        with result:
            took, failed = result.success_count, [service for service in result if not service]
            if result:
                return Delivery(delivered=took, services=[service.url for service in result], elapsed_s=round(result.elapsed, 6))
            names = ", ".join(service.name for service in failed) or "no service"
            if result.timeout_count:
                raise OutcomeUnknown(f"{names} did not say in time whether the message was taken")
            if took:
                raise Refused(f"the message reached {took} of {len(result)} services; not {names}", carried_out=True)
            raise Unavailable(f"the message could not be delivered: {names} did not take it", 5.0)

    async def check(self) -> str:
        """Read the addresses; nothing is sent.

        Raises:
            ConfigError: an address is none that Apprise knows; it is named by its place, not by its text.
        """
        services = await asyncio.to_thread(self._services)
        return f"{len(services)} addresses: {', '.join(sorted({str(service.service_name) for service in services}))}"

    def _services(self) -> Any:
        if self._apprise is None:
            from apprise import Apprise  # here, because only a message needs its tenth of a second and 20 MB

            apprise = Apprise()
            for place, url in enumerate(self.config.urls):
                if not apprise.add(url.get_secret_value()):
                    raise ConfigError(f"urls[{place}] is no address that Apprise can read; see https://appriseit.com/services/")
            self._apprise = apprise
        return self._apprise
