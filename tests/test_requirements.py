"""Tests and requirements know each other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.requirements import (
    AUTHORIZATION,
    EARLY,
    EXPECTED,
    FEATURES,
    KNOWN,
    NOT_BUILT,
    RESOURCE,
    SERVER,
    SESSIONS,
    THREATS,
    UPSTREAM,
)

TESTS = Path(__file__).resolve().parent


def used_ids() -> Iterator[tuple[str, str]]:
    """Each id that a test names, with file and line."""
    for path in sorted(TESTS.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.requirement":
                for argument in node.args:
                    assert isinstance(argument, ast.Constant), f"{path}:{node.lineno}: write the id itself"
                    yield str(argument.value), f"{path.relative_to(TESTS.parent)}:{node.lineno}"


def test_every_id_that_a_test_names_is_a_known_requirement() -> None:
    used = list(used_ids())
    assert len({requirement for requirement, _ in used}) > 20
    unknown = [f"{place}: {requirement}" for requirement, place in used if requirement not in KNOWN]
    assert not unknown, "\n".join(unknown)


def test_every_requirement_has_an_id_of_its_own_and_words() -> None:
    groups = (FEATURES, RESOURCE, AUTHORIZATION, UPSTREAM, SERVER, SESSIONS, THREATS, EARLY)
    assert len(KNOWN) == sum(len(group) for group in groups)
    assert len(EXPECTED) == len(KNOWN) - len(EARLY)
    for requirement, words in KNOWN.items():
        assert re.fullmatch(r"F-\d{3}|(RS|SV|SE|AZ|CL)-\d{1,2}|T\d{1,2}", requirement)
        assert 10 < len(words) <= 110


def test_what_is_not_built_says_why_and_is_proven_by_nothing() -> None:
    assert not NOT_BUILT.keys() & KNOWN.keys()
    assert not NOT_BUILT.keys() & {requirement for requirement, _ in used_ids()}
    assert all(len(why) > 30 for why in NOT_BUILT.values())
