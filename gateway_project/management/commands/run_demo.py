"""`manage.py run_demo`: what `make run` starts. The gateway and the sample calculator, on this machine only."""

from __future__ import annotations

import sys
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import OperationalError, connections
from django.db.models import Q
from django.urls import reverse
from django.utils import timezone

from authflows.inbound import first_admin
from authflows.models import ApiKey
from gateway_project.sample import register_sample
from gateway_project.supervisor import Program, port_is_free, run_together
from servers.models import Server

_LIST_TOOLS = '{"jsonrpc":"2.0","id":1,"method":"tools/list"}'


class Command(BaseCommand):
    help = "Prepare the database and run the gateway with the sample calculator, on the loopback interface."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=int, default=8000, help="the gateway's port (default 8000)")
        parser.add_argument("--calculator-port", type=int, default=8765, help="the sample's port (default 8765)")

    def handle(self, *args: Any, port: int, calculator_port: int, **options: Any) -> None:
        for number, variable in ((port, "PORT"), (calculator_port, "CALCULATOR_PORT")):
            if not port_is_free(number):
                raise CommandError(
                    f"Port {number} is in use by another program. "
                    f"Stop it, or choose another port: make run {variable}={number + 1}"
                )
        try:
            call_command("migrate", interactive=False, verbosity=0)
            server = register_sample(port=calculator_port)
            text = welcome(server)
        except OperationalError as error:
            raise CommandError(f"The database does not work (DATABASE_URL): {error}") from error
        finally:
            connections.close_all()
        programs = [
            Program(
                "calculator",
                (
                    sys.executable,
                    str(settings.BASE_DIR / "examples/calculator/server.py"),
                    f"--port={calculator_port}",
                ),
                calculator_port,
            ),
            Program(
                "gateway",
                (
                    sys.executable,
                    str(settings.BASE_DIR / "manage.py"),
                    "serve",
                    "--maintain",
                    "--host=127.0.0.1",
                    f"--port={port}",
                ),
                port,
            ),
        ]
        if code := run_together(programs, on_ready=lambda: self._say(text), say=self._complain):
            sys.exit(code)

    def _say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()

    def _complain(self, text: str) -> None:
        self.stderr.write(self.style.ERROR(text))


def welcome(server: Server | None) -> str:
    """What to open, do and type next, for the state that the installation is in."""
    lines = ["", "Gatehouse is running.", ""]
    lines.append(f"  Gateway  {settings.PUBLIC_URL}/")
    lines.append(f"  Admin    {settings.PUBLIC_URL}{reverse('admin:index')}")
    lines.append(f"  Data     {settings.DATA_DIR}")
    lines.append("")
    lines += [f"  {line}" if line else "" for line in _next_steps(server)]
    lines += ["", "Ctrl-C stops it; nothing is lost.", ""]
    return "\n".join(lines)


def _next_steps(server: Server | None) -> list[str]:
    steps: list[list[str]] = []
    if not first_admin.admin_exists():
        steps.append(["Create the first admin; this link works once, within a day:", first_admin.make_link()])
    if server is not None and server.enabled:
        ide = f"claude mcp add --transport http calculator {server.mcp_url}"
        steps.append(["Add the sample to an IDE by its URL alone, here Claude Code; the browser opens:", ide])
    if not _usable_key_exists():
        page = f"{settings.PUBLIC_URL}{reverse('my-key-new')}"
        steps.append(["For programs that cannot sign in, make an API key:", page, "export GATEHOUSE_KEY=ghk_…"])
    if server is not None and server.enabled:
        steps.append(["List the sample's tools:", *_curl(server.mcp_url)])
    return [
        line
        for number, (title, *body) in enumerate(steps, start=1)
        for line in (f"{number}. {title}", *(f"   {text}" for text in body), "")
    ][:-1]


def _curl(url: str) -> list[str]:
    return [
        f"curl {url} \\",
        '  -H "Authorization: Bearer $GATEHOUSE_KEY" -H "Content-Type: application/json" \\',
        f"""  -H "Accept: application/json, text/event-stream" -d '{_LIST_TOOLS}'""",
    ]


def _usable_key_exists() -> bool:
    lasting = Q(expires_at__isnull=True) | Q(expires_at__gt=timezone.now())
    return ApiKey.objects.filter(lasting, revoked_at__isnull=True, owner__is_active=True).exists()
