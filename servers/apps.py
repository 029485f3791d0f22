from __future__ import annotations

from django.apps import AppConfig


class ServersConfig(AppConfig):
    name = "servers"
    verbose_name = "MCP servers"

    def ready(self) -> None:
        from servers import invalidation

        invalidation.connect()
