"""Another process of the gateway on the same database, for tests of what one process learns from another."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

from django.conf import settings

ROOT = Path(__file__).resolve().parent.parent.parent


def database_url() -> str:
    """The test database as DATABASE_URL writes it."""
    from django.db import connection

    config = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{config['NAME']}"
    user = config["USER"] + (f":{config['PASSWORD']}" if config["PASSWORD"] else "")
    # A host may be the folder of a socket, whose slashes a URL does not take as they are.
    return f"postgres://{user}@{quote(config['HOST'], safe='')}:{config['PORT']}/{config['NAME']}"


def run_elsewhere(code: str) -> str:
    """Run Python code in a new process with Django set up on the test database; returns what it printed."""
    environment = {**os.environ, "DATABASE_URL": database_url(), "GATEHOUSE_DATA_DIR": str(settings.DATA_DIR)}
    done = subprocess.run(
        [sys.executable, "-c", f"import django; django.setup()\n{code}"],
        cwd=ROOT,
        env={**environment, "DJANGO_SETTINGS_MODULE": "gateway_project.settings"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
