"""Live updates: one WebSocket a tab; each change is encoded once for all of them."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

import orjson
from starlette.websockets import WebSocket, WebSocketDisconnect

from ninefold import __version__
from ninefold.app import App
from ninefold.ground.clock import iso, now
from ninefold.ground.errors import NinefoldError
from ninefold.ground.log import get
from ninefold.store.records.base import Outbox
from ninefold.web.auth import find_actor

_POLL_S = 0.1
_PAUSE_S = 1.0
_SOURCES_EVERY_S = 5.0
"""Sources move with every batch, which is no change of the records: tabs look at them again this often."""
_MOVED_EVERY_S = 1.0
"""Findings and forecasts are events, which come in storms: tabs look at them again no more often."""
_QUEUE = 256
_TOO_SLOW = 1013
_TOKEN_ENDED = 4401
_log = get("live")


@dataclass(eq=False, slots=True)
class _Tab:
    """An open tab, the secret it came with, and what it is still to be told; a number closes it with that code."""

    socket: WebSocket
    secret: str
    queue: asyncio.Queue[bytes | int] = field(default_factory=lambda: asyncio.Queue(_QUEUE))


class Live:
    """Follows the change feed and hands each message to every open tab; a tab that cannot keep up is closed and reconnects, one
    whose token has been revoked is closed for good."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._tabs: set[_Tab] = set()
        self._after: int | None = None
        """The last change told; None while nobody listens."""
        self._sources_due = self._moved_due = 0.0
        self._moved: dict[str, int] = {}

    async def run(self) -> None:
        """Broadcast until cancelled; reads nothing while nobody listens."""
        while True:
            await asyncio.sleep(_POLL_S)
            try:
                await self._turn()
            except Exception as error:  # noqa: BLE001 - tabs stay open and must hear again as soon as it works again
                _log.warning("live updates pause: %s", error, exc_info=None if isinstance(error, NinefoldError) else error)
                await asyncio.sleep(_PAUSE_S)

    async def serve(self, socket: WebSocket, secret: str) -> None:
        """One tab, from hello to goodbye. What changes after the hello is told."""
        tab = _Tab(socket, secret)
        tab.queue.put_nowait(orjson.dumps({"hello": "ninefold", "version": __version__, "time": iso(now())}))
        latest = await asyncio.to_thread(self._app.records.last_change)
        if self._after is None:
            self._after = latest
        self._tabs.add(tab)
        sender: asyncio.Task[None] | None = None
        try:
            await socket.accept()
            sender = asyncio.create_task(self._pump(tab))
            while True:
                await socket.receive_text()  # the client only ever pings; receiving notices its going
                self._say(tab, orjson.dumps({"pong": iso(now())}))
        except WebSocketDisconnect:
            pass
        finally:
            self._tabs.discard(tab)
            if sender is not None:
                sender.cancel()

    async def _turn(self) -> None:
        if not self._tabs or self._after is None:
            self._after = None
            return
        changes, ended = await asyncio.to_thread(self._look, self._after, list(self._tabs))
        for tab in ended:
            self._close(tab, _TOKEN_ENDED)
        rows = [{"topic": c.topic, "kind": c.kind, "key": c.key, "data": c.data, "time": iso(c.time)} for c in changes]
        if time.monotonic() >= self._sources_due:
            self._sources_due = time.monotonic() + _SOURCES_EVERY_S
            rows.append(_moved("source"))
        if time.monotonic() >= self._moved_due:
            self._moved_due, moved = time.monotonic() + _MOVED_EVERY_S, dict(self._app.moved)
            rows += [_moved(topic) for topic in moved if moved[topic] != self._moved.get(topic)]
            self._moved = moved
        if rows:
            message = orjson.dumps({"changes": rows, "time": iso(now())})
            for tab in list(self._tabs):
                self._say(tab, message)
        if changes:
            self._after = changes[-1].id

    def _look(self, after: int, tabs: list[_Tab]) -> tuple[list[Outbox], list[_Tab]]:
        """The changes behind `after`, and the tabs whose tokens are no longer any; `Tokens` asks the database every five seconds."""
        return self._app.records.outbox(after), [tab for tab in tabs if find_actor(tab.socket, tab.secret) is None]

    async def _pump(self, tab: _Tab) -> None:
        while not isinstance(message := await tab.queue.get(), int):
            await tab.socket.send_text(message.decode())
        await tab.socket.close(message)

    def _say(self, tab: _Tab, message: bytes) -> None:
        try:
            tab.queue.put_nowait(message)
        except asyncio.QueueFull:
            self._close(tab, _TOO_SLOW)

    def _close(self, tab: _Tab, code: int) -> None:
        self._tabs.discard(tab)
        while not tab.queue.empty():
            tab.queue.get_nowait()
        tab.queue.put_nowait(code)


def _moved(topic: str) -> dict[str, Any]:
    """Something of a topic is no longer as it was; which, only a look at it tells."""
    return {"topic": topic, "kind": "moved", "key": "", "data": {}, "time": iso(now())}
