"""A throwaway PostgreSQL cluster: `with running_postgres() as url:`. Nothing of it is left afterwards."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

_FAST = {
    "listen_addresses": "",  # the socket in the temporary folder is the only way in
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "100",
}


def find_programs() -> Path | None:
    """The folder with initdb and pg_ctl of the newest PostgreSQL on this machine, or None."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4].split(".")[0]))
    if debian:
        return debian[-1].parent
    found = shutil.which("initdb")
    return Path(found).resolve().parent if found else None


@contextmanager
def running_postgres(programs: Path) -> Iterator[str]:
    """Start a cluster of its own and yield its database URL.

    As root it runs as `nobody`, since PostgreSQL refuses root. Raises CalledProcessError with the program's
    own words when it does not start.
    """
    # A short path: a socket's name has room for about a hundred characters.
    with tempfile.TemporaryDirectory(prefix="gh-pg-", dir="/tmp") as name:
        folder = Path(name)
        user, group = ("nobody", "nogroup") if os.geteuid() == 0 else (None, None)
        if user and group:
            shutil.chown(folder, user, group)
        data, socket_folder = folder / "data", folder

        def run(*command: str) -> None:
            subprocess.run(
                command,
                check=True,
                cwd=folder,
                stdout=subprocess.DEVNULL,
                stdin=subprocess.DEVNULL,
                user=user,
                group=group,
            )

        run(
            str(programs / "initdb"),
            f"--pgdata={data}",
            "--username=gatehouse",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        )
        options = " ".join(f"-c {key}={value or repr(value)}" for key, value in _FAST.items())
        control = (str(programs / "pg_ctl"), f"--pgdata={data}", "--wait", "--silent")
        run(*control, f"--log={folder / 'log'}", f"--options=-k {socket_folder} {options}", "start")
        try:
            yield f"postgres://gatehouse@{quote(str(socket_folder), safe='')}/postgres"
        finally:
            run(*control, "--mode=immediate", "stop")
