"""The parser of challenges: what the grammar allows, and nothing else."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authflows.outbound.challenge import BadChallenge, Challenge, bearer, parse

pytestmark = pytest.mark.requirement("CL-1")

PRM = "https://mcp.example/.well-known/oauth-protected-resource"


@pytest.mark.parametrize(
    ("field", "found"),
    [
        ("", []),
        (" , ,", []),
        ("Bearer", [("bearer", {})]),
        ("bearer  ,", [("bearer", {})]),
        ('Bearer realm="x"', [("bearer", {"realm": "x"})]),
        (f'Bearer error="invalid_token",Resource_Metadata="{PRM}"',
         [("bearer", {"error": "invalid_token", "resource_metadata": PRM})]),
        ("Bearer scope=read , realm = y", [("bearer", {"scope": "read", "realm": "y"})]),
        ('Basic realm="a, b", Bearer scope="read write"',
         [("basic", {"realm": "a, b"}), ("bearer", {"scope": "read write"})]),
        ('Negotiate, Bearer realm="x"', [("negotiate", {}), ("bearer", {"realm": "x"})]),
        ('Negotiate YIIabc==, Bearer realm="x"', [("negotiate", {}), ("bearer", {"realm": "x"})]),
        (r'Bearer realm="say \"hi\" \\ there"', [("bearer", {"realm": 'say "hi" \\ there'})]),
        ('Bearer realm="Basic realm=\\"y\\""', [("bearer", {"realm": 'Basic realm="y"'})]),
        ('Bearer realm="x",', [("bearer", {"realm": "x"})]),
    ],
)  # fmt: skip
def test_well_formed_challenges_are_read(field: str, found: list[tuple[str, dict[str, str]]]) -> None:
    assert parse(field) == tuple(Challenge(scheme, parameters) for scheme, parameters in found)


@pytest.mark.parametrize(
    "field",
    [
        'Bearer realm="x", realm="y"',
        'Bearer realm="x", REALM="y"',
        'Bearer realm="x',
        'Bearer realm="x"; scope="y"',
        'Bearer realm="x" scope="y"',
        "Bearer realm=, x=1",
        'Bearer "x"',
        "Bearer,realm=x",
        '="x"',
        "Bearer realm=\x00",
        'Bearer realm="\x01"',
        f'Bearer resource_metadata="{PRM}" extra',
        "Bearer " + "a" * 9000,
    ],
)
def test_anything_else_is_no_challenge(field: str) -> None:
    with pytest.raises(BadChallenge):
        parse(field)
    assert bearer(field) is None


def test_of_several_bearer_challenges_the_one_with_metadata_counts() -> None:
    assert bearer(f'Bearer realm="a", DPoP algs="ES256", Bearer resource_metadata="{PRM}"') == {
        "resource_metadata": PRM
    }
    assert bearer('Bearer realm="a", Bearer realm="b"') == {"realm": "a"}
    assert bearer('Basic realm="a"') is None


@given(st.text(st.characters(max_codepoint=255), max_size=200))
def test_no_text_makes_the_parser_fail_in_another_way(field: str) -> None:
    with contextlib.suppress(BadChallenge):
        parse(field)


_WORDS = st.text("abcdefgXYZ019-_", min_size=1, max_size=8)
_VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)


@given(st.lists(st.tuples(_WORDS, st.dictionaries(_WORDS.map(str.lower), _VALUES, min_size=1, max_size=3)), max_size=3))
def test_what_is_written_comes_back(challenges: list[tuple[str, dict[str, str]]]) -> None:
    def quoted(value: str) -> str:
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'

    field = ", ".join(
        f"{scheme} " + ", ".join(f"{name}={quoted(value)}" for name, value in parameters.items())
        for scheme, parameters in challenges
    )
    assert parse(field) == tuple(Challenge(scheme.lower(), parameters) for scheme, parameters in challenges)
