"""The SDK 1.x client on a tour: `python client1.py URL < plan.json`, in an environment of its own."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import tour
from mcp import ClientSession, types
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import McpError
from pydantic import AnyUrl
from tour import Found, Notes, Upstream


def plain(model: Any) -> Any:
    """What an SDK object says on the wire."""
    return model.model_dump(mode="json", by_alias=True, exclude_unset=True) if model is not None else None


class Sdk1:
    error_class = McpError

    def __init__(self, session: ClientSession, notes: Notes) -> None:
        self._session, self._notes = session, notes

    async def handshake(self) -> Found:
        return {"initialize": plain(await self._session.initialize())}

    async def list_page(self, what: str, cursor: str | None) -> Found:
        lists: dict[str, Any] = {
            "tools": self._session.list_tools,
            "resources": self._session.list_resources,
            "templates": self._session.list_resource_templates,
            "prompts": self._session.list_prompts,
        }
        return plain(await lists[what](params=types.PaginatedRequestParams(cursor=cursor) if cursor else None))

    async def call(self, name: str, arguments: Found) -> Found:
        async def progress(done: float, total: float | None, message: str | None) -> None:
            self._notes.notification({"progress": [done, total, message]})

        return plain(await self._session.call_tool(name, arguments, progress_callback=progress))

    async def cancel(self, task: asyncio.Task[Found]) -> None:
        # This SDK sends no cancellation when its caller gives up, so it is sent by hand.
        newest = self._session._request_id - 1
        params = types.CancelledNotificationParams(requestId=newest, reason="no longer needed")
        await self._session.send_notification(types.ClientNotification(types.CancelledNotification(params=params)))
        # Whether an answer comes all the same is up to the server; none has to.
        await asyncio.wait([task], timeout=1)
        task.cancel()
        await asyncio.wait([task])

    async def read(self, uri: str) -> Found:
        return plain(await self._session.read_resource(AnyUrl(uri)))

    async def prompt(self, name: str, arguments: dict[str, str]) -> Found:
        return plain(await self._session.get_prompt(name, arguments))

    async def complete(self, reference: Found, argument: dict[str, str]) -> Found:
        kind = types.PromptReference if reference["type"] == "ref/prompt" else types.ResourceTemplateReference
        return plain(await self._session.complete(kind.model_validate(reference), argument))

    async def ping(self) -> Found:
        return plain(await self._session.send_ping())

    async def level(self, level: str) -> Found:
        return plain(await self._session.set_logging_level(level))  # type: ignore[arg-type]

    async def subscribe(self, uri: str) -> Found:
        return plain(await self._session.subscribe_resource(AnyUrl(uri)))

    async def unsubscribe(self, uri: str) -> Found:
        return plain(await self._session.unsubscribe_resource(AnyUrl(uri)))

    async def hear(self, kind: str, announce: Callable[[], Awaitable[Found]]) -> Found:
        result = await announce()
        return {"result": result, "heard": await self._notes.wait(1)}

    def error(self, error: Any) -> Found:
        return plain(error.error)


async def travel(options: argparse.Namespace, plan: list[Found], notes: Notes, upstream: Upstream) -> list[Found]:
    async def sample(context: Any, params: Any) -> Any:
        notes.question({"kind": "sampling", "params": plain(params)})
        content = types.TextContent(type="text", text="sampled")
        return types.CreateMessageResult(role="assistant", content=content, model="m", stopReason="endTurn")

    async def elicit(context: Any, params: Any) -> Any:
        notes.question({"kind": "elicitation", "params": plain(params)})
        schema = getattr(params, "requestedSchema", None) or {}
        return types.ElicitResult(action="accept", content=tour.answer_form(schema))

    async def roots(context: Any) -> Any:
        notes.question({"kind": "roots", "params": None})
        return types.ListRootsResult(roots=[types.Root.model_validate({"uri": "file:///workspace", "name": "w"})])

    async def message(incoming: Any) -> None:
        if isinstance(incoming, Exception):
            notes.notification({"problem": str(incoming)})
        elif isinstance(incoming, types.ServerNotification):
            body = plain(incoming)
            if body.get("method") != "notifications/progress":
                notes.notification(body)

    async def exchange(response: httpx.Response) -> None:
        notes.exchange(response.request, response)

    async with (
        httpx.AsyncClient(headers=options.headers, timeout=60, event_hooks={"response": [exchange]}) as http,
        streamable_http_client(options.url, http_client=http) as (reading, writing, _),
        ClientSession(
            reading,
            writing,
            sampling_callback=sample,
            elicitation_callback=elicit,
            list_roots_callback=None if options.without_roots else roots,
            message_handler=message,
            client_info=types.Implementation(name="tour", version="1"),
        ) as session,
    ):
        return await tour.walk(plan, Sdk1(session, notes), notes, upstream)


if __name__ == "__main__":
    tour.run(travel)
