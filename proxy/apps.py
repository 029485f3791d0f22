from __future__ import annotations

from django.apps import AppConfig


class ProxyConfig(AppConfig):
    name = "proxy"
    verbose_name = "Gateway"

    def ready(self) -> None:
        from authflows.outbound import testing
        from proxy.key_test import test_key

        testing.register(test_key)
