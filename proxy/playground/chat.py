"""The chat's way to a language model: the page's messages and tools go out, clean pieces of the answer come back.

The page runs the conversation and calls the tools itself, through the same door as the playground's forms. What is
done here is what a page must not do: hold the endpoint's key, and decide who may use it.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Final

from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.views.decorators.http import require_POST

from proxy import threads
from proxy.playground import chat_request, chat_upstream
from proxy.playground.chat_pieces import Piece
from proxy.playground.chat_request import BadChat, ChatRequest, ChatTooLarge
from proxy.playground.chat_trouble import trouble
from proxy.playground.door import signed_out
from servers.errors import DestinationRefused, GatewayError, SecretUnavailable
from servers.model_endpoints import ModelRefused, Target, target_for

log = logging.getLogger(__name__)
_MOST_AT_ONCE: Final = 4
_answering: Counter[Any] = Counter()
"""How many answers each person is reading from this process."""


class TooManyChats(GatewayError):
    """One person has several answers coming in."""

    code = "too_many_chats"

    def __init__(self) -> None:
        super().__init__(f"You have {_MOST_AT_ONCE} answers coming in already. Wait for one, or stop it.")


_STATUSES: Final = {BadChat: 400, ModelRefused: 403, ChatTooLarge: 413, TooManyChats: 429}


@require_POST
@login_not_required  # A script gets a sentence instead of the sign-in page.
async def chat(request: HttpRequest) -> HttpResponseBase:
    """Ask a model and stream its answer. What is wrong with the request has a status, all else is the last piece."""
    person = await request.auser()
    if not person.is_authenticated:
        return signed_out()
    try:
        asked = chat_request.read(_body(request))
        if _answering[person.pk] >= _MOST_AT_ONCE:
            raise TooManyChats
        target = await threads.run(_target, person, asked)
    except (BadChat, ChatTooLarge, ModelRefused, TooManyChats) as error:
        return _refused(error.code, error.public_message, _STATUSES[type(error)])
    pieces = _failed(target) if isinstance(target, str) else chat_upstream.stream(target, asked.body())
    response = StreamingHttpResponse(_events(person.pk, pieces), content_type="text/event-stream")
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"  # or nginx would hand the answer on as a whole
    return response


def _body(request: HttpRequest) -> bytes:
    try:
        return request.body
    except RequestDataTooBig as error:
        raise ChatTooLarge("This conversation is too long to go on. Begin a new chat.") from error


def _target(person: Any, asked: ChatRequest) -> Target | str:
    """Where to, or the code of what an admin has to put right first; raises ModelRefused."""
    try:
        return target_for(person, endpoint=asked.endpoint, model=asked.model)
    except SecretUnavailable as error:
        code, problem = "model_key_missing", error.public_message
    except DestinationRefused as error:
        code, problem = "model_address", error.public_message
    log.warning("chat with endpoint %s: %s: %s", asked.endpoint, code, problem)
    return code


async def _failed(code: str) -> AsyncIterator[Piece]:
    yield chat_upstream.error_piece(trouble(code))


async def _events(person_id: Any, pieces: AsyncIterator[Piece]) -> AsyncIterator[bytes]:
    # Counted where it begins, since an answer whose reader has left before is never read. Those that were asked for at
    # the same moment have all been let in until here.
    if _answering[person_id] >= _MOST_AT_ONCE:
        refused = TooManyChats()
        yield _event({"type": "error", "code": refused.code, "detail": refused.public_message})
        return
    _answering[person_id] += 1
    try:
        async with aclosing(pieces) as open_pieces:  # type: ignore[type-var]
            async for piece in open_pieces:
                yield _event(piece)
    finally:
        _answering[person_id] -= 1
        if not _answering[person_id]:
            del _answering[person_id]


def _event(piece: Piece) -> bytes:
    return b"data: " + json.dumps(piece, ensure_ascii=False).encode("utf-8", "replace") + b"\n\n"


def _refused(code: str, sentence: str, status: int) -> JsonResponse:
    return JsonResponse({"code": code, "detail": sentence}, status=status)
