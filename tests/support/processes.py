"""Peers as processes of their own: start, wait until they answer, stop exactly those."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tests.support.node import CACHE, ROOT, clean_environment, leave_out, once

PEERS = ROOT / "tests" / "support" / "peers"
REQUIREMENTS = ROOT / "tests" / "interop"


def free_port() -> int:
    """A port that was free a moment ago, for programs that cannot choose one themselves."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Peer:
    """A running MCP server: its URL and its process."""

    url: str
    process: subprocess.Popen[str]
    output: IO[str]
    label: str = field(default="")

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        if self.process.stdout:
            self.process.stdout.close()
        self.output.close()

    def said(self) -> str:
        """The end of what the process wrote to its standard error."""
        self.output.flush()
        self.output.seek(0)
        return self.output.read()[-3000:]

    def witness(self, action: str, **query: Any) -> Any:
        """Ask the witness of one of our own peers (`requests`, `wait`, `mark`, `reset`)."""
        base = self.url.rsplit("/", 1)[0]
        url = f"{base}/witness/{action}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=40) as answer:
            return json.load(answer)


def _launch(command: Sequence[str], *, environment: dict[str, str], folder: Path | None) -> Peer:
    output = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed in Peer.stop
    process = subprocess.Popen(
        list(command), env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=output, text=True
    )
    return Peer("", process, output, label=Path(command[1] if len(command) > 1 else command[0]).name)


def launch(command: Sequence[str], *, environment: dict[str, str]) -> Peer:
    """Start a program that prints its URL as its first line when it answers."""
    peer = _launch(command, environment=environment, folder=None)
    assert peer.process.stdout is not None
    peer.url = peer.process.stdout.readline().strip()
    if not peer.url:
        peer.process.wait(10)
        raise RuntimeError(f"{peer.label} did not start: {peer.said()}")
    return peer


def start_own(program: str, *arguments: str, python: str | None = None) -> Peer:
    """Start a server program of `tests/support/peers`, which prints its URL as its first line."""
    return launch([python or sys.executable, str(PEERS / program), *arguments], environment=clean_environment())


def start_foreign(
    command: Sequence[str], *, url: str, environment: dict[str, str] | None = None, folder: Path | None = None
) -> Peer:
    """Start a third party's server and return when its URL answers anything at all."""
    output = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed in Peer.stop
    process = subprocess.Popen(
        list(command),
        env={**clean_environment(), **(environment or {})},
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        text=True,
    )
    peer = Peer(url, process, output, label=Path(command[0]).name)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=2).close()
        except urllib.error.HTTPError as refused:
            refused.close()
            return peer
        except OSError:
            time.sleep(0.1)  # the program has no other way to say that it is ready
        else:
            return peer
    said = peer.said()
    peer.stop()
    raise RuntimeError(f"{command[0]} did not answer at {url}: {said}")


def foreign_python(name: str) -> str:
    """The interpreter of the environment `venv-<name>`, made from `requirements-<name>.lock` on first use."""
    folder = CACHE / f"venv-{name}"
    lock_file = REQUIREMENTS / f"requirements-{name}.lock"

    def fill() -> None:
        uv = [sys.executable, "-m", "uv"]
        environment = clean_environment()
        for command in (
            [*uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, str(folder)],
            [*uv, "pip", "sync", "--quiet", "--require-hashes", "--python", str(folder), str(lock_file)],
        ):
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
            if done.returncode != 0:
                leave_out(f"cannot install {lock_file.name}: {done.stderr.strip()[-600:]}")

    once(f"venv-{name}", wanted=lock_file.read_text(), fill=fill)
    return str(folder / "bin" / "python")
