"""Header templates with placeholders: what an admin may write, what a person may enter, what comes out."""

from __future__ import annotations

import pytest
from django.core.exceptions import ValidationError

from servers.own_header import BadTemplate, OwnHeaderSettings, Placeholder, ValueMissing, check, clean_value

BEARER = OwnHeaderSettings((("Authorization", "Bearer {{API_KEY}}"),))


def one(settings: OwnHeaderSettings = BEARER) -> Placeholder:
    return settings.placeholders()[0]


def plain(text: str) -> str:
    return text


@pytest.mark.requirement("F-308")
def test_each_placeholder_is_asked_for_once_with_its_label() -> None:
    found = OwnHeaderSettings(
        (("Authorization", "Basic {{USER_ID}}:{{API_KEY}}"), ("X-Key", "{{ API_KEY }}"), ("X-Team", "{{TEAM}}")),
        {"TEAM": "Team, as in the address bar"},
    )
    assert check(found) is found
    assert [(asked.name, asked.label) for asked in found.placeholders()] == [
        ("USER_ID", "User ID"),
        ("API_KEY", "API key"),
        ("TEAM", "Team, as in the address bar"),
    ]
    assert found.fill({"USER_ID": "u", "API_KEY": "k", "TEAM": "t"}, resolve=plain) == [
        ("Authorization", "Basic u:k"),
        ("X-Key", "k"),
        ("X-Team", "t"),
    ]
    assert OwnHeaderSettings.read(found.stored()) == found


@pytest.mark.requirement("F-308")
def test_a_value_that_was_never_entered_makes_no_header() -> None:
    with pytest.raises(ValueMissing, match="API_KEY"):
        BEARER.fill({"OTHER": "x"}, resolve=plain)


@pytest.mark.requirement("F-308", "T55")
def test_only_the_admins_own_text_is_searched_for_references() -> None:
    found = OwnHeaderSettings((("X-Both", "secret://default:a:b;{{API_KEY}}"),))
    resolved: list[str] = []

    def resolve(text: str) -> str:
        resolved.append(text)
        return "shared;"

    value = "secret://default:payroll:key {{API_KEY}}"
    assert found.fill({"API_KEY": value}, resolve=resolve) == [("X-Both", f"shared;{value}")]
    assert resolved == ["secret://default:a:b;"]


@pytest.mark.requirement("F-308", "T53")
@pytest.mark.parametrize(
    ("headers", "labels", "said"),
    [
        ((), {}, "at least one header"),
        ((("Authorization", "Bearer secret://default:a:b"),), {}, "No header has a placeholder"),
        ((("Authorization", "Bearer {{API KEY}}"),), {}, "write a placeholder as {{NAME}}"),
        ((("Authorization", "Bearer {{API_KEY}"),), {}, "write a placeholder as {{NAME}}"),
        ((("Authorization", "Bearer {{1}}"),), {}, "beginning with a letter"),
        ((("Host", "{{API_KEY}}"),), {}, "set by the gateway itself"),
        ((("X Key", "{{API_KEY}}"),), {}, "letters, digits and hyphens"),
        ((("X-Key", "{{API_KEY}}\r\nX-Evil: 1"),), {}, "without line breaks"),
        ((("X-Key", "secret://only:two {{API_KEY}}"),), {}, "the reference is malformed"),
        ((("X-Key", "{{A}}"), ("x-key", "{{B}}")), {}, "stands twice"),
        ((("X-Key", "{{A}}"),), {"B": "What"}, "belongs to no placeholder"),
        ((("X-Key", "{{A}}"),), {"A": "two\nlines"}, "has to be one line"),
        (tuple((f"X-{n}", "{{A}}") for n in range(21)), {}, "No more than 20 headers"),
        ((("X-Key", "".join(f"{{{{A{n}}}}}" for n in range(21))),), {}, "No more than 20 placeholders"),
    ],
)
def test_templates_that_cannot_work_are_refused_with_what_to_write_instead(
    headers: tuple[tuple[str, str], ...], labels: dict[str, str], said: str
) -> None:
    with pytest.raises(BadTemplate) as refused:
        check(OwnHeaderSettings(headers, labels))
    assert said in str(refused.value)


@pytest.mark.requirement("F-308")
@pytest.mark.parametrize(
    ("typed", "kept", "noted"),
    [
        ("key-1", "key-1", ""),
        ("  key-1\n", "key-1", ""),
        ("Bearer key-1", "key-1", "“Bearer” in front of it was left out"),
        ("bearer   key-1 ", "key-1", "“Bearer” in front of it was left out"),
        ("Authorization: Bearer key-1", "key-1", "“Bearer” in front of it was left out"),
        ("authorization:key-1", "key-1", "“Authorization” in front of it was left out"),
        ("Bearerkey-1", "Bearerkey-1", ""),
        ("key with blanks", "key with blanks", ""),
    ],
)
def test_blanks_and_a_prefix_that_the_template_has_already_are_taken_off(typed: str, kept: str, noted: str) -> None:
    found = clean_value(one(), typed)
    assert found.value == kept
    assert noted in found.note
    assert bool(found.note) == bool(noted)
    assert kept not in repr(found)


@pytest.mark.requirement("F-308")
def test_a_scheme_is_left_alone_where_the_template_has_none() -> None:
    asked = one(OwnHeaderSettings((("X-Key", "{{API_KEY}}"),)))
    assert clean_value(asked, "Bearer key-1").value == "Bearer key-1"


@pytest.mark.requirement("F-308", "T53")
@pytest.mark.parametrize(
    "typed",
    ["", "  ", "Bearer ", "canary\r\nX-Evil: 1", "canary\0", "canary\u00e9", "canary\x7f", "canary\t1", "c" * 4097],
)
def test_a_value_that_no_header_may_hold_is_refused_without_repeating_it(typed: str) -> None:
    with pytest.raises(ValidationError) as refused:
        clean_value(one(), typed)
    assert "canary" not in str(refused.value)
