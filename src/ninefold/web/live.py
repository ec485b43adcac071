"""Live updates: one WebSocket a tab; each change is encoded once for all of them."""

from __future__ import annotations

import asyncio

import orjson
from starlette.websockets import WebSocket, WebSocketDisconnect

from ninefold import __version__
from ninefold.app import App
from ninefold.ground.clock import iso, now
from ninefold.store.records.base import Outbox

_POLL_S = 0.1
_QUEUE = 256


class Live:
    """Follows the change feed and hands each message to every open tab; a tab that cannot keep up is closed and reconnects."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._tabs: set[asyncio.Queue[bytes | None]] = set()

    async def run(self) -> None:
        """Broadcast until cancelled; reads nothing while nobody listens."""
        after: int | None = None
        while True:
            await asyncio.sleep(_POLL_S)
            if not self._tabs:
                after = None
                continue
            if after is None:
                after = await asyncio.to_thread(self._app.records.last_change)
            changes = await asyncio.to_thread(self._app.records.outbox, after)
            if changes:
                after = changes[-1].id
                self._send(changes)

    async def serve(self, socket: WebSocket) -> None:
        """One tab, from hello to goodbye."""
        await socket.accept()
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(_QUEUE)
        queue.put_nowait(orjson.dumps({"hello": "ninefold", "version": __version__, "time": iso(now())}))
        self._tabs.add(queue)
        sender = asyncio.create_task(self._pump(socket, queue))
        try:
            while True:
                await socket.receive_text()  # the client only ever pings; receiving notices its going
                await socket.send_text(orjson.dumps({"pong": iso(now())}).decode())
        except WebSocketDisconnect:
            pass
        finally:
            self._tabs.discard(queue)
            sender.cancel()

    async def _pump(self, socket: WebSocket, queue: asyncio.Queue[bytes | None]) -> None:
        while (message := await queue.get()) is not None:
            await socket.send_text(message.decode())
        await socket.close(1013)

    def _send(self, changes: list[Outbox]) -> None:
        rows = [{"topic": c.topic, "kind": c.kind, "key": c.key, "data": c.data, "time": iso(c.time)} for c in changes]
        message = orjson.dumps({"changes": rows, "time": iso(now())})
        for queue in list(self._tabs):
            try:
                queue.put_nowait(message)
            except asyncio.QueueFull:
                self._tabs.discard(queue)
                queue.get_nowait()
                queue.put_nowait(None)
