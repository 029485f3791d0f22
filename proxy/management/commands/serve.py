"""`manage.py serve`: the gateway on uvicorn."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import uvicorn
from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from authflows.inbound.identity import sso_settings
from proxy.http_server import LeanHttpProtocol


class Command(BaseCommand):
    help = "Serve the gateway (admin, portal and MCP endpoints) with uvicorn."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="Address to listen on (default: this machine only).")
        parser.add_argument("--port", type=int, default=8000)
        parser.add_argument("--workers", type=int, default=1, help="Processes; several want PostgreSQL.")
        parser.add_argument("--tls-certificate", help="PEM file; without it, put a TLS proxy in front.")
        parser.add_argument(
            "--maintain", action="store_true", help="Run `manage.py maintain` beside it, as a process of its own."
        )
        parser.add_argument("--tls-key", help="PEM file of the certificate's key.")

    def handle(self, *args: Any, **options: Any) -> None:
        sso_settings.sync_and_disconnect()
        with _maintaining() if options["maintain"] else nullcontext():
            self._serve(options)

    @staticmethod
    def _serve(options: dict[str, Any]) -> None:
        uvicorn.run(
            "gateway_project.asgi:application",
            host=options["host"],
            port=options["port"],
            workers=options["workers"],
            ssl_certfile=options["tls_certificate"],
            ssl_keyfile=options["tls_key"],
            loop="uvloop",
            http=LeanHttpProtocol,
            ws="none",
            lifespan="on",
            interface="asgi3",
            backlog=8192,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=20,
            log_config=None,
        )


@contextmanager
def _maintaining() -> Iterator[None]:
    """`manage.py maintain` for as long as the block runs."""
    command = [sys.executable, str(settings.BASE_DIR / "manage.py"), "maintain", "--with-parent"]
    # A session of its own: Ctrl-C reaches this process alone, which then stops it.
    process = subprocess.Popen(command, start_new_session=True)  # noqa: S603
    # uvicorn sends itself the signal that stopped it once more; by default that would end us before the `finally`.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        yield
    finally:
        process.terminate()
        process.wait()
