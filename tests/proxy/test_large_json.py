"""Large and deep JSON, read piece by piece: the same values as at once, and an end to every depth."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.large_json import DEEPEST, load

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
PADDING = " \t\r\n" * 20_000  # so much that it is read in pieces


@given(value=JSON, indent=st.sampled_from([None, 1]))
def test_every_value_is_read_as_it_is_read_at_once(value: Any, indent: int | None) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    encoded = (PADDING + text + PADDING).encode("utf-8", "surrogatepass")
    try:
        expected = json.loads(encoded)
    except ValueError:
        with pytest.raises(ValueError, match=r"."):
            load(encoded)
        return
    assert load(encoded) == expected


@given(text=st.text(alphabet='[]{}:,"\\ab01 -.e', max_size=40))
def test_what_is_no_json_is_refused_in_pieces_too(text: str) -> None:
    encoded = (PADDING + text + PADDING).encode()
    try:
        expected = json.loads(encoded)
    except ValueError:
        with pytest.raises(ValueError, match=r"."):
            load(encoded)
        return
    assert load(encoded) == expected


@pytest.mark.parametrize(
    "data", [b"", PADDING.encode(), b"\xff" * 70_000, b'{"a":' + b" " * 70_000, b"[1,]" + b" " * 70_000]
)
def test_broken_data_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        load(data)


@pytest.mark.requirement("T36")
@pytest.mark.parametrize("levels", [2_000, 100_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"}{\\"":', "}")])
def test_an_item_without_end_costs_neither_the_others_nor_the_stack(levels: int, opening: str, closing: str) -> None:
    bomb = opening * levels + "1" + closing * levels
    message = f'{{"id": 1, "result": {{"tools": [{{"name": "a"}}, {bomb}, {{"name": "b"}}], "nextCursor": "x"}}}}'
    found = load(message.encode())["result"]
    assert (found["tools"][0], found["tools"][2], found["nextCursor"]) == ({"name": "a"}, {"name": "b"}, "x")
    depth, inner = 0, found["tools"][1]
    while inner:
        depth, inner = depth + 1, inner[0] if isinstance(inner, list) else inner['}{"']
    assert (depth, inner) == (DEEPEST, None)


def test_of_a_large_list_only_what_is_wanted_of_each_item_is_kept() -> None:
    message = {"result": {"tools": [{"name": "a"}, {"name": "b"}, "c", [{"name": "d"}]], "names": {"x": [{}]}}}
    for text in (json.dumps(message), PADDING + json.dumps(message)):
        found = load(text.encode(), item=lambda one: one["name"].upper())
    assert found == {"result": {"tools": ["A", "B", "c", [{"name": "d"}]], "names": {"x": [{}]}}}
    assert load(json.dumps(message).encode(), item=lambda one: None) == message, "a small one is as it is"


def test_a_depth_without_end_outside_of_any_item_has_an_end_too() -> None:
    assert load(b"[" * 50_000 + b"]" * 50_000)
    for broken in (b"[" * 50_000, b"{" + b"[" * 50_000 + b"]" * 50_000 + b":1}", b'{"a":' * 50_000):
        with pytest.raises(ValueError, match=r"."):
            load(broken + PADDING.encode())
