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
    return finish(begin_elsewhere(code))


def begin_elsewhere(code: str) -> subprocess.Popen[str]:
    """The same without waiting. Code that says `input()` goes on from there with `finish`, or a line of its own."""
    environment = {**os.environ, "DATABASE_URL": database_url(), "GATEHOUSE_DATA_DIR": str(settings.DATA_DIR)}
    return subprocess.Popen(
        [sys.executable, "-c", f"import django; django.setup()\n{code}"],
        cwd=ROOT,
        env={**environment, "DJANGO_SETTINGS_MODULE": "gateway_project.settings"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def go_on(process: subprocess.Popen[str]) -> None:
    """Let code that waits in `input()` go on."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for the end; returns what was printed."""
    try:
        printed, complaints = process.communicate("\n", timeout=120)
    except BaseException:
        process.kill()
        process.wait(10)
        raise
    assert process.returncode == 0, complaints
    return printed
