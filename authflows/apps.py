from __future__ import annotations

from django.apps import AppConfig


class AuthflowsConfig(AppConfig):
    name = "authflows"
    verbose_name = "Ways in and credentials"

    def ready(self) -> None:
        from authflows import invalidation
        from authflows.inbound import my_sessions

        invalidation.connect()
        my_sessions.connect()
