"""HTTP exchanges of a connection test: bounded in bytes and time, their failures in plain words."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError

from proxy import large_json
from servers.egress import HttpSession
from servers.errors import DestinationRefused, HostUnknown

MOST_BYTES: Final = 8 * 1024 * 1024
_READ_BYTES: Final = 64 * 1024

# OpenSSL's verification results that have an advice of their own.
_HOST_MISMATCH: Final = (62, 64)
_UNKNOWN_AUTHORITY: Final = (18, 19, 20, 21, 2)
_EXPIRED: Final = (9, 10)


class Step(StrEnum):
    """Where a test can fail, in the order of trying."""

    ADDRESS = "address"
    CONNECT = "connect"
    TLS = "tls"
    ANSWER = "answer"
    FAULT = "fault"
    """It answered with an error of its own (5xx)."""
    AUTHENTICATION = "authentication"
    OPENING = "opening"
    TOOLS = "tools"
    LISTS = "lists"
    """Another list than that of the tools."""


class Failed(Exception):
    """The test ends here; `sentence` says what happened and what to do."""

    def __init__(self, step: Step, sentence: str) -> None:
        super().__init__(sentence)
        self.step = step
        self.sentence = sentence


@dataclass(frozen=True)
class Answer:
    """What came back. `message` is the JSON-RPC answer to our request, if there was one."""

    status: int
    content_type: str
    location: str = ""
    session: str = ""
    message: dict[str, Any] | None = field(default=None, repr=False)

    @property
    def result(self) -> dict[str, Any] | None:
        """The JSON-RPC result, when it is an object."""
        found = (self.message or {}).get("result")
        return found if isinstance(found, dict) else None

    @property
    def error(self) -> dict[str, Any] | None:
        """The JSON-RPC error, when there is one."""
        found = (self.message or {}).get("error")
        return found if isinstance(found, dict) else None


class Exchanges:
    """Sends requests to one URL until the time or the bytes are used up."""

    def __init__(
        self,
        session: HttpSession,
        *,
        url: str,
        headers: dict[str, str],
        connect_seconds: float,
        seconds: float,
        most_bytes: int = MOST_BYTES,
        item: Callable[[Any], Any] = lambda value: value,
    ) -> None:
        """`item` makes what is kept of each item of a large list (`large_json`)."""
        self._session = session
        self._url = url
        self._headers = headers
        self._connect_seconds = connect_seconds
        self._deadline = time.monotonic() + seconds
        self._seconds = seconds
        self._most_bytes = self._bytes_left = most_bytes
        self._item = item

    def seconds_left(self) -> float:
        """Until the whole test is over."""
        return self._deadline - time.monotonic()

    def post(self, message: dict[str, Any], headers: dict[str, str]) -> Answer:
        """POST one JSON-RPC message and read until its answer; raises Failed."""
        sent = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream", **headers}
        with self._request("POST", sent, json.dumps(message).encode()) as response:
            return self._answer(response, message.get("id"))

    def delete(self, headers: dict[str, str]) -> None:
        """End a legacy session; whatever the server says to that is fine."""
        try:
            self._request("DELETE", headers, None).close()
        except Failed:
            return

    def is_old_transport(self) -> bool:
        """Whether a GET opens the HTTP+SSE transport of 2024-11-05, whose first event is `endpoint`."""
        try:
            with self._request("GET", {"Accept": "text/event-stream"}, None, read_seconds=3) as response:
                if response.status_code != 200 or "text/event-stream" not in _content_type(response):
                    return False
                for name, _ in _events(self._chunks(response)):
                    return name == "endpoint"
        except Failed:
            return False
        return False

    def _request(
        self, method: str, headers: dict[str, str], body: bytes | None, read_seconds: float | None = None
    ) -> requests.Response:
        left = self.seconds_left()
        if left <= 0:
            raise self._too_slow()
        try:
            return self._session.request(
                method,
                self._url,
                data=body,
                # `identity`: what is counted is what is read, and nothing can unpack into more.
                headers={**self._headers, "Accept-Encoding": "identity", **headers},
                timeout=(min(self._connect_seconds, left), min(read_seconds or left, left)),
                allow_redirects=False,
                stream=True,
            )
        except DestinationRefused as error:
            raise Failed(Step.ADDRESS, address_sentence(error)) from error
        except (requests.RequestException, HTTPError, OSError, ValueError) as error:
            raise self._explain(error) from error

    def _answer(self, response: requests.Response, request_id: Any) -> Answer:
        kind = _content_type(response)
        answer = Answer(
            status=response.status_code,
            content_type=kind,
            location=response.headers.get("location", ""),
            session=response.headers.get("mcp-session-id", ""),
        )
        if 300 <= answer.status < 400 or request_id is None:
            return answer
        message = None
        if "text/event-stream" in kind and answer.status == 200:
            message = self._from_events(response, request_id)
        elif "json" in kind:
            message = _json_rpc(b"".join(self._chunks(response)), request_id, self._item)
        return Answer(answer.status, kind, answer.location, answer.session, message)

    def _from_events(self, response: requests.Response, request_id: Any) -> dict[str, Any] | None:
        for _, data in _events(self._chunks(response)):
            message = _json_rpc(data, request_id, self._item)
            if message is not None:
                return message
        return None

    def _chunks(self, response: requests.Response) -> Iterator[bytes]:
        while True:
            try:
                chunk = response.raw.read1(_READ_BYTES, decode_content=False)
            except (requests.RequestException, HTTPError, OSError, ValueError) as error:
                raise self._explain(error) from error
            if self.seconds_left() <= 0:
                raise self._too_slow()
            if not chunk:
                return
            self._bytes_left -= len(chunk)
            if self._bytes_left < 0:
                raise Failed(
                    Step.ANSWER,
                    f"The server's answers are larger than {self._most_bytes // 2**20} MiB, so the test stopped "
                    "reading.",
                )
            yield chunk

    def _too_slow(self) -> Failed:
        return Failed(
            Step.ANSWER,
            f"The server did not finish answering within {self._seconds:.0f} seconds. Check that it runs and is not "
            "overloaded, then test again.",
        )

    def _explain(self, error: BaseException) -> Failed:
        if self.seconds_left() <= 0:
            return self._too_slow()
        host = urlsplit(self._url).hostname or "the host"
        causes = list(_causes(error))
        for cause in causes:
            if isinstance(cause, DestinationRefused):
                return Failed(Step.ADDRESS, address_sentence(cause))
            if isinstance(cause, ssl.SSLError):
                return Failed(Step.TLS, _tls_sentence(cause, host))
        if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
            return Failed(
                Step.CONNECT, f"{host} refused the connection. Check the port, and that the server is running."
            )
        connecting = any(type(cause).__name__ in ("NewConnectionError", "ConnectTimeoutError") for cause in causes)
        if any(isinstance(cause, TimeoutError | requests.Timeout) for cause in causes):
            if connecting:
                return Failed(
                    Step.CONNECT,
                    f"{host} did not accept a connection in time. Check the address and the firewalls between.",
                )
            return self._too_slow()
        if connecting:
            return Failed(Step.CONNECT, f"{host} cannot be reached. Check the address and the network between.")
        return Failed(
            Step.ANSWER,
            f"{host} closed the connection without a complete HTTP answer. Check the port, and that it is an MCP "
            "server that speaks HTTP.",
        )


def address_sentence(error: DestinationRefused) -> str:
    """What the egress rules said, with the next step where their own sentence has none."""
    if isinstance(error, HostUnknown):
        return f"{error.public_message} Check the spelling, and that the gateway's DNS knows the name."
    return error.public_message


def no_mcp(answer: Answer) -> Failed:
    """What an answer that is not MCP's seems to come from."""
    status = answer.status
    if status in (404, 405, 410):
        sentence = f"There is no MCP endpoint at this path (HTTP {status}). Check the path; it often ends in /mcp."
    elif status == 429:
        sentence = "The server asks to slow down (429). Wait a moment, then test again."
    elif status == 421:
        sentence = "The server does not accept calls under this host name (421). Allow the name on the server."
    elif status >= 500:
        sentence = f"The server has a problem of its own (HTTP {status}). Look at its logs."
    elif status >= 400:
        sentence = f"The server did not accept an MCP request (HTTP {status}). Check the path and the headers."
    elif answer.content_type == "text/html":
        sentence = "This address answers with a web page, not with MCP. Check the path; it often ends in /mcp."
    else:
        sentence = "This address answers, but not with MCP. Check the path; it often ends in /mcp."
    return Failed(Step.FAULT if status >= 500 else Step.ANSWER, sentence)


def _tls_sentence(error: ssl.SSLError, host: str) -> str:
    code = getattr(error, "verify_code", 0)
    if code in _HOST_MISMATCH:
        return f"The server's TLS certificate is for another name than {host}. Use the name it was made for."
    if code in _EXPIRED:
        return "The server's TLS certificate has expired or is not valid yet. Renew it on the server."
    if code in _UNKNOWN_AUTHORITY:
        return (
            "The server's TLS certificate comes from an authority that the gateway does not know. Paste that "
            "authority's certificate under Custom CA."
        )
    if isinstance(error, ssl.SSLCertVerificationError):
        return "The server's TLS certificate is not valid. Check the certificate and the custom CA."
    if "WRONG_VERSION_NUMBER" in str(error) or "HTTP_REQUEST" in str(error):
        return f"{host} does not speak TLS on this port. Check the port, or use http:// for a private destination."
    return f"TLS with {host} failed. Check that the server offers TLS 1.2 or newer."


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    queue: list[Any] = [error]
    while queue:
        one = queue.pop(0)
        if not isinstance(one, BaseException) or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        queue += [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]


def _content_type(response: requests.Response) -> str:
    return response.headers.get("content-type", "").partition(";")[0].strip().lower()


def _json_rpc(data: bytes, request_id: Any, item: Callable[[Any], Any]) -> dict[str, Any] | None:
    """The JSON-RPC answer in these bytes: to our request, or an error that names none."""
    try:
        message = large_json.load(data, item=item)
    except ValueError:
        return None
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
        return None
    if "result" in message and message.get("id") == request_id:
        return message
    return message if "error" in message and message.get("id") in (request_id, None) else None


def _events(chunks: Iterator[bytes]) -> Iterator[tuple[str, bytes]]:
    """Events of a text/event-stream as name and data."""
    name = "message"
    data: list[bytes] = []
    for line in _lines(chunks):
        if not line:
            if data:
                yield name, b"\n".join(data)
            name, data = "message", []
            continue
        key, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if key == b"event":
            name = value.decode("utf-8", "replace")
        elif key == b"data":
            data.append(value)


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Lines without their ends. One may come in thousands of chunks, which are put together once."""
    begun: list[bytes] = []
    for chunk in chunks:
        first, *others = chunk.split(b"\n")
        begun.append(first)
        for other in others:
            yield b"".join(begun).removesuffix(b"\r")
            begun = [other]
