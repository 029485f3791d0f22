"""The gateway as operators run it: `manage.py serve` or Daphne in a process of its own, on the test database."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from types import TracebackType
from typing import IO, Any, Literal

from django.conf import settings

from tests.support.other_process import ROOT, database_url
from tests.support.processes import free_port

READY_SECONDS = 60


class ProcessGateway:
    """A context manager; `port` and `origin` say where it listens. `options` are settings without their prefix.

    With the port of one that has ended it is the same gateway, started again.
    """

    def __init__(
        self, server: Literal["serve", "daphne", "runserver"] = "serve", *arguments: str, port: int = 0, **options: Any
    ) -> None:
        self.port = port or free_port()
        self.origin = f"http://127.0.0.1:{self.port}"
        self._command = {
            "serve": [sys.executable, "manage.py", "serve", "--port", str(self.port)],
            "daphne": [sys.executable, "-m", "daphne", "-p", str(self.port), "gateway_project.asgi:application"],
            "runserver": [sys.executable, "manage.py", "runserver", "--noreload", f"127.0.0.1:{self.port}"],
        }[server] + list(arguments)
        self._options = {f"GATEHOUSE_{name}": str(value) for name, value in options.items()}
        self._process: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  closed in __exit__

    def __enter__(self) -> ProcessGateway:
        environment = {
            **os.environ,
            "DATABASE_URL": database_url(),
            "DJANGO_SETTINGS_MODULE": "gateway_project.settings",
            "GATEHOUSE_DATA_DIR": str(settings.DATA_DIR),
            "GATEHOUSE_PUBLIC_URL": self.origin,
            **self._options,
        }
        environment.pop("DJANGO_ALLOW_ASYNC_UNSAFE", None)
        self._process = subprocess.Popen(
            self._command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=self._output, stderr=self._output
        )
        ends = time.monotonic() + READY_SECONDS
        while time.monotonic() < ends and self._process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.origin}/healthz", timeout=5):
                    return self
            except urllib.error.HTTPError as error:
                error.close()
                break
            except OSError:
                time.sleep(0.05)  # it has no other way to say that it listens
        said = self.said()
        self.__exit__(None, None, None)
        raise RuntimeError(f"the gateway did not start: {said}")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def readiness(self) -> Any:
        """What /readyz says."""
        with urllib.request.urlopen(f"{self.origin}/readyz", timeout=20) as answer:
            return json.load(answer)

    def said(self) -> str:
        """The end of what the process wrote."""
        self._output.flush()
        self._output.seek(0)
        return self._output.read()[-5000:].decode(errors="replace")

    def ask_to_stop(self) -> None:
        """SIGTERM."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float) -> int | None:
        """The exit code once the process has ended; None when it has not in that time."""
        assert self._process is not None
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        assert self._process is not None
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(40)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(10)
        if value is not None:
            print(self.said())
        self._output.close()
