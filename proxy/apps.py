from __future__ import annotations

from django.apps import AppConfig


class ProxyConfig(AppConfig):
    name = "proxy"
    verbose_name = "Gateway"

    def ready(self) -> None:
        from authflows.outbound import testing
        from proxy.catalogue_asked import read_for
        from proxy.catalogue_rounds import read_saved
        from proxy.key_test import test_key
        from servers.catalogue import reading_now

        testing.register(test_key)
        reading_now.register(read_for, after_saving=read_saved)
