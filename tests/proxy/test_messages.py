"""What of a body goes upstream, and what policy reads of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mcp.shared.inbound import InboundLadderRejection, classify_inbound_request

from proxy.messages import (
    HEADER_MISMATCH,
    INVALID_PARAMS,
    INVALID_REQUEST,
    PARSE_ERROR,
    Kind,
    Message,
    Rejected,
    peek,
)
from tests.support.calls import CAPABILITIES_KEY, LEGACY, MODERN, VERSION_KEY, message, modern, tool_call


def peeked(body: Any, **headers: str) -> Message | Rejected:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return peek({name.replace("_", "-").encode(): value.encode("latin-1") for name, value in headers.items()}, data)


def routing(body: dict[str, Any], **changed: str | None) -> dict[str, str]:
    """The headers of a modern tools/call, some replaced, some (None) left out."""
    headers = {"mcp_protocol_version": MODERN, "mcp_method": body["method"]}
    if "name" in body["params"]:
        headers["mcp_name"] = body["params"]["name"]
    return {name: value for name, value in {**headers, **changed}.items() if value is not None}


CALL = modern("tools/call", {"name": "add", "arguments": {}})


# One JSON-RPC message


@pytest.mark.requirement("T38")
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        b'{"jsonrpc":"2.0","id":1,"method":"tools/list","method":"tools/call"}',
        b'{"jsonrpc":"2.0","id":1,"method":"tools/list","m\\u0065thod":"tools/call"}',
        b'{"id":1,"id":2,"method":"tools/list"}',
        b'{"id":1,"method":"tools/call","params":{"name":"safe","name":"danger"}}',
        b'{"id":1,"method":"tools/call","params":{"name":"x","arguments":{"deep":[{"a":1,"a":2}]}}}',
        b'\xef\xbb\xbf{"id":1,"method":"ping"}',
        '{"id":1,"method":"ping"}'.encode("utf-16"),
        b'{"id":1,"method":"p\xffing"}',
        b'{"id":1,"method":"p\xed\xa0\x80ing"}',
        b'{"id":1,"method":"p\xc0\xafing"}',
        b'{"id":1,"method":"\\ud800"}',
        b'{"id":1,"method":"\\udc00\\ud800"}',
        b'{"id":1,"method":"ping","params":{"x":NaN}}',
        b'{"id":1,"method":"ping","params":{"x":-Infinity}}',
        b'{"id":01,"method":"ping"}',
        b'{"id":1,"method":"ping",}',
        b'{"id":1,"method":"ping"} {}',
        b'{"id":1,"method":"ping"}\x00',
        b'{"id":1,"method":"pi\x01ng"}',
        b"{'id':1,'method':'ping'}",
        b'{"id":1,/* */"method":"ping"}',
        b'{"id":1,"method":"ping","params":' + b"[" * 5000 + b"]" * 5000 + b"}",
        b"[" * 100_000,
        b'{"id":1,"method":"ping","params":{"x":' + b"9" * 5000 + b"}}",
    ],
    ids=lambda body: body[:40].decode("latin-1"),
)
def test_a_body_that_two_parsers_could_read_differently_is_refused(body: bytes) -> None:
    found = peeked(body)
    assert isinstance(found, Rejected)
    assert found.code == PARSE_ERROR


@pytest.mark.requirement("T38")
@pytest.mark.parametrize(
    "body",
    [
        b'{"jsonrpc":"2.0","id":1,"method":"tools/list","Method":"tools/call"}',
        b'{"jsonrpc":"2.0","id":1,"METHOD":"tools/call","method":"tools/list"}',
        b'{"id":1,"ID":2,"method":"tools/list"}',
        b'{"id":1,"method":"tools/list","param\xc5\xbf":{"name":"danger"}}',
        b'{"id":1,"method":"tools/call","params":{"name":"safe","Name":"danger"}}',
        b'{"id":1,"method":"resources/read","params":{"uri":"a://safe","URI":"a://danger"}}',
        b'{"id":1,"method":"tools/call","params":{"name":"safe"},"Params":{"name":"danger"}}',
        b'{"id":1,"method":"tools/call","params":{"name":"x","_Meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}',
    ],
    ids=lambda body: body[:60].decode("latin-1"),
)
def test_keys_that_a_case_insensitive_parser_would_take_for_others_are_refused(body: bytes) -> None:
    found = peeked(body)
    assert isinstance(found, Rejected)
    assert found.code == INVALID_REQUEST


def test_keys_of_arguments_may_differ_in_case_only() -> None:
    assert isinstance(peeked(tool_call("add", {"name": 1, "Name": 2, "METHOD": 3})), Message)


scalars = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=20)
names = st.sampled_from(["jsonrpc", "id", "method", "params", "result", "name", "uri", "_meta", "Method", "other"])
values = st.recursive(
    scalars | st.sampled_from(["tools/call", "tools/list", "resources/read", "initialize"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names | st.text(max_size=5), inner, max_size=5),
    max_leaves=15,
)
bodies = st.builds(
    lambda value, ascii_only, spaces: json.dumps(value, ensure_ascii=ascii_only, indent=spaces).encode(
        "utf-8", "surrogatepass"
    ),
    st.dictionaries(names, values, max_size=6) | values,
    st.booleans(),
    st.none() | st.integers(0, 2),
)


@pytest.mark.requirement("T38")
@given(bodies | st.binary(max_size=60))
@example(b'{"method":"tools/call","params":{"name":"x","name":"y"}}')
@example(b'{"id":1.0,"method":"ping"}')
def test_what_policy_sees_of_an_accepted_body_is_what_another_parser_reads(body: bytes) -> None:
    found = peek({}, body)
    if isinstance(found, Rejected) or found.kind is Kind.BATCH:
        return

    def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len({key for key, _ in pairs}) == len(pairs)
        return dict(pairs)

    read = json.loads(body.decode("utf-8"), object_pairs_hook=no_duplicates)
    assert (found.method, found.id) == (read.get("method") or "", read.get("id"))
    assert type(found.id) is type(read.get("id"))
    if found.item:
        assert found.item in (read["params"].get("name"), read["params"].get("uri"), read["params"].get("taskId"))


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"jsonrpc": "2.0", "id": 1}, INVALID_REQUEST),
        ({"jsonrpc": "2.0", "id": 1, "method": 7}, INVALID_REQUEST),
        ({"jsonrpc": "2.0", "id": 1, "method": ["tools/call"]}, INVALID_REQUEST),
        ("text", INVALID_REQUEST),
        (7, INVALID_REQUEST),
        (None, INVALID_REQUEST),
        (message("tools/call", {"name": 7}), INVALID_PARAMS),
        (message("tools/call", {"name": None}), INVALID_PARAMS),
        (message("resources/read", {"uri": ["a://b"]}), INVALID_PARAMS),
    ],
)
def test_what_is_not_one_message_is_refused(body: Any, code: int) -> None:
    found = peeked(json.dumps(body).encode())
    assert isinstance(found, Rejected)
    assert found.code == code


@pytest.mark.parametrize("bad", [True, False, 1.0, 1.5, [], {}, [1], 2**64, -(2**70)])
def test_an_id_that_is_no_text_and_no_64_bit_integer_is_refused(bad: Any) -> None:
    found = peeked(message("ping", id=bad))
    assert isinstance(found, Rejected)
    assert (found.code, found.id) == (INVALID_REQUEST, None)


@pytest.mark.parametrize("digits", [4299, 4300, 4301, 4302, 100_000])
def test_an_id_of_thousands_of_digits_is_refused(digits: int) -> None:
    assert isinstance(peeked(b'{"method":"ping","id":%b}' % (b"9" * digits)), Rejected)


@pytest.mark.parametrize("good", [0, -1, 2**63 - 1, -(2**63), "", "0", "é\u0000", "x" * 5000])
def test_every_other_id_is_taken_as_it_is(good: Any) -> None:
    found = peeked(message("ping", id=good))
    assert isinstance(found, Message)
    assert (found.kind, found.id) == (Kind.REQUEST, good)


def test_notifications_and_responses_are_told_apart() -> None:
    kinds = [
        peeked({"jsonrpc": "2.0", "method": "notifications/initialized"}),
        peeked({"jsonrpc": "2.0", "id": 3, "result": {}}),
        peeked({"jsonrpc": "2.0", "id": 3, "error": {"code": 1, "message": "no"}}),
    ]
    assert [found.kind for found in kinds if isinstance(found, Message)] == [
        Kind.NOTIFICATION,
        Kind.RESPONSE,
        Kind.RESPONSE,
    ]


def test_the_client_is_named_from_initialize_and_from_modern_meta() -> None:
    opened = peeked(message("initialize", {"clientInfo": {"name": "ide", "version": "2"}}))
    body = modern("tools/list")
    body["params"]["_meta"]["io.modelcontextprotocol/clientInfo"] = {"name": "ide", "version": "3"}
    asked = peeked(body, **routing(body))
    assert isinstance(opened, Message)
    assert isinstance(asked, Message)
    assert (opened.client, asked.client) == ("ide 2", "ide 3")


# Headers and body agree


@pytest.mark.requirement("T37", "SV-1", "SV-2")
@pytest.mark.parametrize(
    "changed",
    [
        {"mcp_protocol_version": LEGACY},
        {"mcp_protocol_version": None},
        {"mcp_protocol_version": "2026-07-29"},
        {"mcp_method": "tools/list"},
        {"mcp_method": None},
        {"mcp_method": "Tools/Call"},
        {"mcp_method": ""},
        {"mcp_name": "safe"},
        {"mcp_name": None},
        {"mcp_name": "ADD"},
        {"mcp_name": ""},
        {"mcp_name": "=?base64?YWRk"},
        {"mcp_name": "=?base64?YWR?="},
        {"mcp_name": "=?base64?YW Rk?="},
        {"mcp_name": "=?base64?YWRl?="},
        {"mcp_name": "=?base64?/////w==?="},
        {"mcp_name": "=?BASE64?YWRk?="},
    ],
    ids=str,
)
def test_a_modern_request_whose_headers_do_not_agree_with_its_body_is_refused(changed: dict[str, str | None]) -> None:
    found = peeked(CALL, **routing(CALL, **changed))
    assert isinstance(found, Rejected)
    assert (found.code, found.id) == (HEADER_MISMATCH, 1)


@pytest.mark.requirement("T37", "SV-1", "SV-2")
@pytest.mark.parametrize(
    ("method", "key", "value"),
    [("tools/call", "name", "add"), ("prompts/get", "name", "p"), ("resources/read", "uri", "a://b")],
)
def test_the_name_header_is_compared_with_the_parameter_of_its_method(method: str, key: str, value: str) -> None:
    body = modern(method, {key: value})
    headers = {"mcp_protocol_version": MODERN, "mcp_method": method}
    assert isinstance(peeked(body, **headers, mcp_name=value), Message)
    assert isinstance(peeked(body, **headers), Rejected)
    assert isinstance(peeked(body, **headers, mcp_name="other"), Rejected)


@pytest.mark.requirement("T37", "SV-2")
@pytest.mark.parametrize("method", ["tasks/get", "tasks/update", "tasks/cancel"])
def test_a_task_id_in_the_name_header_must_be_the_one_of_the_body(method: str) -> None:
    body = modern(method, {"taskId": "t1"})
    headers = {"mcp_protocol_version": MODERN, "mcp_method": method}
    assert isinstance(peeked(body, **headers, mcp_name="t1"), Message)
    assert isinstance(peeked(body, **headers, mcp_name="t2"), Rejected)


@pytest.mark.requirement("T37")
def test_a_modern_version_header_alone_makes_the_headers_count() -> None:
    found = peeked(tool_call("danger"), mcp_protocol_version=MODERN, mcp_method="tools/call", mcp_name="safe")
    assert isinstance(found, Rejected)
    assert found.code == HEADER_MISMATCH


@pytest.mark.requirement("T37")
def test_a_name_that_the_method_does_not_have_cannot_mislead_a_balancer() -> None:
    # The header names a tool, the body has none: nothing to agree with.
    body = modern("tools/call", {})
    found = peeked(body, mcp_protocol_version=MODERN, mcp_method="tools/call", mcp_name="safe")
    assert isinstance(found, Rejected)
    assert found.code == HEADER_MISMATCH


@pytest.mark.requirement("T37")
@pytest.mark.parametrize("version", [None, "2025-03-26", "2025-06-18", LEGACY])
def test_the_routing_headers_of_an_older_request_are_ignored(version: str | None) -> None:
    headers = {"mcp_method": "tools/list", "mcp_name": "=?base64?!?="}
    found = peeked(tool_call("add"), **headers, **({"mcp_protocol_version": version} if version else {}))
    assert isinstance(found, Message)
    assert (found.item, found.modern) == ("add", False)


def test_a_modern_body_without_its_meta_is_left_to_the_upstream() -> None:
    found = peeked(message("tools/list", {}), mcp_protocol_version=MODERN)
    assert isinstance(found, Message)
    assert found.modern


versions = st.sampled_from([MODERN, LEGACY, "2027-01-01", "", " ", None])
methods = st.sampled_from(["tools/call", "prompts/get", "resources/read", "tools/list", "server/discover", "x"])
item_texts = st.sampled_from(["add", "Add", "é", "", "=?base64?YWRk?=", "=?base64?4pyT?="]) | st.text(max_size=5)
header_texts = (
    st.sampled_from(["add", "Add", "", "=?base64?YWRk?=", "=?base64?YWRk", "=?base64?YWR?=", "=?base64??=", "é"])
    | item_texts.map(lambda text: _sentinel(text))
    | st.none()
)


def _sentinel(text: str) -> str:
    import base64

    return f"=?base64?{base64.b64encode(text.encode('utf-8', 'replace')).decode()}?="


@pytest.mark.requirement("T37")
@given(
    body_version=versions,
    header_version=versions,
    method=methods,
    header_method=methods | st.none(),
    item=item_texts.filter(lambda text: text.isprintable() or text == ""),
    header_name=header_texts,
    capabilities=st.booleans(),
)
def test_headers_and_body_get_the_verdict_that_the_sdk_gives(
    body_version: str | None,
    header_version: str | None,
    method: str,
    header_method: str | None,
    item: str,
    header_name: str | None,
    capabilities: bool,
) -> None:
    meta: dict[str, Any] = {} if body_version is None else {VERSION_KEY: body_version}
    if capabilities:
        meta[CAPABILITIES_KEY] = {}
    key = "uri" if method == "resources/read" else "name"
    body = message(method, {key: item, "_meta": meta})
    given_headers = {
        "mcp-protocol-version": header_version,
        "mcp-method": header_method,
        "mcp-name": header_name,
    }
    headers = {name: value for name, value in given_headers.items() if value is not None}
    theirs = classify_inbound_request(body, headers=headers, supported_modern_versions=[MODERN, "2027-01-01", LEGACY])
    ours = peek({k.encode(): v.encode("latin-1") for k, v in headers.items()}, json.dumps(body).encode())
    mismatch = isinstance(theirs, InboundLadderRejection) and theirs.code == HEADER_MISMATCH
    if mismatch:
        assert isinstance(ours, Rejected), theirs
        assert ours.code == HEADER_MISMATCH
    elif not isinstance(theirs, InboundLadderRejection):
        assert isinstance(ours, Message), ours
    # What they refuse for an incomplete `_meta` goes to the upstream, which gives that answer itself.


# Batches


@pytest.mark.requirement("T39")
@pytest.mark.parametrize("version", ["", "2025-03-26"])
def test_a_batch_passes_where_the_version_has_batches(version: str) -> None:
    batch = [message("tools/list"), tool_call("add", id=2), {"jsonrpc": "2.0", "method": "notifications/x"}]
    found = peeked(batch, **({"mcp_protocol_version": version} if version else {}))
    assert isinstance(found, Message)
    assert found.kind is Kind.BATCH
    assert [(one.kind, one.method, one.item) for one in found.elements] == [
        (Kind.REQUEST, "tools/list", ""),
        (Kind.REQUEST, "tools/call", "add"),
        (Kind.NOTIFICATION, "notifications/x", ""),
    ]


@pytest.mark.requirement("T39")
@pytest.mark.parametrize("version", ["2025-06-18", LEGACY, MODERN, "2099-01-01", "nonsense", "2025-03-26x"])
def test_a_batch_of_any_other_version_is_refused(version: str) -> None:
    found = peeked([message("tools/list")], mcp_protocol_version=version)
    assert isinstance(found, Rejected)
    assert found.code == INVALID_REQUEST


@pytest.mark.requirement("T39")
@pytest.mark.parametrize(
    "element",
    [
        7,
        None,
        [],
        [message("tools/list")],
        {},
        {"id": 1, "method": 5},
        message("tools/call", {"name": 5}),
        message("initialize", {}),
        modern("tools/list"),
    ],
    ids=str,
)
def test_one_bad_element_refuses_the_whole_batch(element: Any) -> None:
    for batch in ([element], [message("tools/list"), element], [element, tool_call("add")]):
        assert isinstance(peeked(batch), Rejected)


@pytest.mark.requirement("T39")
def test_an_empty_batch_is_refused() -> None:
    assert isinstance(peeked([]), Rejected)
