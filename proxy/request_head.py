"""What a request says before its body, read once for all requests that begin with the same bytes."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Any, Final

from proxy.headers import duplicated, joined, upstream_lines
from proxy.known_head import KEPT
from proxy.pipeline import Knock
from proxy.runtime import AGENT, Plan

INSIDE: Final = "gatehouse.inside"
"""Where `proxy/inside.py` says who calls. Servers make the scope of a request themselves; no client has a say in it."""

REQUEST_ID: Final = "gatehouse.request_id"
"""Where it says under which id the door that they came through records and logs."""


class RequestHead:
    """Headers by name, and what follows from them alone. Not changed once made: several requests may share it."""

    __slots__ = ("_lines", "_plan", "client", "duplicated", "headers", "knock", "length", "to_member")

    def __init__(self, scope: Any) -> None:
        raw: list[tuple[bytes, bytes]] = scope["headers"]
        headers = dict(raw)
        self.duplicated: bytes | None = None
        """Name of a header that came twice though it may come once."""
        authorization_twice = False
        if len(headers) != len(raw):
            headers = joined(raw)
            self.duplicated = duplicated(raw)
            authorization_twice = sum(name == b"authorization" for name, _ in raw) > 1
        self.length = headers.pop(b"content-length", None)
        """Content-Length of a request whose body may still be under way."""
        self.headers: Mapping[bytes, bytes] = headers
        """By name in lower case, without Content-Length."""
        self.client = headers.get(b"user-agent", b"").decode("latin-1")
        tenant, slug, endpoint = scope["mcp_route"]
        authorization = headers.get(b"authorization")
        self.knock = Knock(tenant, slug, endpoint, authorization, authorization_twice, scope["query_string"])
        self.knock.headers = headers
        self.knock.inside = scope.get(INSIDE)
        self.knock.ours = REQUEST_ID in scope
        self._plan: Plan | None = None
        self._lines = b""
        self.to_member: tuple[Plan, str, bytes] | None = None
        """What of it goes to a member of a virtual server: `engine/requests.py` keeps it here."""

    def saying(self, name: bytes, value: bytes) -> RequestHead:
        """The same with another value of one header."""
        other = copy(self)
        other.headers = {**self.headers, name: value}
        other._plan = other.to_member = None
        return other

    def upstream_lines(self, plan: Plan) -> bytes:
        """The client's headers that go upstream, as header lines."""
        if self._plan is not plan:
            self._lines = upstream_lines(self.headers, plan.allowed, plan.reserved, AGENT)
            self._plan = plan
        return self._lines


def request_head(scope: Any) -> RequestHead:
    """The head of this request, from memory when the server knows that it is the same as before."""
    kept = scope.get(KEPT)
    if kept is None:
        return RequestHead(scope)
    head: RequestHead | None = kept.get("head")
    if head is None:
        head = kept["head"] = RequestHead(scope)
        # Differs from request to request; and with a head that is known, the whole body is there.
        head.length = None
    return head
