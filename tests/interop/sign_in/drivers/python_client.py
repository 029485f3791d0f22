"""An MCP client on the Python SDK, of either line, that does as it is told on its standard input.

The first argument says in JSON where to: {"url"} with {"headers"} or {"kept"} (what an earlier run kept), or
{"command"} for a server on standard input and output. Each line {"do": ...} is answered by one line {"result"} or
{"error"}; before it {"open": url} may come, when a browser is wanted.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import urllib.parse
from contextlib import AsyncExitStack
from typing import Any

from mcp import ClientSession
from mcp.client.auth import OAuthClientProvider
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata, OAuthToken

try:
    import httpx2
    from mcp import Client
    from mcp.client.streamable_http import streamable_http_client
    from mcp.shared.auth import AuthorizationCodeResult
except ImportError:
    Client = None
    from mcp.client.streamable_http import streamablehttp_client

TARGET = json.loads(sys.argv[1])


def say(**words: Any) -> None:
    print(json.dumps(words), flush=True)


class Kept:
    """What the client keeps between runs: its registration and its tokens."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = dict(TARGET.get("kept") or {})

    async def get_tokens(self) -> OAuthToken | None:
        return OAuthToken.model_validate(self.values["tokens"]) if "tokens" in self.values else None

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.values["tokens"] = tokens.model_dump(mode="json", exclude_none=True)

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return OAuthClientInformationFull.model_validate(self.values["client"]) if "client" in self.values else None

    async def set_client_info(self, client: OAuthClientInformationFull) -> None:
        self.values["client"] = client.model_dump(mode="json", exclude_none=True)


class Callback:
    """The loopback address that the browser comes back to."""

    def __init__(self) -> None:
        self.answers: asyncio.Queue[dict[str, str]] = asyncio.Queue()

    async def listen(self) -> str:
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/callback"

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target = (await reader.readuntil(b"\r\n\r\n")).decode().split(" ")[1]
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\nBack in the client.")
        await writer.drain()
        writer.close()
        path, _, query = target.partition("?")
        if path == "/callback":
            self.answers.put_nowait(dict(urllib.parse.parse_qsl(query)))

    async def wait(self) -> Any:
        answer = await self.answers.get()
        if "error" in answer:
            raise RuntimeError(f"answered with {answer['error']}, iss {answer.get('iss')}")
        if Client is None:
            return answer["code"], answer.get("state")
        return AuthorizationCodeResult(code=answer["code"], state=answer.get("state"), iss=answer.get("iss"))


async def browse(url: str) -> None:
    say(open=url)


def words_of(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(words_of(inner) for inner in error.exceptions)
    return f"{type(error).__name__}: {error}"


class Program:
    def __init__(self, sign_in: OAuthClientProvider | None, kept: Kept) -> None:
        self.sign_in, self.kept = sign_in, kept
        self.stack = AsyncExitStack()
        self.session: Any = None

    async def connect(self) -> str:
        await self.close()
        if "command" in TARGET:
            program, *arguments = TARGET["command"]
            server = StdioServerParameters(command=program, args=arguments, env=dict(os.environ))
            reading, writing = await self.stack.enter_async_context(stdio_client(server))
            self.session = await self.stack.enter_async_context(ClientSession(reading, writing))
            return str((await self.session.initialize()).protocol_version)
        if Client is None:
            streams = streamablehttp_client(TARGET["url"], headers=TARGET.get("headers"), auth=self.sign_in)
            reading, writing, _ = await self.stack.enter_async_context(streams)
            self.session = await self.stack.enter_async_context(ClientSession(reading, writing))
            return str((await self.session.initialize()).protocolVersion)
        http = httpx2.AsyncClient(headers=TARGET.get("headers"), auth=self.sign_in, timeout=60)
        await self.stack.enter_async_context(http)
        client = Client(streamable_http_client(TARGET["url"], http_client=http))
        self.session = await self.stack.enter_async_context(client)
        return str(self.session.protocol_version)

    async def tools(self) -> list[str]:
        return [tool.name for tool in (await self.session.list_tools()).tools]

    async def add(self, a: int, b: int) -> str:
        return await self.call("add", a=a, b=b)

    async def call(self, tool: str, **arguments: Any) -> str:
        answer = await self.session.call_tool(tool, arguments)
        return " ".join(getattr(part, "text", "") for part in answer.content)

    async def keep(self) -> dict[str, Any]:
        return self.kept.values

    async def close(self) -> None:
        stack, self.stack = self.stack, AsyncExitStack()
        await stack.aclose()

    async def close_after(self, error: BaseException) -> BaseException:
        """Close what an error broke. Returns what really went wrong: often just a cancellation reaches the caller."""
        stack, self.stack = self.stack, AsyncExitStack()
        try:
            await stack.__aexit__(type(error), error, error.__traceback__)
        except BaseException as cause:
            return cause
        return error


async def main() -> None:
    kept, sign_in = Kept(), None
    if "command" not in TARGET and not TARGET.get("headers"):
        callback = Callback()
        metadata = OAuthClientMetadata(
            client_name="Python SDK", redirect_uris=[await callback.listen()], token_endpoint_auth_method="none"
        )
        sign_in = OAuthClientProvider(TARGET["url"], metadata, kept, browse, callback.wait)
    program = Program(sign_in, kept)
    while line := await asyncio.to_thread(sys.stdin.readline):
        asked = json.loads(line)
        try:
            say(result=await getattr(program, asked.pop("do"))(**asked))
        except BaseException as error:
            say(error=words_of(await program.close_after(error)))
    await program.close()


asyncio.run(main())
