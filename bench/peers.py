"""Other MCP proxies to compare with: installed from PyPI into environments of their own, started as targets."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import venv
from pathlib import Path

from targets import CACHE, CLIENT_TOKEN, HERE, Bench, Target, free_port

FASTMCP = "fastmcp==4.1.6"
CONTEXTFORGE = "mcp-contextforge-gateway==1.0.7.post20260921"


def install(package: str) -> Path:
    """The Python of an environment that has the package; made at the first use."""
    folder = CACHE / package.replace("==", "-")
    python, done = folder / "bin" / "python", folder / "installed"
    if not done.exists():
        print(f"Installing {package} …", flush=True)
        venv.create(folder, clear=True, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "uv"], check=True)
        # fastmcp asks for a newest-of-all certifi that not every index has yet; any recent one works.
        overrides = folder / "overrides.txt"
        overrides.write_text("certifi>=2026.1\n")
        command = [folder / "bin" / "uv", "pip", "install", "-q", "--python", python, "--override", overrides]
        subprocess.run([*command, package, "uvloop", "httptools"], check=True)
        done.touch()
    return python


def fastmcp(bench: Bench) -> Target:
    """fastmcp's `create_proxy` in front of the upstream."""
    python, port = install(FASTMCP), free_port()
    upstream = f"http://127.0.0.1:{bench.upstream_port}/mcp"
    process = bench.start([str(python), str(HERE / "peers" / "fastmcp_proxy.py"), str(port), upstream])
    bench.wait_for(port, process, seconds=120)
    return Target(FASTMCP, port, CLIENT_TOKEN, {"json": "/mcp"}, process)


def contextforge(bench: Bench) -> Target:
    """IBM ContextForge on SQLite with its rate limit, user interface, logs and metrics off."""
    python, port = install(CONTEXTFORGE), free_port()
    folder = bench.folder / "contextforge"
    folder.mkdir()
    env = {
        "HOME": str(folder),
        "JWT_SECRET_KEY": secrets.token_urlsafe(48),
        "AUTH_ENCRYPTION_SECRET": secrets.token_urlsafe(48),
        "BASIC_AUTH_PASSWORD": f"{secrets.token_urlsafe(16)}-1!aA",
        "PLATFORM_ADMIN_EMAIL": "admin@example.com",
        "PLATFORM_ADMIN_PASSWORD": f"{secrets.token_urlsafe(16)}-1!aA",
        "DEFAULT_USER_PASSWORD": f"{secrets.token_urlsafe(16)}-1!aA",
        "DATABASE_URL": "sqlite:///./mcp.db",
        "CACHE_TYPE": "memory",
        "ENVIRONMENT": "development",
        "LOG_LEVEL": "ERROR",
        "MCPGATEWAY_UI_ENABLED": "false",
        "PLUGINS_ENABLED": "false",
        # 100 calls a minute and a lock after that otherwise: there would be nothing to measure.
        "RATE_LIMITING_ENABLED": "false",
        "SSRF_ALLOW_LOCALHOST": "true",
        "SSRF_ALLOW_PRIVATE_NETWORKS": "true",
        "ALLOW_PUBLIC_VISIBILITY": "true",
        "DB_METRICS_RECORDING_ENABLED": "false",
        "TOKEN_USAGE_LOGGING_ENABLED": "false",
        "STRUCTURED_LOGGING_ENABLED": "false",
        "COMPRESSION_ENABLED": "false",
    }
    options = ["--host", "127.0.0.1", "--port", str(port), "--no-access-log", "--loop", "uvloop"]
    command = [str(python.parent / "mcpgateway"), "mcpgateway.main:app", *options, "--log-level", "error"]
    process = bench.start(command, env=env, cwd=folder)
    upstream = f"http://127.0.0.1:{bench.upstream_port}/mcp"
    script = [str(python), str(HERE / "peers" / "contextforge_setup.py"), f"http://127.0.0.1:{port}", upstream]
    done = subprocess.run(script, cwd=folder, env={**os.environ, **env}, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"ContextForge could not be set up: {done.stderr[-500:]}")
    made = json.loads(done.stdout.splitlines()[-1])
    return Target(CONTEXTFORGE, port, made["token"], {"json": made["path"]}, process, tool=made["tool"])
