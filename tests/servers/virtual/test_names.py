"""What the items of a virtual server are called."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servers.virtual.names import LONGEST_NAME, shown_name
from servers.virtual.wanted import LONGEST_ALIAS, default_alias

pytestmark = pytest.mark.requirement("F-605", "T35")


def test_a_tool_is_called_by_its_members_prefix_or_by_its_own_name() -> None:
    assert shown_name("github", "create_issue") == "github__create_issue"
    assert shown_name("github", "create_issue", "new_issue") == "new_issue"
    assert shown_name("", "create_issue") == "create_issue"


@given(st.text(min_size=1, max_size=200), st.text(min_size=1, max_size=200))
def test_every_name_is_one_that_models_take_and_two_items_keep_two(one: str, other: str) -> None:
    first, second = shown_name("member", one), shown_name("member", other)
    assert 1 <= len(first) <= LONGEST_NAME
    assert first.isascii()
    assert all(letter.isalnum() or letter in "_.-" for letter in first)
    assert (first == second) == (one == other)


@pytest.mark.parametrize(
    ("slug", "taken", "alias"),
    [
        ("calculator", (), "calculator"),
        ("my-good-server", (), "my_good_server"),
        ("a--b", (), "a_b"),
        ("calculator", ("calculator",), "calculator_2"),
        ("calculator", ("calculator", "calculator_2"), "calculator_3"),
        ("a-server-with-quite-a-long-slug", (), "a_server_with_quite_a_lo"),
        ("a-server-with-quite-aa-long-slug", ("a_server_with_quite_aa_l",), "a_server_with_quite_aa_2"),
    ],
)
def test_a_prefix_is_made_of_the_slug(slug: str, taken: tuple[str, ...], alias: str) -> None:
    assert default_alias(slug, taken=taken) == alias
    assert len(alias) <= LONGEST_ALIAS
