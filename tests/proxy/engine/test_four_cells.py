"""Every mix of old and new client and member works for plain calls (F-702), with the SDK's own clients and servers."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from tests.conftest import Cast
from tests.support.calls import caller_for
from tests.support.gateway import LiveGateway
from tests.support.mcp_upstream import calculator, legacy_only, modern_only, serving
from tests.support.virtual import add_server, set_catalogue, tool, virtual_server

CALCULATOR = {"tool": [tool("add"), tool("subtract")]}
SPEAKING = {"legacy": legacy_only, "modern": modern_only, "dual": lambda app: app}


@pytest.mark.requirement("F-605", "F-702")
@pytest.mark.parametrize("mode", ["legacy", "auto", "2026-07-28"])
@pytest.mark.parametrize("eras", ["legacy", "modern", "dual"])
@pytest.mark.django_db(transaction=True)
def test_a_client_of_any_era_calls_a_member_of_any_era(cast: Cast, gateway: LiveGateway, mode: Any, eras: str) -> None:
    with serving(SPEAKING[eras](calculator())) as url:
        member = add_server(cast, "sums", url, eras=eras)
        set_catalogue(member, CALCULATOR)
        bundle = virtual_server(cast, (member, "math"))

        caller = caller_for(gateway, bundle, cast.member)

        async def calls() -> tuple[list[str], Any]:
            async with (
                httpx2.AsyncClient(headers={"Authorization": f"Bearer {caller.key}"}, timeout=40) as http,
                Client(streamable_http_client(caller.url, http_client=http), mode=mode) as client,
            ):
                listed = await client.list_tools()
                return [one.name for one in listed.tools], await client.call_tool("math__add", {"a": 2, "b": 3})

        names, result = asyncio.run(calls())
    assert names == ["math__add", "math__subtract"]
    assert not result.is_error
    assert result.structured_content == {"result": 5}
