"""Guides for programs of one's own, with the SDKs of the protocol."""

from __future__ import annotations

from authflows.inbound.how_to_use.parts import KEY_VARIABLE, Guide, Step, Target, export_step

# In short lines, since it is read before it is run.
_INITIALIZE = """{"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
    "protocolVersion": "2025-11-25", "capabilities": {},
    "clientInfo": {"name": "curl", "version": "1"}}}"""

_PYTHON_KEY = """\
import asyncio
import os

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

URL = "@url@"


async def main() -> None:
    headers = {"Authorization": f"Bearer {os.environ['@variable@']}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=60) as http,
        Client(streamable_http_client(URL, http_client=http)) as client,
    ):
        for tool in (await client.list_tools()).tools:
            print(tool.name)


asyncio.run(main())"""

_PYTHON_SIGN_IN = """\
import asyncio
import webbrowser
from urllib.parse import parse_qs, urlsplit

import httpx2
from mcp import Client
from mcp.client.auth import OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientMetadata

URL = "@url@"


class Memory:
    \"\"\"Keeps client and tokens while the program runs. Write them to a private file to stay signed in.\"\"\"

    client = tokens = None

    async def get_tokens(self): return self.tokens
    async def set_tokens(self, tokens): self.tokens = tokens
    async def get_client_info(self): return self.client
    async def set_client_info(self, client): self.client = client


async def main() -> None:
    answer = asyncio.get_running_loop().create_future()

    async def answered(reader, writer):
        line = (await reader.readline()).decode()
        writer.write(b"HTTP/1.1 200 OK\\r\\nConnection: close\\r\\n\\r\\nYou can close this window.")
        await writer.drain()
        writer.close()
        if not answer.done():
            answer.set_result({k: v[0] for k, v in parse_qs(urlsplit(line.split()[1]).query).items()})

    async def open_browser(url):
        print("Sign in:", url, flush=True)
        webbrowser.open(url)

    async def wait_for_answer():
        got = await answer
        if "code" not in got:
            raise SystemExit(f"Not let in: {got.get('error')}")
        return AuthorizationCodeResult(code=got["code"], state=got.get("state"), iss=got.get("iss"))

    listener = await asyncio.start_server(answered, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    about = OAuthClientMetadata(
        client_name="My program",
        redirect_uris=[f"http://127.0.0.1:{port}/callback"],
        token_endpoint_auth_method="none",
    )
    auth = OAuthClientProvider(URL, about, Memory(), open_browser, wait_for_answer)
    async with (
        httpx2.AsyncClient(auth=auth, timeout=300) as http,
        Client(streamable_http_client(URL, http_client=http)) as client,
    ):
        for tool in (await client.list_tools()).tools:
            print(tool.name)


asyncio.run(main())"""

_TYPESCRIPT_KEY = """\
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";

const transport = new StreamableHTTPClientTransport(new URL("@url@"), {
  requestInit: { headers: { Authorization: `Bearer ${process.env.@variable@}` } },
});
const client = new Client({ name: "my-program", version: "1.0.0" });
await client.connect(transport);
for (const tool of (await client.listTools()).tools) console.log(tool.name);
await client.close();"""

_TYPESCRIPT_SIGN_IN = """\
import { createServer } from "node:http";
import { Client, StreamableHTTPClientTransport, UnauthorizedError } from "@modelcontextprotocol/client";

let answered;
const answer = new Promise((resolve) => { answered = resolve; });
const listener = createServer((request, response) => {
  response.end("You can close this window.");
  answered(new URL(request.url ?? "/", "http://127.0.0.1").searchParams);
});
await new Promise((ready) => listener.listen(0, "127.0.0.1", () => ready(null)));
const redirectUrl = `http://127.0.0.1:${listener.address().port}/callback`;

// Keeps client and tokens while the program runs. Write them to a private file to stay signed in.
const kept = {};
const authProvider = {
  redirectUrl,
  clientMetadata: {
    client_name: "My program",
    redirect_uris: [redirectUrl],
    token_endpoint_auth_method: "none",
  },
  state: () => crypto.randomUUID(),
  clientInformation: () => kept.client,
  saveClientInformation: (client) => { kept.client = client; },
  tokens: () => kept.tokens,
  saveTokens: (tokens) => { kept.tokens = tokens; },
  codeVerifier: () => kept.verifier,
  saveCodeVerifier: (verifier) => { kept.verifier = verifier; },
  redirectToAuthorization: (url) => console.log("Open this in a browser:", String(url)),
};

async function connect() {
  const transport = new StreamableHTTPClientTransport(new URL("@url@"), { authProvider });
  const client = new Client({ name: "my-program", version: "1.0.0" });
  try {
    await client.connect(transport);
    return client;
  } catch (error) {
    if (!(error instanceof UnauthorizedError)) throw error;
    await transport.finishAuth(await answer);
    return connect();
  }
}

const client = await connect();
for (const tool of (await client.listTools()).tools) console.log(tool.name);
await client.close();
listener.close();"""


def python_sign_in(target: Target) -> Guide:
    """The Python SDK, signing a person in."""
    return Guide(
        "python",
        "Python",
        (
            Step("Install the SDK (2.x)", 'pip install "mcp>=2"'),
            Step("Run this program: the browser opens. Approve there", _filled(_PYTHON_SIGN_IN, target)),
        ),
        note="A program that nobody watches cannot sign in: give it a key, or a virtual account’s.",
    )


def python_key(target: Target, key: str | None) -> Guide:
    """The Python SDK with a key."""
    return Guide(
        "python",
        "Python",
        (
            Step("Install the SDK (2.x)", 'pip install "mcp>=2"'),
            export_step(key),
            Step("Run this program", _filled(_PYTHON_KEY, target)),
        ),
    )


def typescript_sign_in(target: Target) -> Guide:
    """The TypeScript SDK, signing a person in."""
    return Guide(
        "typescript",
        "TypeScript",
        (
            Step("Install the SDK (2.x)", "npm install @modelcontextprotocol/client"),
            Step(
                "Save as program.mjs, run with node, and open the address that it prints",
                _filled(_TYPESCRIPT_SIGN_IN, target),
            ),
        ),
        note="A program that nobody watches cannot sign in: give it a key, or a virtual account’s.",
    )


def typescript_key(target: Target, key: str | None) -> Guide:
    """The TypeScript SDK with a key."""
    return Guide(
        "typescript",
        "TypeScript",
        (
            Step("Install the SDK (2.x)", "npm install @modelcontextprotocol/client"),
            export_step(key),
            Step("Save as program.mjs and run with node", _filled(_TYPESCRIPT_KEY, target)),
        ),
    )


def curl_key(target: Target, key: str | None) -> Guide:
    """curl with a key."""
    lines = [
        f"curl -sS {target.url}",
        f'-H "Authorization: Bearer ${KEY_VARIABLE}"',
        '-H "Content-Type: application/json"',
        '-H "Accept: application/json, text/event-stream"',
        f"-d '{_INITIALIZE}'",
    ]
    return Guide(
        "curl",
        "curl",
        (export_step(key), Step("Run in a shell: the server says who it is", " \\\n  ".join(lines))),
    )


def _filled(program: str, target: Target) -> str:
    return program.replace("@url@", target.url).replace("@variable@", KEY_VARIABLE)
