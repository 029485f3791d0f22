"""Test connection: what a server answers, or the step at which it fails and what to do about it.

Asks for the modern protocol first (`server/discover`), then for the legacy one (`initialize`), and reports every
version the server answered to. Only an answer is evidence: a 401, a 5xx or silence says nothing about the era.
Of what an upstream says only its name and version are shown, cleaned; the credential is never part of a result.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any, Final, TypeVar

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import connections

from proxy.era_evidence import NOTHING, Evidence, combine, eras_from, from_discover, from_initialize, verdict
from proxy.probe_http import MOST_BYTES, Answer, Exchanges, Failed, Step, address_sentence, no_mcp
from servers.egress import (
    HttpSession,
    http_session,
    parse_destination,
    private_destinations,
    resolve,
    time_limit,
)
from servers.errors import DestinationRefused, PrivateAddress
from servers.header_names import check_header_value

MODERN: Final = "2026-07-28"
LEGACY: Final = "2025-11-25"
TOTAL_SECONDS: Final = 25.0
_MODERN_ERRORS: Final = (-32020, -32021)
_UNSUPPORTED_VERSION: Final = -32022
_MOST_PAGES: Final = 1000
_MOST_ITEMS: Final = 20_000
_METHOD_NOT_FOUND: Final = -32601
_THREADS: Final = 8
Outcome = TypeVar("Outcome")


@dataclass(frozen=True)
class Target:
    """What to test: where, with which headers and which authorities. Times are seconds."""

    url: str
    credential: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    static_headers: tuple[tuple[str, str], ...] = ()
    ca_certificate: str = ""
    connect_timeout: float = 10
    callers_bring: bool = False
    """A test has no credential, because calls bring one of their own: a 401 is the right answer."""


@dataclass(frozen=True)
class ProbeResult:
    """How it went. `step` is empty when all is well; `sentence` is safe to show."""

    ok: bool
    sentence: str
    step: str = ""
    versions: tuple[str, ...] = ()
    server_name: str = ""
    server_version: str = ""
    tools: int | None = None
    milliseconds: int = 0
    private_address: bool = False
    """The failure is a private address that an admin may allow."""
    eras: str = ""
    """Which protocol eras the server speaks (a value of Server.Eras); empty: the answers were no evidence of both."""
    legacy_versions: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For JSON: answers and the stored health."""
        return {**asdict(self), "versions": list(self.versions), "legacy_versions": list(self.legacy_versions)}


def probe(target: Target, *, total_seconds: float = TOTAL_SECONDS, run: Run | None = None) -> ProbeResult:
    """Try the connection; blocks for at most about `total_seconds`. Never raises for what the other side does.

    `run` does it instead of a plain one, and knows more afterwards.
    """
    started = time.monotonic()
    run = run or Run(target)
    try:
        run.check_address()
        with (
            time_limit(total_seconds),
            http_session("connection test", ca_certificate=target.ca_certificate) as session,
        ):
            session.headers.pop("Accept", None)
            run.try_eras(session, total_seconds)
    except _AsksForCredential:
        return ProbeResult(
            ok=True,
            sentence="Reached; it asks for a credential (401), as it should. Calls bring one; this test has none.",
            milliseconds=_since(started),
        )
    except Failed as failure:
        return ProbeResult(
            ok=False,
            sentence=failure.sentence,
            step=failure.step,
            versions=tuple(run.versions),
            server_name=run.name,
            server_version=run.version,
            milliseconds=_since(started),
            private_address=isinstance(failure.__cause__, PrivateAddress),
            eras=run.eras,
            legacy_versions=run.evidence.versions,
        )
    tools = run.tools or 0
    return ProbeResult(
        ok=True,
        sentence=" ".join([f"Connected; {tools} tool{'' if tools == 1 else 's'}.", *run.notes]),
        versions=tuple(run.versions),
        server_name=run.name,
        server_version=run.version,
        tools=tools,
        milliseconds=_since(started),
        eras=run.eras,
        legacy_versions=run.evidence.versions,
    )


def probe_all(targets: Sequence[Target], *, test: Callable[[Target], Outcome]) -> list[Outcome]:
    """Several tests at a time, in a bounded number of threads; what `test` says of each, in the order given."""
    private_destinations()  # in memory before the threads ask

    def one(target: Target) -> Outcome:
        try:
            return test(target)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix="probe") as pool:
        return list(pool.map(one, targets))


class _AsksForCredential(Exception):
    """The server answered 401 to a test that has no credential to show."""


class Run:
    """One test, collecting what is learned on the way. It counts the tools; a reading of everything builds on it."""

    most_bytes = MOST_BYTES

    @staticmethod
    def kept(item: Any) -> Any:
        """What is kept of each item of a large list."""
        return None

    def __init__(self, target: Target) -> None:
        self.target = target
        self.versions: list[str] = []
        self.name = ""
        self.version = ""
        self.tools: int | None = None
        self.notes: list[str] = []
        self.evidence = NOTHING
        self._next_id = 0
        self._secrets = [part for _, value in target.credential for part in {value, *value.split()} if len(part) > 3]

    @property
    def eras(self) -> str:
        """What the server speaks, where the answers say something of both eras."""
        known = None not in (self.evidence.modern, self.evidence.legacy)
        return str(eras_from(self.evidence)) if known else ""

    def check_address(self) -> None:
        """DNS and the egress rules, and that the credential can stand in a header at all."""
        try:
            resolve(parse_destination(self.target.url))
        except DestinationRefused as error:
            raise Failed(Step.ADDRESS, address_sentence(error)) from error
        for name, value in self.target.credential:
            try:
                check_header_value(value)
            except ValidationError as error:
                raise Failed(
                    Step.AUTHENTICATION,
                    f"The value of {name} has characters that no header may hold. Enter it again.",
                ) from error

    def try_eras(self, session: HttpSession, seconds: float) -> None:
        """Both eras; raises Failed when neither opens."""
        target = self.target
        headers = {**dict(target.static_headers), **dict(target.credential)}
        self._http = Exchanges(
            session,
            url=target.url,
            headers=headers,
            connect_seconds=min(target.connect_timeout, 10),
            seconds=seconds,
            most_bytes=self.most_bytes,
            item=self.kept,
        )
        self.open()

    def open(self) -> None:
        """Open in every era that the server has; raises Failed when there is none."""
        modern = self._modern_if_any()
        try:
            self._legacy()
        except Failed:
            if not modern:
                raise

    def _modern_if_any(self) -> bool:
        try:
            return self._modern()
        except Failed as failure:
            # A server that stumbles over an unknown method may still open the legacy way.
            if failure.step is not Step.ANSWER:
                raise
            return False

    def _modern(self) -> bool:
        answer = self._post("server/discover", {}, modern=True)
        self._note(from_discover(verdict(answer.status, answer.content_type, answer.message)))
        self._refuse_early(answer)
        if answer.error is not None:
            supported = (answer.error.get("data") or {}) if isinstance(answer.error.get("data"), dict) else {}
            listed = MODERN in (supported.get("supported") or ())
            if answer.error.get("code") in _MODERN_ERRORS or (
                answer.error.get("code") == _UNSUPPORTED_VERSION and listed
            ):
                raise Failed(
                    Step.ANSWER,
                    f"The server speaks {MODERN} but refused to be discovered "
                    f"(JSON-RPC error {answer.error.get('code')}). Look at the server's logs.",
                )
            return False
        result = answer.result
        if result is None or MODERN not in (result.get("supportedVersions") or ()):
            return False
        self._learn(MODERN, (result.get("_meta") or {}).get("io.modelcontextprotocol/serverInfo"))
        self._look_at(result, modern=True, headers={})
        return True

    def _legacy(self) -> None:
        parameters = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": _client()}
        answer = self._post("initialize", parameters)
        self._note(from_initialize(answer.status, answer.message))
        self._refuse_early(answer)
        if answer.error is not None and answer.status in (200, 400):
            self._refuse_old_transport(answer)
            raise Failed(
                Step.OPENING,
                f"The server refused to open a session (JSON-RPC error {_number(answer.error.get('code'))}). It may "
                "speak only protocol versions that the gateway does not know.",
            )
        result = answer.result
        if answer.status != 200 or result is None:
            self._refuse_old_transport(answer)
            raise no_mcp(answer)
        version = str(result.get("protocolVersion", ""))
        if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", version):
            raise Failed(Step.OPENING, "The server opened a session without naming a protocol version.")
        self._learn(version, result.get("serverInfo"))
        headers = {"MCP-Protocol-Version": version}
        if answer.session:
            headers["Mcp-Session-Id"] = answer.session
        try:
            told = self._http.post({"jsonrpc": "2.0", "method": "notifications/initialized"}, headers)
            if told.status >= 300:
                raise Failed(Step.OPENING, f"The server opened a session but refused to start it (HTTP {told.status}).")
            if self.tools is None:
                self._look_at(result, modern=False, headers=headers)
        finally:
            if answer.session:
                self._http.delete(headers)

    def _look_at(self, opened: dict[str, Any], *, modern: bool, headers: dict[str, str]) -> None:
        """What to do once the server is open; `opened` is what it said of itself. Sets `tools`."""
        self.tools = len(self._list_tools(opened, modern=modern, headers=headers))

    def _list_tools(self, opened: dict[str, Any], *, modern: bool, headers: dict[str, str]) -> list[Any]:
        return self._list("tools/list", "tools", opened, Step.TOOLS, modern=modern, headers=headers)

    def _list(
        self,
        method: str,
        member: str,
        opened: dict[str, Any],
        step: Step,
        *,
        modern: bool,
        headers: dict[str, str],
        called: str = "",
    ) -> list[Any]:
        """All pages of one list, unchecked; empty when the server does not declare it. Raises Failed."""
        called = called or member
        if method.partition("/")[0] not in _capabilities(opened):
            return []
        found: list[Any] = []
        cursor = None
        seen: set[str] = set()
        for _ in range(_MOST_PAGES):
            parameters: dict[str, Any] = {"cursor": cursor} if cursor is not None else {}
            answer = self._post(method, parameters, modern=modern, headers=headers)
            if answer.status == 401 and self.target.callers_bring and not self.target.credential:
                raise _AsksForCredential
            if answer.status in (401, 403):
                raise self._refused(answer.status)
            if not seen and answer.error is not None and answer.error.get("code") == _METHOD_NOT_FOUND:
                if method.count("/") == 1:  # templates are declared with the resources
                    self.notes.append(f"It declares {called}, but does not know how to list them.")
                return []
            items = (answer.result or {}).get(member)
            if not isinstance(items, list):
                why = f"HTTP {answer.status}"
                if answer.error:
                    why = f"JSON-RPC error {_number(answer.error.get('code'))}"
                raise Failed(step, f"The server opened but did not list its {called} ({why}).")
            found += items
            if len(found) > _MOST_ITEMS:
                raise Failed(step, f"The server lists more than {_MOST_ITEMS} {called}, so the reading stopped.")
            cursor = (answer.result or {}).get("nextCursor")
            if cursor is None:
                return found
            if not isinstance(cursor, str) or cursor in seen:
                break
            seen.add(cursor)
        raise Failed(step, f"The pages of the server's list of {called} do not end. Look at the server's paging.")

    def _post(
        self, method: str, parameters: dict[str, Any], *, modern: bool = False, headers: dict[str, str] | None = None
    ) -> Answer:
        self._next_id += 1
        sent = dict(headers or {})
        if modern:
            sent |= {"MCP-Protocol-Version": MODERN, "Mcp-Method": method}
            parameters = {
                **parameters,
                "_meta": {
                    "io.modelcontextprotocol/protocolVersion": MODERN,
                    "io.modelcontextprotocol/clientInfo": _client(),
                    "io.modelcontextprotocol/clientCapabilities": {},
                },
            }
        message = {"jsonrpc": "2.0", "id": self._next_id, "method": method, "params": parameters}
        return self._http.post(message, sent)

    def _refuse_early(self, answer: Answer) -> None:
        """What ends the test in either era: a refused credential, a redirect."""
        if answer.status == 401:
            if self.target.callers_bring and not self.target.credential:
                raise _AsksForCredential
            raise self._refused(401)
        if 300 <= answer.status < 400:
            raise Failed(Step.OPENING, self._redirect_sentence(answer))

    def _refused(self, status: int) -> Failed:
        if status == 403:
            sentence = (
                "The server refused the request (403). The credential may lack a right, or the server does not "
                "accept calls under this host name."
            )
        elif self.target.credential:
            sentence = "The server refused the credential (401). Check the header's name and value."
        else:
            sentence = "The server asks for a credential (401). Choose Header Auth and enter one."
        return Failed(Step.AUTHENTICATION, sentence)

    def _redirect_sentence(self, answer: Answer) -> str:
        place = self._clean(answer.location.partition("?")[0].partition("#")[0], 200)
        place = re.sub(r"//[^/@]*@", "//", place)
        return (
            f"The server redirects (HTTP {answer.status}) to {place or 'nowhere'}. Redirects are not followed with a "
            "credential: if that address is right, enter it as the endpoint URL."
        )

    def _refuse_old_transport(self, answer: Answer) -> None:
        if answer.status in (400, 404, 405) and self._http.is_old_transport():
            raise Failed(
                Step.ANSWER,
                "This is an endpoint of the old HTTP+SSE transport (2024-11-05). The gateway speaks streamable HTTP: "
                "look for the server's endpoint that ends in /mcp, or update the server.",
            )
        if answer.status == 403:
            raise self._refused(403)

    def _note(self, evidence: Evidence) -> None:
        self.evidence = combine(self.evidence, evidence)

    def _learn(self, version: str, info: Any) -> None:
        self.versions.append(version)
        if isinstance(info, dict) and not self.name:
            self.name = self._clean(str(info.get("name", "")), 100)
            self.version = self._clean(str(info.get("version", "")), 40)

    def _clean(self, text: str, longest: int) -> str:
        """Printable and short, without the credential, should the server repeat it."""
        for secret in self._secrets:
            text = text.replace(secret, "[removed]")
        return "".join(c for c in text if c.isprintable())[:longest]


def _capabilities(opened: dict[str, Any]) -> dict[str, Any]:
    found = opened.get("capabilities")
    return found if isinstance(found, dict) else {}


def _client() -> dict[str, str]:
    return {"name": "gatehouse", "version": str(settings.VERSION)}


def _number(code: Any) -> str:
    return str(code) if isinstance(code, int) else "without a number"


def _since(started: float) -> int:
    return max(1, round((time.monotonic() - started) * 1000))
