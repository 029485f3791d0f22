"""Sealed texts open only where they belong, and only whole."""

from __future__ import annotations

import base64
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from servers.sealing import KeyRing, SealError, sealed_with

OLD_KEY, NEW_KEY = bytes(range(32)), bytes(range(100, 132))


def entry(key_id: str, key: bytes) -> str:
    return f"{key_id}:{base64.urlsafe_b64encode(key).decode()}"


RING = KeyRing.parse(entry("new", NEW_KEY) + "," + entry("old", OLD_KEY))
SEALER = RING.sealer("stored-secret")
SEALED = SEALER.seal(b"canary-plaintext", "table:row:field")


@pytest.mark.requirement("F-404", "T55")
@given(plaintext=st.binary(max_size=3000), context=st.text(max_size=80))
def test_what_is_sealed_opens_in_its_own_place(plaintext: bytes, context: str) -> None:
    assert SEALER.open(SEALER.seal(plaintext, context), context) == plaintext


@pytest.mark.requirement("T55")
@given(one=st.text(max_size=40), other=st.text(max_size=40))
def test_a_sealed_text_opens_in_no_other_place(one: str, other: str) -> None:
    if one == other:
        return
    with pytest.raises(SealError):
        SEALER.open(SEALER.seal(b"text", one), other)


@pytest.mark.requirement("SE-1")
def test_a_sealed_text_of_one_purpose_does_not_open_for_another() -> None:
    with pytest.raises(SealError):
        RING.sealer("session-id").open(SEALED, "table:row:field")


@pytest.mark.requirement("SE-1", "T40")
@given(
    position=st.integers(0, len(SEALED) - 1),
    replacement=st.sampled_from(string.ascii_letters + string.digits + "-_+/=: \n\x00é"),
)
@example(position=len(SEALED) - 1, replacement="A")
def test_no_character_of_a_sealed_text_can_be_changed(position: int, replacement: str) -> None:
    changed = SEALED[:position] + replacement + SEALED[position + 1 :]
    if changed == SEALED:
        return
    with pytest.raises(SealError):
        SEALER.open(changed, "table:row:field")


@pytest.mark.requirement("SE-1")
def test_another_spelling_of_the_same_bytes_is_refused() -> None:
    # 17 bytes with nonce and tag: the last character has bits that no byte uses.
    sealed = SEALER.seal(b"four", "c")
    alphabet = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
    twins = [sealed[:-1] + other for other in alphabet if other != sealed[-1]]
    twins += [sealed + "=", sealed + "==", sealed + "\n", sealed.replace("-", "+").replace("_", "/") + " "]
    for twin in twins:
        with pytest.raises(SealError):
            SEALER.open(twin, "c")


@pytest.mark.requirement("SE-1")
@given(st.text(max_size=200))
@example("v1:new:")
@example("v1:new:AAAA")
@example("v1:new:é")
@example("v1:new:A")
@example("v2:" + SEALED.partition(":")[2])
def test_whatever_is_not_a_sealed_text_raises_the_one_error(text: str) -> None:
    with pytest.raises(SealError):
        SEALER.open(text, "table:row:field")


def test_every_prefix_of_a_sealed_text_is_refused() -> None:
    for length in range(len(SEALED)):
        with pytest.raises(SealError):
            SEALER.open(SEALED[:length], "table:row:field")


@pytest.mark.requirement("SE-2", "F-404")
def test_the_first_key_seals_and_every_key_opens() -> None:
    before = KeyRing.parse(entry("old", OLD_KEY)).sealer("stored-secret").seal(b"text", "c")
    assert sealed_with(before) == "old"
    assert SEALER.open(before, "c") == b"text"
    assert sealed_with(SEALER.seal(b"text", "c")) == "new"
    with pytest.raises(SealError):
        KeyRing.parse(entry("new", NEW_KEY)).sealer("stored-secret").open(before, "c")


@pytest.mark.requirement("SE-1")
def test_the_id_of_the_key_is_part_of_what_is_sealed() -> None:
    ring = KeyRing.parse(entry("one", NEW_KEY) + "," + entry("two", NEW_KEY[::-1]) + "," + entry("three", OLD_KEY))
    renamed = KeyRing.parse(entry("two", NEW_KEY))
    sealed = ring.sealer("p").seal(b"text", "c")
    with pytest.raises(SealError):
        renamed.sealer("p").open(sealed.replace("v1:one:", "v1:two:"), "c")


def test_two_sealed_texts_of_one_plaintext_differ() -> None:
    assert SEALER.seal(b"text", "c") != SEALER.seal(b"text", "c")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "empty"),
        (" , \n", "empty"),
        ("no-colon", "<key id>"),
        ("bad id:AAAA", "<key id>"),
        (":AAAA", "<key id>"),
        ("a:!!!!", "not base64url"),
        ("a:AAAA", "has 3 bytes"),
        (entry("a", OLD_KEY) + "," + entry("a", NEW_KEY), "same id"),
    ],
)
def test_a_malformed_key_ring_is_refused_with_the_reason(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        KeyRing.parse(text)


@pytest.mark.requirement("T56")
def test_neither_errors_nor_representations_show_a_key() -> None:
    encoded = base64.urlsafe_b64encode(OLD_KEY).decode()
    with pytest.raises(ValueError, match="bytes") as caught:
        KeyRing.parse(f"a:{encoded[:-4]}")
    assert encoded[:10] not in str(caught.value)
    assert repr(KeyRing.parse(f"a:{encoded}")) == "KeyRing(a)"


def test_a_key_ring_may_stand_on_several_lines() -> None:
    ring = KeyRing.parse(f"\n{entry('b', NEW_KEY)}\n {entry('a', OLD_KEY).rstrip('=')} ,\n")
    assert [key_id for key_id, _ in ring.keys] == ["b", "a"]
    assert ring.sealing_key_id == "b"
