"""Run the official conformance suite and read its checks."""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter
from pathlib import Path

from tests.support.node import clean_environment

# name -> package folder and the arguments that choose what is run
SUITES = {
    "0.1.16 active": ("conformance", ("--suite", "active")),
    "0.2 for 2025-11-25": ("conformance-next", ("--requirements", "2025-11-25")),
    "0.2 for 2026-07-28": ("conformance-next", ("--requirements", "2026-07-28")),
}
_STAMP = re.compile(r"-\d{4}-\d\d-\d\dT.*$")

# scenario -> (check id, status) -> how often
Outcome = dict[str, Counter[tuple[str, str]]]


def start(suite: str, url: str, *, node: str, modules: Path, folder: Path) -> subprocess.Popen[str]:
    """Start one suite against a server; its results land in `folder`."""
    package, arguments = SUITES[suite]
    program = modules / "@modelcontextprotocol" / package / "dist" / "index.js"
    folder.mkdir(parents=True)
    with (folder / "output").open("w") as output:
        return subprocess.Popen(
            [node, str(program), "server", "--url", url, *arguments, "-o", str(folder / "results")],
            env=clean_environment(),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
        )


def outcome(folder: Path) -> Outcome:
    """What a finished run found, check by check; raises AssertionError when it left no results."""
    found: Outcome = {}
    for file in sorted((folder / "results").rglob("checks.json")):
        scenario = _STAMP.sub("", file.parent.name).removeprefix("server-")
        checks = Counter((check["id"], check["status"]) for check in json.loads(file.read_text()))
        found[scenario] = found.get(scenario, Counter()) + checks
    assert found, (folder / "output").read_text()[-3000:]
    return found


def failing(found: Outcome) -> set[str]:
    """The scenarios with at least one failed check."""
    return {name for name, checks in found.items() if any(status == "FAILURE" for _, status in checks)}


def passed(found: Outcome) -> set[tuple[str, str, int]]:
    """Scenario, check and number of each check that passed; one may be made several times in a scenario."""
    return {
        (scenario, check, number)
        for scenario, checks in found.items()
        for (check, status), times in checks.items()
        if status == "SUCCESS"
        for number in range(times)
    }


def details(folder: Path, scenario: str) -> str:
    """The failed checks of a scenario, with the suite's own words, for the message of a failed test."""
    lines = []
    for file in (folder / "results").rglob("checks.json"):
        if _STAMP.sub("", file.parent.name).removeprefix("server-") == scenario:
            for check in json.loads(file.read_text()):
                if check["status"] != "SUCCESS":
                    text = check.get("errorMessage") or json.dumps(check.get("details"))
                    lines.append(f"  {check['id']} {check['status']}: {text}")
    return "\n".join(lines)
