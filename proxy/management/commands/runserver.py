"""`manage.py runserver`: Daphne's, on a server that waits for slow clients."""

from __future__ import annotations

from daphne.management.commands.runserver import Command as DaphneCommand

from proxy.daphne_server import PausingServer


class Command(DaphneCommand):  # type: ignore[misc]  # Daphne has no types
    server_cls = PausingServer
