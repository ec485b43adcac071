"""Calendars read by URL: at intervals, with a time and a size limit, and never from where only this machine can reach.

An address is resolved once, every result must be a public one (unless the configuration names the host), and the connection goes to
just that result, so a name that answers otherwise the next moment leads nowhere else. Redirects are not followed.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable

import httpx
from sqlalchemy import select

from ninefold.config import OnCallConfig
from ninefold.connectors.wire import Wire
from ninefold.ground.clock import MINUTE
from ninefold.ground.errors import BadData, NinefoldError, Refused, Unavailable
from ninefold.ground.log import get
from ninefold.oncall import calendar
from ninefold.oncall.plans import Schedule
from ninefold.store.records.base import Records
from ninefold.store.records.oncall import Arrangement, Calendar

EVERY = 15 * MINUTE
_LOOK_S = 30.0
_TIMEOUT_S = 20.0
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_log = get("oncall")


class Fetching:
    """Keeps the calendars of schedules fresh; one that cannot be read stays as it was, and says so.

    Args:
        records: where they are kept.
        config: the hosts that may be private.
        clock: the time in ns.
    """

    def __init__(self, records: Records, config: OnCallConfig, clock: Callable[[], int]) -> None:
        self._records, self._hosts, self._clock = records, {host.lower() for host in config.calendar_hosts}, clock

    async def run(self) -> None:
        """Fetch until cancelled."""
        await asyncio.to_thread(self._read_ahead)
        while True:
            for name in await asyncio.to_thread(self._due):
                await self.refresh(name)
            await asyncio.sleep(_LOOK_S)

    async def refresh(self, name: str) -> str:
        """Fetch the calendar of a schedule now; returns what is wrong, "" when nothing is."""
        url = await asyncio.to_thread(self._url, name)
        if not url:
            return ""
        try:
            text, problem = await self.fetch(url), ""
        except NinefoldError as error:
            text, problem = "", f"its calendar could not be fetched: {error}"
            _log.warning("schedule %s: %s", name, problem)
        return await asyncio.to_thread(self._keep, name, url, text, problem)

    async def fetch(self, url: str) -> str:
        """The calendar at a URL.

        Raises:
            Refused: the address may not be used, or the server says no.
            Unavailable: it cannot be reached in time.
        """
        asked = self.checked(url)
        address = await self._resolved(asked.host, asked.port or (443 if asked.scheme == "https" else 80))
        wire = Wire(f"the calendar server {asked.host}", timeout_s=_TIMEOUT_S / 2, limit_bytes=calendar.LIMIT_BYTES)
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                answer = await wire.call(
                    "GET", asked.copy_with(host=address), repeatable=True, headers={"Host": asked.netloc.decode()},
                    extensions={"sni_hostname": asked.host},
                )  # fmt: skip
        except TimeoutError as error:
            raise Unavailable(f"{asked.host} did not send its calendar within {_TIMEOUT_S:g} s") from error
        finally:
            await wire.close()
        return answer.text

    def checked(self, url: str) -> httpx.URL:
        """A URL that may be fetched, as far as one can tell without asking for its address.

        Raises:
            Refused: it may not.
        """
        try:
            asked = httpx.URL(url.strip().replace("webcal://", "https://", 1))
        except httpx.InvalidURL as error:
            raise Refused(f"the address of the calendar cannot be read: {error}") from error
        named = asked.host.lower() in self._hosts
        if not asked.host or asked.userinfo or asked.scheme not in (("https", "http") if named else ("https",)):
            raise Refused(
                "the address of a calendar begins with https:// and holds no password; name the host in oncall.calendar_hosts for http"
            )
        return asked

    async def _resolved(self, host: str, port: int) -> str:
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise Unavailable(f"the host {host} has no address ({error})") from error
        addresses = [str(each[4][0]) for each in found]
        if host.lower() not in self._hosts and not all(_public(address) for address in addresses):
            raise Refused(f"the host {host} has a private address; name it in oncall.calendar_hosts if its calendars may be read")
        return addresses[0]

    def _due(self) -> list[str]:
        with self._records.reading() as session:
            wanted = select(Calendar.schedule).where(Calendar.url != "", Calendar.tried <= self._clock() - EVERY)
            return list(session.scalars(wanted))

    def _url(self, name: str) -> str:
        with self._records.reading() as session:
            kept = session.get(Calendar, name)
            return kept.url if kept else ""

    def _read_ahead(self) -> None:
        """Take all calendars apart once, so that nobody waits for that who is to be paged."""
        with self._records.reading() as session:
            for kept in session.scalars(select(Calendar).where(Calendar.text != "")):
                _understood(kept.text, session.get(Arrangement, ("schedule", kept.schedule)))

    def _keep(self, name: str, url: str, text: str, problem: str) -> str:
        with self._records.reading() as session:
            row = session.get(Arrangement, ("schedule", name))
        problem = problem or _understood(text, row)
        with self._records.session() as session:
            kept = session.get(Calendar, name)
            if kept is None or kept.url != url:
                return problem  # it was changed meanwhile
            kept.tried, kept.problem = self._clock(), problem
            if not problem:
                kept.text, kept.read = text, kept.tried
            return problem


def _understood(text: str, row: Arrangement | None) -> str:
    """Why a schedule's calendar cannot be read, "" when it can."""
    if row is None:
        return "its schedule is not there any more"
    try:
        calendar.read(text, (), Schedule.model_validate(row.body).zone, 0, 1)
    except BadData as error:
        return str(error)
    return ""


def _public(address: str) -> bool:
    found = ipaddress.ip_address(address.partition("%")[0])
    inside: list[ipaddress.IPv4Address | None] = []  # an address of version 4 that one of version 6 leads to
    if isinstance(found, ipaddress.IPv6Address):
        inside = [found.ipv4_mapped, found.sixtofour, *(found.teredo or ())]
        inside += [ipaddress.IPv4Address(found.packed[-4:])] if found in _NAT64 else []
    return all(each is None or (each.is_global and not each.is_multicast) for each in (*inside, found if not any(inside) else None))
