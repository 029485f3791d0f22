"""What How To Use says is done as it stands there, by the real clients, against a running gateway."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from authflows.inbound.api_keys import create_key
from authflows.inbound.how_to_use import Guide, Target, methods
from authflows.models import Approval
from tests.conftest import Cast
from tests.interop.sign_in.person import Person
from tests.interop.sign_in.programs import Browse, Desktop
from tests.support import node
from tests.support.gateway import LiveGateway

pytestmark = [pytest.mark.node, pytest.mark.slow, pytest.mark.requirement("F-601")]

TOOLS = ["add", "subtract", "multiply", "divide"]
PATIENCE = 60
TERMINALS = node.MANIFEST / "terminals"


class Shell:
    """A shell on a desktop, with the clients of the guides as commands."""

    def __init__(self, desktop: Desktop, folder: Path, *, need_codex: bool = False) -> None:
        self._desktop = desktop
        self._commands = folder / "clients"
        self._commands.mkdir()
        binary, modules = node.packages()
        (claude,) = modules.glob("@anthropic-ai/claude-code-*/claude")
        self._command("claude", str(claude))
        self._command("npx-mcp-remote", f"{binary} {modules / 'mcp-remote/dist/proxy.js'}")
        self._command("python", sys.executable)
        self._command("node", binary)
        if need_codex:
            _, more = node.packages(TERMINALS)
            self._command("codex", f"{binary} {more / '@openai/codex/bin/codex.js'}")
        # Where programs look for the TypeScript SDK.
        (desktop.home / "node_modules").symlink_to(modules)

    def _command(self, name: str, program: str) -> None:
        path = self._commands / name
        path.write_text(f'#!/bin/sh\nexec {program} "$@"\n')
        path.chmod(0o755)

    @property
    def environment(self) -> dict[str, str]:
        """What programs are started with."""
        found = self._desktop.environment(
            TERM="dumb", NO_COLOR="1", DISABLE_TELEMETRY="1", CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1"
        )
        return {**found, "PATH": f"{self._commands}:{found['PATH']}"}

    @property
    def home(self) -> Path:
        return self._desktop.home

    def run(self, *lines: str, browse: Browse | None = None) -> str:
        """Type these lines in a terminal; returns what they print. A browser that opens is used by `browse`."""
        parent, child = pty.openpty()
        process = subprocess.Popen(
            ["sh", "-euc", "\n".join(lines)],
            env=self.environment,
            cwd=self._desktop.home,
            stdin=child,
            stdout=child,
            stderr=child,
            start_new_session=True,
        )
        os.close(child)
        said = b""
        ends = time.monotonic() + PATIENCE
        try:
            while time.monotonic() < ends:
                ready, _, _ = select.select([parent, self._desktop], [], [], 0.2)
                if self._desktop in ready:
                    url = self._desktop.opened()
                    assert browse is not None, f"a browser opened: {url}"
                    browse(url)
                if parent in ready:
                    try:
                        said += os.read(parent, 65536)
                    except OSError:  # the other side is closed
                        break
                elif process.poll() is not None:
                    break
            status = process.wait(max(ends - time.monotonic(), 0.1))
        finally:
            process.kill()
            process.wait()
            os.close(parent)
        text = said.decode(errors="replace").replace("\r\n", "\n")
        assert status == 0, text
        return text


@pytest.fixture
def desktop(tmp_path: Path) -> Iterator[Desktop]:
    with Desktop(tmp_path / "desktop") as desktop:
        yield desktop


@pytest.fixture
def shell(desktop: Desktop, tmp_path: Path) -> Shell:
    return Shell(desktop, tmp_path)


@pytest.fixture
def key(cast: Cast) -> str:
    return create_key(owner=cast.member, name="laptop", actor="tests")[1]


def guide(client: str, method: str, mcp_url: str, key: str | None = None) -> Guide:
    """What the page of the server says."""
    key_url = mcp_url.removesuffix("/server") + "/key"
    found = {one.id: one for one in methods(Target("calculator", mcp_url, key_url), key=key)}[method]
    return next(one for one in found.guides if one.id == client)


def texts(guide: Guide) -> list[str]:
    return [step.text for step in guide.steps if step.text]


# --- with a key


def test_claude_code_connects_as_its_guide_for_keys_says(shell: Shell, mcp_url: str, key: str) -> None:
    export, add, shared = texts(guide("claude-code", "key", mcp_url, key))
    shell.run(export, add)
    assert "Connected" in shell.run("claude mcp list | cat")
    shell.run("claude mcp remove calculator")
    (shell.home / ".mcp.json").write_text(shared)
    assert json.loads((shell.home / ".mcp.json").read_text())["mcpServers"]
    # Variables of the shared file are the reader's own; the client asks before it trusts the file.
    listed = shell.run(export, "claude mcp get calculator")
    assert mcp_url in listed


def test_claude_code_without_a_key_asks_for_a_sign_in(shell: Shell, mcp_url: str) -> None:
    add, login = texts(guide("claude-code", "sign-in", mcp_url))
    shell.run(add)
    assert "Needs authentication" in shell.run("claude mcp list | cat")
    assert login == "claude mcp login calculator"


def test_codex_takes_command_and_file_of_its_guide_for_keys(
    desktop: Desktop, tmp_path: Path, mcp_url: str, key: str
) -> None:
    shell = Shell(desktop, tmp_path, need_codex=True)
    export, add, table = texts(guide("codex", "key", mcp_url, key))

    def known() -> dict[str, Any]:
        listed = shell.run(export, "codex mcp list --json 2>/dev/null")
        (entry,) = json.loads(listed)
        assert entry["enabled"]
        assert entry["auth_status"] == "bearer_token"
        transport: dict[str, Any] = entry["transport"]
        return {name: value for name, value in transport.items() if value is not None}

    shell.run(export, add)
    by_command = known()
    assert by_command == {"type": "streamable_http", "url": mcp_url, "bearer_token_env_var": "GATEHOUSE_KEY"}
    (shell.home / ".codex/config.toml").write_text(table)
    assert known() == by_command


@pytest.mark.parametrize("client", ["python", "typescript", "curl"])
def test_the_program_of_the_guide_for_keys_works(shell: Shell, mcp_url: str, key: str, client: str) -> None:
    found = texts(guide(client, "key", mcp_url, key))
    export, program = found[-2:]
    if client == "curl":
        said = shell.run(export, program)
        assert '"serverInfo"' in said
        return
    path = shell.home / ("program.py" if client == "python" else "program.mjs")
    path.write_text(program)
    assert shell.run(export, f"{'python' if client == 'python' else 'node'} {path.name}").split() == TOOLS


@pytest.mark.parametrize("client", ["claude-desktop", "jetbrains"])
def test_the_bridge_of_the_guide_for_keys_reaches_the_tools(shell: Shell, mcp_url: str, key: str, client: str) -> None:
    (entry,) = json.loads(texts(guide(client, "key", mcp_url, key))[0])["mcpServers"].values()
    assert (entry["command"], entry["args"][:2]) == ("npx", ["-y", "mcp-remote"])
    program = shell.home / "call.py"
    program.write_text(
        "import asyncio, json, sys\n"
        "from mcp import Client, StdioServerParameters\n"
        "from mcp.client.stdio import stdio_client\n"
        "async def main():\n"
        "    parameters = StdioServerParameters(**json.loads(sys.argv[1]))\n"
        "    async with Client(stdio_client(parameters)) as client:\n"
        "        print(*[tool.name for tool in (await client.list_tools()).tools])\n"
        "asyncio.run(main())\n"
    )
    started = {"command": "npx-mcp-remote", "args": entry["args"][2:], "env": {**shell.environment, **entry["env"]}}
    (shell.home / "started.json").write_text(json.dumps(started))
    assert shell.run('python call.py "$(cat started.json)" 2>/dev/null').split() == TOOLS


# --- by signing in


@pytest.mark.browser
@pytest.mark.parametrize("client", ["python", "typescript"])
def test_the_program_of_the_guide_for_signing_in_works(shell: Shell, mcp_url: str, member: Person, client: str) -> None:
    program = texts(guide(client, "sign-in", mcp_url))[-1]
    if client == "typescript":
        # It prints the address for the person; here it opens it too.
        program = program.replace(
            'console.log("Open this in a browser:", String(url))',
            'import("node:child_process").then((m) => m.execFileSync("xdg-open", [String(url)]))',
        )
        assert "execFileSync" in program
    path = shell.home / ("program.py" if client == "python" else "program.mjs")
    path.write_text(program)
    said = shell.run(f"{'python' if client == 'python' else 'node'} {path.name}", browse=member.approves)
    assert said.split()[-4:] == TOOLS
    assert Approval.objects.get().client.name == "My program"


@pytest.mark.browser
def test_codex_signs_in_as_its_guide_says(
    gateway: LiveGateway, desktop: Desktop, tmp_path: Path, mcp_url: str, member: Person
) -> None:
    shell = Shell(desktop, tmp_path, need_codex=True)
    add, login = texts(guide("codex", "sign-in", mcp_url))
    shell.run(add, browse=member.approves)
    assert Approval.objects.get().server.slug == "calculator"
    (entry,) = json.loads(shell.run("codex mcp list --json 2>/dev/null"))
    assert entry["transport"]["url"] == mcp_url
    assert "auth" in entry["auth_status"]
    assert login == "codex mcp login calculator"


@pytest.mark.browser
def test_claude_code_signs_in_as_its_guide_says(shell: Shell, mcp_url: str, member: Person) -> None:
    add, login = texts(guide("claude-code", "sign-in", mcp_url))
    shell.run(add)
    shell.run(login, browse=member.approves)
    assert Approval.objects.get().server.slug == "calculator"
    assert "Connected" in shell.run("claude mcp list | cat")
