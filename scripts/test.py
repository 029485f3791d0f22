"""What `make test` runs: every check and every test, cheapest first, stopping at the first that fails.

Installs Chromium and PostgreSQL where it may (as root, with apt); Node comes with the development packages.
What is missing all the same is left out and named at the end; with CI=true that is a failure instead.
`--lint` runs the checks without the tests.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from xml.etree import ElementTree

from gateway_project.keys import write_missing_keys
from scripts.postgres import find_programs, running_postgres

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
IN_CI = os.environ.get("CI") == "true"
# The tests that run once more on PostgreSQL, besides those marked `postgres`.
ON_POSTGRES = ("tests/servers", "tests/authflows", "tests/gateway_project")
# Of these, what starts programs with a database of their own.
NOT_ON_POSTGRES = ("tests/gateway_project/test_settings.py",)
_CLOSING = re.compile(r"=+ .*(passed|failed|error|skipped|no tests ran|deselected).* =+")


class Failed(Exception):
    """A step did not succeed; the text says which."""


class Run:
    """One run of this script: its environment, what it left out, and the closing lines of the tests."""

    def __init__(self, data_folder: Path) -> None:
        write_missing_keys(data_folder)
        kept = {key: value for key, value in os.environ.items() if not key.startswith("GATEHOUSE_")}
        kept.pop("DATABASE_URL", None)
        self.environment = {
            **kept,
            "PATH": f"{BIN}{os.pathsep}{kept.get('PATH', os.defpath)}",
            "GATEHOUSE_DATA_DIR": str(data_folder),
            # As in production, so that `check --deploy` sees what an operator would.
            "GATEHOUSE_PUBLIC_URL": "https://gatehouse.example.com",
        }
        self.data_folder = data_folder
        self.left_out: list[str] = []
        self.closing: list[str] = []

    def step(
        self,
        title: str,
        *command: str,
        extra: Mapping[str, str] | None = None,
        good: Sequence[int] = (0,),
        aside: bool = False,
    ) -> None:
        """Run one command, its output shown as it comes, or `aside` at its end. Raises Failed."""
        lines = [f"--- {title}\n"]
        if not aside:
            print(lines.pop(), end="", flush=True)
        began = time.monotonic()
        with subprocess.Popen(
            command,
            cwd=ROOT,
            env={**self.environment, **(extra or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            assert process.stdout is not None
            closing = ""
            for line in process.stdout:
                if aside:
                    lines.append(line)
                else:
                    print(line, end="", flush=True)
                closing = line.strip() if _CLOSING.search(line) else closing
        print("".join(lines), end="", flush=True)
        if closing:
            self.closing.append(f"{title}: {closing.strip('= ')}")
        if process.returncode not in good:
            raise Failed(f"{title} (exit code {process.returncode})")
        print(f"    {time.monotonic() - began:.0f} s", flush=True)

    def leave_out(self, what: str) -> None:
        """Name something that is not run; in CI that is a failure."""
        self.left_out.append(what)
        if IN_CI:
            raise Failed(what)

    def pytest(self, title: str, *arguments: str, database_url: str = "", aside: bool = False) -> None:
        """Run pytest and collect what it skipped."""
        report = self.data_folder / f"{title.replace(' ', '-')}.xml"
        report.unlink(missing_ok=True)
        extra = {"DATABASE_URL": database_url} if database_url else {}
        try:
            command = (sys.executable, "-m", "pytest", f"--junitxml={report}", *arguments)
            self.step(title, *command, extra=extra, good=(0, 5), aside=aside)
        finally:
            skipped = _skipped(report)
        for reason, count in skipped.items():
            if not (database_url and "SQLite" in reason):
                self.leave_out(f"{title}: {count} test(s) skipped: {reason}")


def _skipped(report: Path) -> Counter[str]:
    if not report.exists():
        return Counter()
    # Our own pytest has just written the file.
    return Counter(item.get("message", "") for item in ElementTree.parse(report).iter("skipped"))


def lint(run: Run) -> None:
    """Style, types, imports, migrations, deployment checks."""
    with ThreadPoolExecutor(1) as beside:
        types = beside.submit(run.step, "mypy", str(BIN / "mypy"), ".", aside=True)
        run.step("ruff check", str(BIN / "ruff"), "check", ".")
        run.step("ruff format", str(BIN / "ruff"), "format", "--check", ".")
        run.step("import direction", str(BIN / "lint-imports"))
        run.step("missing migrations", sys.executable, "manage.py", "makemigrations", "--check", "--dry-run")
        run.step("OpenAPI document", sys.executable, "-m", "scripts.openapi", "--check")
        run.step("check --deploy", sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING")
        types.result()


def test(run: Run) -> None:
    """All tests on SQLite, in two processes, and beside them what touches the database on PostgreSQL.

    Three at a time keep two cores busy, since tests wait half of their time: for a stream, a browser, a peer.
    """
    install_programs(run)
    programs = find_programs()
    if not programs:
        run.leave_out("tests on PostgreSQL: there is no PostgreSQL here (Debian: apt install postgresql)")
    with ThreadPoolExecutor(1) as beside:
        on_postgres = beside.submit(test_on_postgres, run, programs) if programs else None
        # A file at a time, since what a file starts is shared by its tests.
        # In their order: by default files of few tests come last, and those that look at every page are long.
        in_two = ("--numprocesses=2", "--dist=loadfile", "--no-loadscope-reorder")
        run.pytest("tests on SQLite", "-m", "not postgres", *in_two)
        if on_postgres:
            on_postgres.result()


def test_on_postgres(run: Run, programs: Path) -> None:
    """What touches the database, and what is marked `postgres` elsewhere, on a PostgreSQL of its own."""
    ignored = [f"--ignore={file}" for file in NOT_ON_POSTGRES]
    with running_postgres(programs) as url:
        run.pytest("tests on PostgreSQL", *ON_POSTGRES, *ignored, database_url=url, aside=True)
        elsewhere = [f"--ignore={folder}" for folder in ON_POSTGRES]
        run.pytest("tests marked postgres", "-m", "postgres", *elsewhere, "tests", database_url=url, aside=True)


def install_programs(run: Run) -> None:
    """Chromium, PostgreSQL and curl through apt, where this process may; the tests say what they miss."""
    missing = [] if shutil.which("curl") else ["curl"]
    if not (shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")):
        missing.append("chromium")
    if find_programs() is None:
        missing.append("postgresql")
    if not missing or os.geteuid() != 0 or not shutil.which("apt-get"):
        return
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        run.step("package lists", "apt-get", "update", "-qq", extra=quiet)
        names = ", ".join(missing)
        run.step(
            f"install {names}", "apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing, extra=quiet
        )
    except Failed as error:
        print(f"Could not install: {error}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lint", action="store_true", help="only the checks, no tests")
    only_lint = parser.parse_args().lint
    began = time.monotonic()
    failure = ""
    with tempfile.TemporaryDirectory(prefix="gatehouse-checks-") as folder:
        run = Run(Path(folder))
        try:
            lint(run)
            if not only_lint:
                test(run)
        except Failed as error:
            failure = str(error)
    print(f"\n{'-' * 80}")
    for line in run.closing:
        print(line)
    for line in run.left_out:
        print(f"Left out: {line}")
    seconds = time.monotonic() - began
    print(f"FAILED: {failure} ({seconds:.0f} s)" if failure else f"All good ({seconds:.0f} s).")
    return 1 if failure else 0


if __name__ == "__main__":
    sys.exit(main())
