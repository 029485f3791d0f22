"""A pytest plugin: after a run of the whole suite, which requirement is proven by how many tests, and which by none.

`--requirements` prints it after any run.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest

from tests.requirements import EXPECTED, KNOWN, MISSING_TESTS_FAIL, NOT_BUILT

_tests_of: dict[str, set[str]] = defaultdict(set)
_outcomes: dict[str, set[str]] = defaultdict(set)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--requirements", action="store_true", help="print which requirement is proven by which tests")


def pytest_itemcollected(item: pytest.Item) -> None:
    for marker in item.iter_markers("requirement"):
        for requirement in marker.args:
            _tests_of[requirement].add(_name(item.nodeid))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" or report.outcome != "passed":
        _outcomes[_name(report.nodeid)].add(report.outcome)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if not (_whole_suite(config) or config.getoption("--requirements")):
        return
    write = terminalreporter.write_line
    terminalreporter.section("requirements")
    for requirement, words in KNOWN.items():
        tests = _tests_of.get(requirement, set())
        if tests or requirement in EXPECTED:
            write(f"{requirement:<6} {_tally(tests):<30} {words}")
    missing = _missing()
    for requirement, why in NOT_BUILT.items():
        write(f"{requirement:<6} {'not built':<30} {why}")
    write(f"{len(EXPECTED) - len(missing)} of {len(EXPECTED)} requirements have a test.")
    if missing:
        write(f"No test yet: {', '.join(missing)}", yellow=True)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """One of the processes that tests were spread over (pytest-xdist) has ended: what it found is found here too."""
    for requirement, tests in getattr(node, "workeroutput", {}).get("requirements", {}).items():
        _tests_of[requirement].update(tests)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["requirements"] = {name: list(tests) for name, tests in _tests_of.items()}
    elif MISSING_TESTS_FAIL and exitstatus == 0 and _whole_suite(session.config) and _missing():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _missing() -> list[str]:
    return [requirement for requirement in EXPECTED if not _tests_of.get(requirement)]


def _tally(tests: set[str]) -> str:
    if not tests:
        return "no test yet"
    counts = {"passed": 0, "failed": 0, "skipped": 0, "not run": 0}
    for test in tests:
        seen = _outcomes.get(test, set())
        counts[next((kind for kind in ("failed", "passed", "skipped") if kind in seen), "not run")] += 1
    return ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)


def _name(nodeid: str) -> str:
    """The test without its parameters: a table is one test."""
    return nodeid.partition("[")[0]


def _whole_suite(config: pytest.Config) -> bool:
    from_configuration = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    marked: str = config.getoption("markexpr")
    return from_configuration and not config.getoption("keyword") and (not marked or marked.startswith("not "))
