"""`manage.py register_sample`: the sample calculator as an MCP server of the Demo group."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from gateway_project.sample import register_sample


class Command(BaseCommand):
    help = (
        "Register the sample calculator once, in the group Demo. Run again it changes nothing, "
        "and it never makes again what an admin has deleted or changed."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=int, default=8765, help="loopback port of the sample (default 8765)")

    def handle(self, *args: Any, port: int, **options: Any) -> None:
        server = register_sample(port=port)
        self.stdout.write(f"{server.name}: {server.mcp_url}" if server else "The sample was deleted; left so.")
