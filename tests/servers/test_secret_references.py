"""Secret references: what is one, what only looks like one, and texts that hold some."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servers.secrets.references import (
    BadReference,
    EnvironmentReference,
    FileReference,
    Reference,
    StoredReference,
    parse_reference,
    references_in,
    split_template,
)

pytestmark = pytest.mark.requirement("F-401")

SLUGS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
KEYS = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,20}[A-Za-z0-9])?", fullmatch=True)
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,20}", fullmatch=True)
SEGMENTS = st.from_regex(r"[A-Za-z0-9_-]{1,10}(\.[a-z]{1,3})?", fullmatch=True)
REFERENCES = st.one_of(
    st.builds(StoredReference, SLUGS, SLUGS, KEYS),
    st.builds(EnvironmentReference, NAMES),
    st.lists(SEGMENTS, min_size=1, max_size=4).map(lambda parts: FileReference("/" + "/".join(parts))),
)
# What may stand around a reference: nothing that a reference could go on with.
AROUND = st.text(alphabet=" ,;=<>()[]{}'\"$&?äß€", max_size=8)


@given(REFERENCES)
def test_a_reference_reads_back_as_it_is_written(reference: Reference) -> None:
    assert parse_reference(str(reference)) == reference


@given(tenant=SLUGS, group=SLUGS, key=KEYS)
def test_the_older_spelling_means_the_same(tenant: str, group: str, key: str) -> None:
    older = parse_reference(f"tfy-secret://{tenant}:{group}:{key}")
    assert older == StoredReference(tenant, group, key)
    assert str(older).startswith("secret://")


@given(st.text(max_size=60))
def test_any_text_is_a_reference_or_raises_the_one_error(text: str) -> None:
    try:
        reference = parse_reference(text)
    except BadReference:
        return
    assert parse_reference(str(reference)) == reference


@given(st.lists(st.tuples(AROUND, REFERENCES), max_size=4), AROUND)
def test_a_template_is_cut_at_its_references_and_nothing_is_lost(
    pieces: list[tuple[str, Reference]], tail: str
) -> None:
    # Two references in a row need something between them.
    template = "".join(f"{around} {reference} " for around, reference in pieces) + tail
    parts = split_template(template)
    assert "".join(str(part) for part in parts) == template
    assert references_in(template) == [reference for _, reference in pieces]
    assert all(part for part in parts)


@given(st.text(alphabet=st.characters(exclude_characters="/"), max_size=60))
def test_a_text_without_a_reference_stays_one_piece(text: str) -> None:
    assert split_template(text) == ([text] if text else [])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "secret://",
        "secret://one",
        "secret://one:two",
        "secret://one:two:",
        "secret://:two:three",
        "secret://one:two:three:four",
        "secret://One:two:three",
        "secret://one:two:three/four",
        "secret://one/two/three",
        "secret://one:two:three ",
        " secret://one:two:three",
        "secret://one:two:three\n",
        "secret:one:two:three",
        "SECRET://one:two:three",
        "secret://one:two:" + "x" * 101,
        "secret://" + "x" * 64 + ":two:three",
        "vault://one:two:three",
        "tfy-secret://one",
        "env://",
        "env://1NAME",
        "env://NA-ME",
        "env://NAME:",
        "env://A/B",
        "file://",
        "file://relative/path",
        "file://host/path",
        "file:///a/../b",
        "file:///..",
        "file:///a\x00b",
        "file:///a b",
        "file:///%2e%2e/etc/passwd",
        "secret://ο:two:three",
        "env://NAMÉ",
    ],
)
def test_what_only_looks_like_a_reference_is_refused(text: str) -> None:
    with pytest.raises(BadReference):
        parse_reference(text)


@pytest.mark.parametrize(
    "template", ["Bearer secret://one:two", "a env:// env://1", "x file://relative y", "secret://a:b:c/d"]
)
def test_a_malformed_reference_in_a_text_is_refused_rather_than_sent(template: str) -> None:
    with pytest.raises(BadReference):
        split_template(template)


def test_a_path_may_hold_dots_that_do_not_climb() -> None:
    assert parse_reference("file:///run/..data/a..b") == FileReference("/run/..data/a..b")
