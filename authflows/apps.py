from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class AuthflowsConfig(AppConfig):
    name = "authflows"
    verbose_name = "Ways in and credentials"

    def ready(self) -> None:
        from authflows import invalidation
        from authflows.inbound import my_sessions
        from authflows.outbound import endings, needs

        invalidation.connect()
        endings.connect()
        needs.connect()
        my_sessions.connect()
        post_migrate.connect(_declare_provider, sender=self, dispatch_uid="identity-provider-of-settings")


def _declare_provider(**_: Any) -> None:
    from authflows.inbound.identity import sso_settings

    sso_settings.sync()
