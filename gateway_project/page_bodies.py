"""How long and how large the body of a request to a page may be: Django itself waits for ever and writes on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from django.conf import settings

from servers.request_id import new_request_id, set_request_id

log = logging.getLogger(__name__)

Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
Application = Callable[[Any, Any, Any], Awaitable[None]]

_GONE: Final[Event] = {"type": "http.disconnect"}


class _Body:
    """The `receive` of one request, which ends early when the body is too slow or too large."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._deadline = asyncio.get_running_loop().time() + settings.PAGE_BODY_SECONDS
        self._left: int = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        self._complete = False
        self.refusal: tuple[int, str] | None = None

    async def __call__(self) -> Event:
        if self._complete:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._deadline):
                event = await self._receive()
        except TimeoutError:
            seconds = settings.PAGE_BODY_SECONDS
            return self._refuse(408, f"The request did not arrive within {seconds} seconds. Go back and send it again.")
        self._left -= len(event.get("body", b""))
        if self._left < 0:
            size = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
            return self._refuse(413, f"The request is larger than {size} bytes. Go back and send less.")
        self._complete = not event.get("more_body", False)
        return event

    def _refuse(self, status: int, text: str) -> Event:
        self.refusal = (status, text)
        # Django then clears up what it has and answers nothing.
        return _GONE


async def serve_page(application: Application, scope: Any, receive: Receive, send: Send) -> None:
    """Let Django answer a request; one whose body is too slow gets 408 and one whose body is too large 413."""
    body = _Body(receive)
    await application(scope, body, send)
    if body.refusal is None:
        return
    status, text = body.refusal
    request_id = new_request_id()
    set_request_id(request_id)
    log.warning("page refused", extra={"status": status, "method": scope["method"]})
    answer = f"{text}\n".encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", b"%d" % len(answer)),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        (b"x-request-id", request_id.encode()),
        # The rest of the body is not read.
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": answer})
