"""The SDK 2.x client on a tour, in any era: `python client2.py URL --mode legacy|auto|2026-07-28 < plan.json`."""

from __future__ import annotations

import argparse
import asyncio
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import tour
from mcp import Client, types
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from tour import Found, Notes, Upstream

LISTEN = {
    "tools": {"tools_list_changed": True},
    "prompts": {"prompts_list_changed": True},
    "resources": {"resources_list_changed": True},
    "watched": {"resource_subscriptions": ["test://watched-resource"]},
}


def plain(model: Any) -> Any:
    """What an SDK object says on the wire."""
    return model.model_dump(mode="json", by_alias=True, exclude_unset=True) if model is not None else None


class Sdk2:
    error_class = MCPError

    def __init__(self, client: Client, notes: Notes) -> None:
        self._client, self._notes = client, notes

    @property
    def _modern(self) -> bool:
        return self._client.protocol_version >= "2026"

    async def handshake(self) -> Found:
        session = self._client.session
        found = {
            "version": self._client.protocol_version,
            "capabilities": plain(self._client.server_capabilities),
            "instructions": self._client.instructions,
            "initialize": plain(session.initialize_result),
        }
        if self._modern:
            found["discover"] = await session.send_discover(self._client.protocol_version)
        found["server"] = plain(self._client.server_info)
        return found

    async def list_page(self, what: str, cursor: str | None) -> Found:
        session = self._client.session
        lists = {
            "tools": session.list_tools,
            "resources": session.list_resources,
            "templates": session.list_resource_templates,
            "prompts": session.list_prompts,
        }
        return plain(await lists[what](params=types.PaginatedRequestParams(cursor=cursor) if cursor else None))

    async def call(self, name: str, arguments: Found) -> Found:
        async def progress(done: float, total: float | None, message: str | None) -> None:
            self._notes.notification({"progress": [done, total, message]})

        return plain(await self._client.call_tool(name, arguments, progress_callback=progress))

    async def cancel(self, task: asyncio.Task[Found]) -> None:
        task.cancel()
        await asyncio.wait([task])

    async def read(self, uri: str) -> Found:
        return plain(await self._client.read_resource(uri))

    async def prompt(self, name: str, arguments: dict[str, str]) -> Found:
        return plain(await self._client.get_prompt(name, arguments))

    async def complete(self, reference: Found, argument: dict[str, str]) -> Found:
        kind = types.PromptReference if reference["type"] == "ref/prompt" else types.ResourceTemplateReference
        return plain(await self._client.complete(kind.model_validate(reference), argument))

    async def ping(self) -> Found:
        return plain(await self._client.send_ping())

    async def level(self, level: str) -> Found:
        return plain(await self._client.set_logging_level(level))  # type: ignore[arg-type]

    async def subscribe(self, uri: str) -> Found:
        return plain(await self._client.subscribe_resource(uri))

    async def unsubscribe(self, uri: str) -> Found:
        return plain(await self._client.unsubscribe_resource(uri))

    async def hear(self, kind: str, announce: Callable[[], Awaitable[Found]]) -> Found:
        if not self._modern:
            result = await announce()
            return {"result": result, "heard": await self._notes.wait(1)}
        async with self._client.listen(**LISTEN[kind]) as subscription:  # type: ignore[arg-type]
            result = await announce()
            async with asyncio.timeout(tour.PATIENCE):
                event = await anext(subscription)
            await self._notes.wait(1)
            return {"result": result, "honored": plain(subscription.honored), "event": repr(event)}

    def error(self, error: Any) -> Found:
        return plain(error.error)


async def travel(options: argparse.Namespace, plan: list[Found], notes: Notes, upstream: Upstream) -> list[Found]:
    async def asked(kind: str, params: Any) -> None:
        notes.question({"kind": kind, "params": plain(params)})

    async def sample(context: Any, params: Any) -> Any:
        await asked("sampling", params)
        return types.CreateMessageResult(
            role="assistant", content=types.TextContent(type="text", text="sampled"), model="m", stop_reason="endTurn"
        )

    async def elicit(context: Any, params: Any) -> Any:
        await asked("elicitation", params)
        schema = getattr(params, "requested_schema", None) or {}
        return types.ElicitResult(action="accept", content=tour.answer_form(schema))

    async def roots(context: Any) -> Any:
        await asked("roots", None)
        return types.ListRootsResult(roots=[types.Root.model_validate({"uri": "file:///workspace", "name": "w"})])

    async def message(incoming: Any) -> None:
        body = {"problem": str(incoming)} if isinstance(incoming, Exception) else plain(incoming)
        if body.get("method") != "notifications/progress":
            notes.notification(body)

    async def exchange(response: Any) -> None:
        notes.exchange(response.request, response)

    http = httpx2.AsyncClient(headers=options.headers, timeout=60, event_hooks={"response": [exchange]})
    async with (
        http,
        Client(
            streamable_http_client(options.url, http_client=http),
            mode=options.mode,
            client_info=types.Implementation(name="tour", version="2"),
            sampling_callback=sample,
            elicitation_callback=elicit,
            list_roots_callback=None if options.without_roots else roots,
            message_handler=message,
            log_level="debug",
            cache=None,
        ) as client,
    ):
        return await tour.walk(plan, Sdk2(client, notes), notes, upstream)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    tour.run(travel)
