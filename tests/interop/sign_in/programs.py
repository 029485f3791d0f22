"""Real MCP clients as processes, and the desktop that they find themselves on."""

from __future__ import annotations

import json
import os
import selectors
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.support import node
from tests.support.processes import foreign_python

DRIVERS = Path(__file__).with_name("drivers")
PATIENCE = 60
# What takes a URL and does to it what the person wants.
Browse = Callable[[str], object]

# Names under which programs look for the person's browser.
_BROWSERS = ("xdg-open", "open", "sensible-browser", "x-www-browser", "www-browser", "wslview")


class ProgramError(Exception):
    """What a client said when something did not work."""


class Desktop:
    """A home folder, and a browser that hands each URL to the test; a context manager."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self._commands = folder / "commands"
        self._pipe = folder / "opened"
        for made in (self.home, self._commands):
            made.mkdir(parents=True)
        os.mkfifo(self._pipe)
        # Open for writing too, so that it never ends while programs come and go.
        self._descriptor = os.open(self._pipe, os.O_RDWR | os.O_NONBLOCK)
        for name in _BROWSERS:
            command = self._commands / name
            command.write_text(f'#!/bin/sh\nprintf \'%s\\n\' "$1" > "{self._pipe}"\n')
            command.chmod(command.stat().st_mode | stat.S_IXUSR)
        # Some bring an opener of their own, which asks the desktop for its default browser.
        entry = f"[Desktop Entry]\nType=Application\nName=Person\nExec={self._commands / 'xdg-open'} %u\n"
        default = "[Default Applications]\nx-scheme-handler/http=person.desktop\n"
        for name, text in (
            (".local/share/applications/person.desktop", entry),
            (".config/mimeapps.list", default),
        ):
            path = self.home / name
            path.parent.mkdir(parents=True)
            path.write_text(text)

    def __enter__(self) -> Desktop:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        os.close(self._descriptor)

    def fileno(self) -> int:
        return self._descriptor

    def environment(self, **more: str) -> dict[str, str]:
        """The environment of a program that is started on this desktop."""
        clean = node.clean_environment()
        found = node.find_node()
        folders = [str(self._commands), *([str(Path(found[0]).parent)] if found else []), clean["PATH"]]
        browser = str(self._commands / "xdg-open")
        return {
            **clean,
            "HOME": str(self.home),
            "PATH": ":".join(folders),
            "BROWSER": browser,
            # Programs without a screen do not open a browser.
            "DISPLAY": ":99",
            **more,
        }

    def opened(self) -> str:
        """The URL that a program opened; call it when the descriptor can be read."""
        return os.read(self._descriptor, 65536).decode().strip()


class Program:
    """A client that does one thing after the other; a context manager."""

    def __init__(self, command: Sequence[str], *, desktop: Desktop) -> None:
        self._desktop = desktop
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed in __exit__
        self._process = subprocess.Popen(
            list(command),
            env=desktop.environment(),
            cwd=desktop.home,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )

    def __enter__(self) -> Program:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(5)
        self._process.stdout.close()
        self._log.close()

    def said(self) -> str:
        """The end of its log."""
        self._log.seek(0)
        return self._log.read()[-6000:]

    def start(self, action: str, **arguments: Any) -> None:
        """Tell it to do something; `finish` waits for it."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": action, **arguments}).encode() + b"\n")
        self._process.stdin.flush()

    def finish(self, browse: Browse | None = None) -> Any:
        """Wait for what was started. Raises ProgramError when it did not work.

        A browser that opens meanwhile is used by `browse`; without that it must not open.
        """
        ends = time.monotonic() + PATIENCE
        while (said := self._next(ends)) is not None:
            if "open" in said:
                assert browse is not None, f"it opened a browser: {said['open']}"
                browse(said["open"])
            elif "error" in said:
                raise ProgramError(said["error"])
            else:
                return said["result"]
        raise AssertionError(f"the client said nothing; its log: {self.said()}")

    def do(self, action: str, browse: Browse | None = None, **arguments: Any) -> Any:
        """Start something and finish it."""
        self.start(action, **arguments)
        return self.finish(browse)

    def _next(self, ends: float) -> dict[str, Any] | None:
        """The next thing it says, or opens; None when it ended or the time is over."""
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            selector.register(self._desktop, selectors.EVENT_READ)
            ready = selector.select(max(ends - time.monotonic(), 0))
        if not ready:
            return None
        if any(key.fileobj is self._desktop for key, _ in ready):
            return {"open": self._desktop.opened()}
        # Answers are short and come one by one, so a line that began is soon complete.
        line = self._process.stdout.readline()
        said: dict[str, Any] | None = json.loads(line) if line else None
        return said


def python_sdk(line: int, desktop: Desktop, target: Mapping[str, Any]) -> Program:
    """A client on the Python SDK 1.x or 2.x."""
    python = foreign_python("mcp1") if line == 1 else sys.executable
    return Program([python, str(DRIVERS / "python_client.py"), json.dumps(target)], desktop=desktop)


def typescript_sdk(line: int, desktop: Desktop, target: Mapping[str, Any]) -> Program:
    """A client on the TypeScript SDK 1.x or 2.x."""
    binary, modules = node.packages()
    words = json.dumps({**target, "sdk": line, "modules": str(modules)})
    return Program([binary, str(DRIVERS / "typescript_client.mjs"), words], desktop=desktop)


def mcp_remote(desktop: Desktop, target: Mapping[str, Any]) -> Program:
    """`mcp-remote`, the bridge for programs that know only servers on standard input and output."""
    binary, modules = node.packages()
    headers = [f"{name}:{value}" for name, value in (target.get("headers") or {}).items()]
    bridge = [binary, str(modules / "mcp-remote" / "dist" / "proxy.js"), target["url"], "--allow-http"]
    for header in headers:
        bridge += ["--header", header]
    return Program(
        [sys.executable, str(DRIVERS / "python_client.py"), json.dumps({"command": bridge})], desktop=desktop
    )


# The start of a client on a desktop with a target.
START: dict[str, Callable[[Desktop, Mapping[str, Any]], Program]] = {
    "Python SDK 1": lambda desktop, target: python_sdk(1, desktop, target),
    "Python SDK 2": lambda desktop, target: python_sdk(2, desktop, target),
    "TypeScript SDK 1": lambda desktop, target: typescript_sdk(1, desktop, target),
    "TypeScript SDK 2": lambda desktop, target: typescript_sdk(2, desktop, target),
    "mcp-remote": mcp_remote,
}
