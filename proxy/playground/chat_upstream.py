"""One streamed answer of a language model, through the one door for outbound HTTP and with limits on everything."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing
from time import monotonic
from typing import Any, Final

from django.conf import settings
from jiter import from_json

from proxy.playground.chat_pieces import Cleaner, Events, Piece
from proxy.playground.chat_trouble import Trouble, of_status, trouble
from proxy.runtime import AGENT, current_runtime
from proxy.upstream import Phase, Response, UpstreamError
from servers.model_endpoints import Target

log = logging.getLogger(__name__)
_CONNECT_SECONDS: Final = 10
_WHOLE_SECONDS: Final = 15 * 60
_MOST_BYTES: Final = 16 * 1024 * 1024


async def stream(target: Target, body: dict[str, Any]) -> AsyncIterator[Piece]:
    """The pieces of the model's answer as they come, ending with `end` or with one `error`.

    It always ends with one of these; nothing is raised. Closing it hangs up, which is how the endpoint learns that
    nobody waits any more.
    """
    try:
        async with aclosing(_answer(target, body)) as pieces:  # type: ignore[type-var]
            async for piece in pieces:
                yield piece
    except Trouble as problem:
        yield error_piece(_noted(problem, target))


def error_piece(problem: Trouble) -> Piece:
    """What the page is told of a failure."""
    piece: Piece = {"type": "error", "code": problem.code, "detail": problem.public_message}
    return piece if problem.retry_after is None else {**piece, "retry_after": problem.retry_after}


async def _answer(target: Target, body: dict[str, Any]) -> AsyncIterator[Piece]:
    deadline = monotonic() + _WHOLE_SECONDS
    response = await _begun(target, json.dumps(body).encode())
    chunks = _chunks(response, deadline)
    try:
        content_type = response.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        cleaner = Cleaner()
        if content_type == b"text/event-stream":
            async for piece in _from_events(chunks, cleaner):
                yield piece
        elif content_type == b"application/json":
            for piece in cleaner.whole(await _whole(chunks)):
                yield piece
        else:
            raise trouble("model_garbage", "neither an event stream nor JSON")
        if not cleaner.reason:
            raise trouble("model_cut_off", "no finish_reason")
        yield {"type": "end", "reason": cleaner.reason}
    finally:
        response.close()


async def _begun(target: Target, body: bytes) -> Response:
    """The endpoint's answer with its head; raises Trouble."""
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            connection = await current_runtime().pool_for(target.destination).connect()
    except TimeoutError as error:
        raise trouble("model_unreachable", "no connection in time") from error
    except UpstreamError as error:
        code = "model_address" if error.phase is Phase.ADDRESS else "model_unreachable"
        raise trouble(code, str(error)) from error
    response = connection.send(_head(target, len(body)) + body)
    try:
        async with asyncio.timeout(settings.MODEL_SILENCE_SECONDS):
            await response.head()
    except TimeoutError as error:
        response.close()
        raise trouble("model_slow", "no answer in time") from error
    except UpstreamError as error:
        raise trouble("model_unreachable", str(error)) from error
    except asyncio.CancelledError:
        response.close()
        raise
    if problem := of_status(response.status, response.headers.get(b"retry-after", b"").decode("latin-1")):
        response.close()
        raise problem
    return response


def _head(target: Target, length: int) -> bytes:
    destination = target.destination
    lines = [
        f"POST {destination.target} HTTP/1.1",
        f"host: {destination.authority}",
        f"user-agent: {AGENT.decode()}",
        "accept: text/event-stream, application/json",
        # What is counted is what is read, and nothing can unpack into more.
        "accept-encoding: identity",
        "content-type: application/json",
        f"content-length: {length}",
        # One exchange each: a kept connection that the endpoint is just closing would lose a chat's request.
        "connection: close",
        *(f"{name}: {value}" for name, value in target.headers),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


async def _from_events(chunks: AsyncIterator[bytes], cleaner: Cleaner) -> AsyncIterator[Piece]:
    events = Events()
    try:
        async for data in chunks:
            for event in events.feed(data):
                for piece in cleaner.pieces(event):
                    yield piece
            if cleaner.done:
                return
    except UpstreamError as error:
        if cleaner.reason:
            return  # Only the connection was not closed as it should; the answer had ended.
        raise trouble("model_cut_off", str(error)) from error
    for piece in cleaner.pieces(events.rest()):
        yield piece


async def _whole(chunks: AsyncIterator[bytes]) -> dict[str, Any]:
    """The answer of an endpoint that does not stream."""
    try:
        found = from_json(b"".join([chunk async for chunk in chunks]))
    except UpstreamError as error:
        raise trouble("model_cut_off", str(error)) from error
    except ValueError as error:
        raise trouble("model_garbage", "not JSON") from error
    if not isinstance(found, dict):
        raise trouble("model_garbage", "not an object")
    return found


async def _chunks(response: Response, deadline: float) -> AsyncIterator[bytes]:
    """The body as it comes; raises Trouble for silence and for too much, UpstreamError where it breaks off."""
    while True:
        # Each wait alone: a timer around the whole would also run, and cancel, while the page takes a piece.
        try:
            async with asyncio.timeout(min(settings.MODEL_SILENCE_SECONDS, deadline - monotonic())):
                data = await response.chunk()
        except TimeoutError as error:
            raise trouble("model_slow", "silence, or too long as a whole") from error
        if not data:
            return
        if response.received > _MOST_BYTES:
            raise trouble("model_too_long")
        yield data


def _noted(problem: Trouble, target: Target) -> Trouble:
    log.warning("chat with endpoint %s: %s: %s", target.endpoint, problem.code, problem.log_detail)
    return problem
