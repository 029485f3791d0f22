"""What an answer says about the protocol eras of a server: the table of evidence, row by row."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.era_evidence import (
    NOTHING,
    Evidence,
    Legacy,
    Modern,
    NoVerdict,
    combine,
    eras_from,
    from_discover,
    from_initialize,
    verdict,
)
from servers.models import Server
from tests.support.calls import LEGACY, MODERN

JSON = "application/json"
Eras = Server.Eras


def body(**parts: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, **parts}).encode()


def failed(code: Any, supported: Any = None) -> bytes:
    data = {"data": {"supported": supported}} if supported is not None else {}
    return body(error={"code": code, "message": "no", **data})


def listing(*versions: Any) -> bytes:
    return body(result={"supportedVersions": list(versions)})


@pytest.mark.requirement("T52", "CL-24", "F-702")
@pytest.mark.parametrize(
    ("status", "answer", "expected"),
    [
        (200, listing(MODERN), Modern((MODERN,))),
        (200, listing(MODERN, LEGACY), Modern((MODERN, LEGACY))),
        (200, listing(LEGACY), Legacy((LEGACY,))),
        (200, listing(), Legacy()),
        (200, body(result={}), Legacy()),
        (400, failed(-32020), Modern()),
        (400, failed(-32021), Modern()),
        (400, failed(-32022, [MODERN]), Modern((MODERN,))),
        (200, failed(-32022, [LEGACY, MODERN]), Modern((LEGACY, MODERN))),
        (400, failed(-32022, [LEGACY]), Legacy((LEGACY,))),
        (404, failed(-32601), Legacy()),
        (200, failed(-32601), Legacy()),
        (400, failed(-32602), Legacy()),
        (400, failed(-32600), Legacy()),
        (400, failed(-32000), Legacy()),
        (200, failed("odd"), Legacy()),
        (400, b"", Legacy()),
        (404, b"<html>", Legacy()),
        (405, b"", Legacy()),
        (415, b"no", Legacy()),
    ],
)
def test_an_answer_to_discover_is_evidence_by_the_table(status: int, answer: bytes, expected: Any) -> None:
    assert verdict(status, JSON, answer) == expected


@pytest.mark.requirement("T52", "CL-24")
@pytest.mark.parametrize("status", [401, 403, 407, 408, 429, 500, 502, 503, 504])
@pytest.mark.parametrize("answer", [b"", failed(-32601), failed(-32022, [MODERN]), listing(LEGACY)])
def test_what_stands_in_for_an_answer_is_no_evidence_whatever_its_body_says(status: int, answer: bytes) -> None:
    assert isinstance(verdict(status, JSON, answer), NoVerdict)
    assert from_initialize(status, json.loads(answer or b"{}")) == NOTHING


@pytest.mark.requirement("T52")
@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (200, b"<html>sign in</html>"),
        (202, b""),
        (307, b""),
        (410, b""),
        (421, b""),
        (200, body(result={"supportedVersions": ["2027-01-01"]})),
        (400, failed(-32022)),
        (400, failed(-32022, ["2027-01-01"])),
        (400, failed(-32022, "2026-07-28")),
        (400, failed(-32022, [7, None])),
    ],
)
def test_an_answer_that_could_be_anything_is_no_evidence(status: int, answer: bytes) -> None:
    assert isinstance(verdict(status, JSON, answer), NoVerdict)


@pytest.mark.requirement("CL-24")
def test_an_answer_in_an_event_stream_counts_like_any_other() -> None:
    events = b'event: message\r\ndata: {"jsonrpc":"2.0","method":"notifications/x"}\r\n\r\ndata: '
    assert verdict(200, "text/event-stream; charset=utf-8", events + listing(MODERN) + b"\r\n\r\n") == Modern((MODERN,))
    assert verdict(200, "text/event-stream", events + b"\n\n") == NoVerdict("no answer of an MCP server (HTTP 200)")


@pytest.mark.requirement("F-702", "T52")
@pytest.mark.parametrize(
    ("status", "answer", "ours", "expected"),
    [
        (200, {"result": {"protocolVersion": LEGACY}}, True, Evidence(legacy=True, versions=(LEGACY,))),
        (200, {"result": {"protocolVersion": "2024-11-05"}}, True, Evidence(legacy=True, versions=("2024-11-05",))),
        (200, {"result": {"protocolVersion": MODERN}}, True, NOTHING),
        (200, {"result": {"protocolVersion": "newest"}}, True, NOTHING),
        (200, {"result": {}}, True, NOTHING),
        (400, json.loads(failed(-32022, [MODERN])), False, Evidence(modern=True, legacy=False)),
        (400, json.loads(failed(-32022, [MODERN, LEGACY])), False, Evidence(legacy=True, versions=(LEGACY,))),
        (400, json.loads(failed(-32022, ["2027-01-01"])), False, NOTHING),
        (400, json.loads(failed(-32020)), False, Evidence(modern=True, legacy=False)),
        (404, json.loads(failed(-32601)), False, Evidence(legacy=False)),
        # A client may have asked wrongly; we did not.
        (400, json.loads(failed(-32602)), False, NOTHING),
        (400, json.loads(failed(-32602)), True, Evidence(legacy=False)),
        (400, None, False, NOTHING),
        (405, None, True, Evidence(legacy=False)),
        (302, None, True, NOTHING),
    ],
)
def test_an_answer_to_initialize_is_evidence_of_its_own(
    status: int, answer: Any, ours: bool, expected: Evidence
) -> None:
    assert from_initialize(status, answer, ours=ours) == expected


def test_a_version_that_a_client_asked_for_is_not_taken_for_the_newest() -> None:
    old = {"result": {"protocolVersion": "2025-03-26"}}
    assert from_initialize(200, old, asked="2025-03-26", ours=False) == Evidence(legacy=True)
    assert from_initialize(200, old, asked="2025-06-18", ours=False).versions == ("2025-03-26",)


@pytest.mark.requirement("F-702")
@pytest.mark.parametrize(
    ("found", "eras"),
    [
        (Evidence(True, True), Eras.DUAL),
        (Evidence(True, False), Eras.MODERN),
        (Evidence(False, True), Eras.LEGACY),
        # Half known: enough to go on with, and the other half shows when somebody needs it.
        (Evidence(True, None), Eras.DUAL),
        (Evidence(False, None), Eras.LEGACY),
        (Evidence(None, True), Eras.UNKNOWN),
        (Evidence(None, False), Eras.UNKNOWN),
        (Evidence(False, False), Eras.UNKNOWN),
        (NOTHING, Eras.UNKNOWN),
    ],
)
def test_two_halves_make_the_eras(found: Evidence, eras: Server.Eras) -> None:
    assert eras_from(found) is eras


def test_later_evidence_counts_and_no_evidence_changes_nothing() -> None:
    known = combine(from_discover(Modern((MODERN,))), Evidence(legacy=False))
    assert combine(known, from_discover(NoVerdict("HTTP 503"))) == known
    assert combine(known, from_discover(Legacy()), Evidence(legacy=True, versions=(LEGACY,))) == Evidence(
        False, True, (LEGACY,)
    )
    assert combine(known, Evidence(legacy=True, versions=("2025-03-26",)), Evidence(versions=(LEGACY,))).versions == (
        LEGACY,
        "2025-03-26",
    )
