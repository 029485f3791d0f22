"""What answers of a server say about the protocol eras that it speaks (spec 2.1, V26, T52). Pure.

Modern servers (2026-07-28 and later) answer `server/discover`, legacy ones open with `initialize`, some do both. What
stands in for an answer (a refused credential, a limit, an outage, silence) says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from jiter import from_json

from proxy.messages import FIRST_MODERN_VERSION, is_modern
from servers.models import Server

Eras = Server.Eras
NEWEST_LEGACY: Final = "2025-11-25"
HEADER_MISMATCH: Final = -32020
MISSING_CAPABILITY: Final = -32021
UNSUPPORTED_VERSION: Final = -32022
METHOD_NOT_FOUND: Final = -32601
REFUSALS: Final = frozenset((400, 404, 405, 415))
"""Statuses with which servers refuse what they do not know."""
_INCONCLUSIVE: Final = frozenset((401, 403, 407, 408, 429))
_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}")


@dataclass(frozen=True, slots=True)
class Modern:
    """It speaks a modern version that we know. `versions` are those that it listed."""

    versions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Legacy:
    """It does not know modern requests. `versions` are those that it listed."""

    versions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NoVerdict:
    """The answer says nothing about eras; `reason` is for logs."""

    reason: str


Verdict = Modern | Legacy | NoVerdict


@dataclass(frozen=True, slots=True)
class _Answer:
    """The answer to a `server/discover`, taken apart."""

    status: int
    is_result: bool
    code: int | None
    """Of a JSON-RPC error; None: there is none."""
    listed: tuple[str, ...]
    """Versions in the result, or in the data of the error."""

    @property
    def speaks_modern(self) -> bool:
        return FIRST_MODERN_VERSION in self.listed

    @property
    def speaks_unknown(self) -> bool:
        return any(is_modern(version) for version in self.listed)


_Row = tuple[str, Callable[[_Answer], bool], Callable[[_Answer], Verdict]]
# The first row that fits counts.
_TABLE: Final[tuple[_Row, ...]] = (
    (
        "a refused credential, a limit, an outage",
        lambda a: a.status in _INCONCLUSIVE or a.status >= 500,
        lambda a: NoVerdict(f"HTTP {a.status}"),
    ),
    ("a redirect", lambda a: 300 <= a.status < 400, lambda a: NoVerdict(f"HTTP {a.status}")),
    ("a result that lists a modern version", lambda a: a.is_result and a.speaks_modern, lambda a: Modern(a.listed)),
    (
        "a result that lists modern versions, all of them unknown here",
        lambda a: a.is_result and a.speaks_unknown,
        lambda _: NoVerdict("it lists only modern versions that are unknown here"),
    ),
    ("a result without any modern version", lambda a: a.is_result, lambda a: Legacy(a.listed)),
    (
        "an error that only modern servers have",
        lambda a: a.code in (HEADER_MISMATCH, MISSING_CAPABILITY),
        lambda _: Modern(),
    ),
    (
        "-32022 that lists a modern version",
        lambda a: a.code == UNSUPPORTED_VERSION and a.speaks_modern,
        lambda a: Modern(a.listed),
    ),
    (
        "-32022 that lists nothing, or modern versions that are unknown here",
        lambda a: a.code == UNSUPPORTED_VERSION and (not a.listed or a.speaks_unknown),
        lambda _: NoVerdict("-32022 without a version that is known here"),
    ),
    ("-32022 with only legacy versions", lambda a: a.code == UNSUPPORTED_VERSION, lambda a: Legacy(a.listed)),
    ("any other JSON-RPC error", lambda a: a.code is not None, lambda _: Legacy()),
    ("400, 404, 405, 415 without one", lambda a: a.status in REFUSALS, lambda _: Legacy()),
)


def verdict(status: int, content_type: str, body: bytes | Mapping[str, Any] | None) -> Verdict:
    """What the answer to a `server/discover` says; `body` as it came, or its JSON-RPC message (None: it has none)."""
    message = answer_in(content_type, body) if isinstance(body, bytes) else body
    error = part(message, "error")
    code = error.get("code") if error is not None else None
    answer = _Answer(
        status,
        is_result=200 <= status < 300 and part(message, "result") is not None,
        code=code if type(code) is int else (0 if error is not None else None),
        listed=_listed(message),
    )
    for _, fits, says in _TABLE:
        if fits(answer):
            return says(answer)
    return NoVerdict(f"no answer of an MCP server (HTTP {status})")


@dataclass(frozen=True, slots=True)
class Evidence:
    """What answers say of a server: each half is None where they say nothing of it."""

    modern: bool | None = None
    legacy: bool | None = None
    versions: tuple[str, ...] = ()
    """Legacy versions that it negotiated, or listed."""


NOTHING: Final = Evidence()


def from_discover(found: Verdict) -> Evidence:
    """What a verdict comes to."""
    if isinstance(found, NoVerdict):
        return NOTHING
    older = tuple(version for version in found.versions if not is_modern(version))
    return Evidence(isinstance(found, Modern), True if older else None, older)


def from_initialize(
    status: int, message: Mapping[str, Any] | None, *, asked: str = NEWEST_LEGACY, ours: bool = True
) -> Evidence:
    """What the answer to an `initialize` for version `asked` says.

    `ours` is False for a client's, which may be refused for something that the client made wrong.
    """
    if status in _INCONCLUSIVE or status >= 500 or 300 <= status < 400:
        return NOTHING
    result, error = part(message, "result"), part(message, "error")
    if status == 200 and result is not None:
        version = result.get("protocolVersion")
        if type(version) is not str or _DATE.fullmatch(version) is None or is_modern(version):
            return NOTHING
        # Asked for an older one, it may have a newer one too, which a client would miss in our list.
        return Evidence(legacy=True, versions=(version,) if asked == NEWEST_LEGACY or version != asked else ())
    code = error.get("code") if error is not None else None
    if code == UNSUPPORTED_VERSION:
        listed = _listed(message)
        if any(not is_modern(version) for version in listed):
            return Evidence(legacy=True, versions=tuple(version for version in listed if not is_modern(version)))
        return Evidence(modern=True, legacy=False) if FIRST_MODERN_VERSION in listed else NOTHING
    if code in (HEADER_MISMATCH, MISSING_CAPABILITY):
        return Evidence(modern=True, legacy=False)
    if code == METHOD_NOT_FOUND or (ours and (error is not None or status in REFUSALS)):
        return Evidence(legacy=False)
    return NOTHING


def combine(*found: Evidence) -> Evidence:
    """All of it together; where two disagree, the later one counts."""
    modern, legacy, versions = None, None, frozenset[str]()
    for one in found:
        modern = modern if one.modern is None else one.modern
        legacy = legacy if one.legacy is None else one.legacy
        versions |= frozenset(one.versions)
    return Evidence(modern, legacy, tuple(sorted(versions, reverse=True)) if legacy else ())


def eras_from(evidence: Evidence) -> Server.Eras:
    """What to go by. Half known is half used: the other half shows when somebody needs it."""
    if evidence.modern:
        return Eras.MODERN if evidence.legacy is False else Eras.DUAL
    if evidence.modern is False and evidence.legacy is not False:
        return Eras.LEGACY
    return Eras.UNKNOWN


# Reading answers


def answer_in(content_type: str, body: bytes) -> dict[str, Any] | None:
    """The JSON-RPC answer in a body: JSON, or an event stream with it among its events."""
    if not content_type.lower().startswith("text/event-stream"):
        return _object(body)
    for event in body.replace(b"\r\n", b"\n").split(b"\n\n"):
        lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
        found = _object(b"\n".join(lines)) if lines else None
        if found is not None and ("result" in found or "error" in found):
            return found
    return None


def _object(data: bytes) -> dict[str, Any] | None:
    try:
        found = from_json(data)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def part(message: Mapping[str, Any] | None, name: str) -> dict[str, Any] | None:
    found = message.get(name) if message is not None else None
    return found if isinstance(found, dict) else None


def _listed(message: Mapping[str, Any] | None) -> tuple[str, ...]:
    holder = part(message, "result")
    found = holder.get("supportedVersions") if holder is not None else None
    if holder is None:
        data = part(part(message, "error"), "data")
        found = data.get("supported") if data is not None else None
    if not isinstance(found, list):
        return ()
    dates = (version for version in found[:50] if type(version) is str and _DATE.fullmatch(version))
    return tuple(dict.fromkeys(dates))
