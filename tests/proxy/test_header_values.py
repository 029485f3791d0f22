"""The Base64 sentinel of header values, compared with the SDK's own decoder."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mcp.shared.inbound import decode_header_value as sdk_decode
from mcp.shared.inbound import encode_header_value as sdk_encode

from proxy.header_values import decode_header_value

pytestmark = pytest.mark.requirement("SV-1", "T37")


@given(st.text(alphabet=st.characters(exclude_categories=("Cs",))))
def test_what_the_sdk_encodes_is_decoded_to_the_same_text(text: str) -> None:
    assert decode_header_value(sdk_encode(text)) == text


pieces = st.sampled_from(
    ["=?base64?", "?=", "YWRk", "YW", "YQ==", "YR==", "=", "add", " ", "é", "4pyT", "/w==", "-_", "?"]
)


@given(st.lists(pieces, max_size=5).map("".join) | st.text(max_size=20))
@example("=?base64?=")
@example("=?base64??=")
def test_every_value_is_decoded_as_the_sdk_decodes_it_or_not_at_all(value: str) -> None:
    ours = decode_header_value(value)
    if ours is not None:
        assert ours == sdk_decode(value)


@pytest.mark.parametrize(
    "value",
    ["=?base64?YWR?=", "=?base64?YR==?=", "=?base64?Y W R k?=", "=?base64?/w==?=", "=?base64?YWRk=?=", "=?base64?é?="],
)
def test_a_sentinel_with_anything_but_canonical_base64_of_utf8_stands_for_nothing(value: str) -> None:
    assert decode_header_value(value) is None


@pytest.mark.parametrize(
    "value", ["", "add", "=?base64?", "?=", "=?BASE64?YWRk?=", "x=?base64?YWRk?=", "=?base64?YWRk?=x"]
)
def test_a_value_without_the_whole_sentinel_stands_for_itself(value: str) -> None:
    assert decode_header_value(value) == value


def test_empty_base64_stands_for_the_empty_text() -> None:
    assert decode_header_value("=?base64??=") == ""
