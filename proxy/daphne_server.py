"""Daphne for `manage.py runserver`, with what it lacks for streams.

Stock Daphne accepts whatever the application sends, however slowly the client reads, and leaves an answer that
the application gave up hanging open. Here `send` waits for the client, and such an answer is cut.
"""

from __future__ import annotations

import asyncio
from typing import Any

from daphne.server import Server


class Valve:
    """What Twisted pauses while the client's buffer is full."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()

    def pauseProducing(self) -> None:
        self.open.clear()

    def resumeProducing(self) -> None:
        self.open.set()

    stopProducing = resumeProducing


class PausingServer(Server):  # type: ignore[misc]  # Daphne has no types
    """Daphne's server with back-pressure for HTTP."""

    def create_application(self, protocol: Any, scope: dict[str, Any]) -> Any:
        queue = super().create_application(protocol, scope)
        task = self.connections.get(protocol, {}).get("application_instance")
        if task is not None and scope["type"] == "http":
            task.add_done_callback(lambda done: _cut(protocol, done))
        return queue

    async def handle_reply(self, protocol: Any, message: dict[str, Any]) -> None:
        body = message["type"] == "http.response.body"
        valve = getattr(protocol, "valve", None)
        if body and valve is not None:
            await valve.open.wait()
            if not message.get("more_body", False) and protocol.channel is not None:
                protocol.unregisterProducer()
        await super().handle_reply(protocol, message)
        if message["type"] == "http.response.start" and protocol.channel is not None:
            protocol.valve = Valve()
            protocol.registerProducer(protocol.valve, True)


def _cut(protocol: Any, done: asyncio.Task[None]) -> None:
    """Close the connection of an answer that has no end; one that was never begun is Daphne's to explain."""
    failed = not done.cancelled() and done.exception() is not None
    channel = protocol.channel
    if protocol.finished or channel is None or (failed and not protocol._response_started):
        return
    valve = getattr(protocol, "valve", None)
    if valve is not None and not valve.open.is_set():
        channel.transport.abortConnection()
        return
    if valve is not None:
        protocol.unregisterProducer()
    channel.loseConnection()
