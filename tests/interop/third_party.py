"""Servers of third parties, as their users start them."""

from __future__ import annotations

from pathlib import Path

from tests.support.processes import Peer, foreign_python, free_port, start_foreign

Npm = tuple[str, Path]


def start_reference(npm: Npm) -> Peer:
    """`@modelcontextprotocol/server-everything`: the protocol's own reference server, with sessions."""
    node, modules = npm
    program = modules / "@modelcontextprotocol" / "server-everything" / "dist" / "index.js"
    port = free_port()
    return start_foreign(
        [node, str(program), "streamableHttp"], url=f"http://127.0.0.1:{port}/mcp", environment={"PORT": str(port)}
    )


def start_budget_allocator(npm: Npm) -> Peer:
    """`@modelcontextprotocol/server-budget-allocator`: hands out no session, has a user interface as a resource."""
    node, modules = npm
    program = modules / "@modelcontextprotocol" / "server-budget-allocator" / "dist" / "index.js"
    port = free_port()
    return start_foreign([node, str(program)], url=f"http://127.0.0.1:{port}/mcp", environment={"PORT": str(port)})


def start_playwright(npm: Npm) -> Peer:
    """`@playwright/mcp`: answers 403 unless Host is the name that it was started with."""
    node, modules = npm
    port = free_port()
    options = ["--port", str(port), "--host", "127.0.0.1", "--headless", "--isolated"]
    program = modules / "@playwright" / "mcp" / "cli.js"
    return start_foreign([node, str(program), *options], url=f"http://localhost:{port}/mcp")


def start_motherduck(folder: Path) -> Peer:
    """`mcp-server-motherduck`: a database behind FastMCP, which speaks both eras."""
    program = Path(foreign_python("motherduck")).parent / "mcp-server-motherduck"
    port = free_port()
    options = ["--transport", "http", "--host", "127.0.0.1", "--port", str(port)]
    database = ["--db-path", str(folder / "test.duckdb"), "--read-write"]
    return start_foreign([str(program), *options, *database], url=f"http://127.0.0.1:{port}/mcp", folder=folder)
