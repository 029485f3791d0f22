"""The way back to the client: one JSON answer, or an event stream once something has to be said before it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from proxy import errors
from proxy.engine.wire import encoded, status_of
from proxy.headers import Headers
from proxy.in_flight import ActiveCall
from proxy.runtime import Runtime

_STREAM_HEADERS: Final = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
    (b"x-content-type-options", b"nosniff"),
)


class TooManyStreams(Exception):
    """The caller has as many open streams as it may have."""


class Sink:
    """Answers one request of a client. Nothing is sent after `finish`."""

    def __init__(self, call: ActiveCall, runtime: Runtime) -> None:
        self.call = call
        self._runtime = runtime

    async def say(self, message: Mapping[str, Any]) -> None:
        """Send a notification or request of ours before the answer. Raises TooManyStreams."""
        await self.open_stream()
        await self.call.piece(b"event: message\ndata: %b\n\n" % encoded(message))

    async def open_stream(self) -> None:
        """Begin an event stream, if that has not happened. Raises TooManyStreams."""
        call = self.call
        if call.started:
            return
        if not self._runtime.in_flight.begin_stream(call):
            raise TooManyStreams
        call.watchable = True
        await call.start(200, list(_STREAM_HEADERS))
        await call.flush()

    async def finish(self, message: Mapping[str, Any], *headers: tuple[bytes, bytes]) -> None:
        """Send the answer and end."""
        call = self.call
        if call.started:
            await call.piece(b"event: message\ndata: %b\n\n" % encoded(message))
            await call.finish()
            return
        failed = message.get("error")
        status = status_of(failed["code"], modern=call.message.modern) if failed else 200
        await call.answer(status, json_headers(*headers), encoded(message))

    async def fail(self, failure: errors.Failure) -> None:
        """End with a failure of the gateway."""
        call = self.call
        call.outcome = failure.outcome
        if call.started:
            await call.piece(b"event: message\ndata: %b\n\n" % errors.body(failure, call.message.id))
            await call.finish()
            return
        await call.answer(*errors.render(failure, call.message.id))


def json_headers(*more: tuple[bytes, bytes]) -> Headers:
    """Headers of a JSON answer that nobody keeps."""
    return [
        (b"content-type", b"application/json"),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        *more,
    ]
