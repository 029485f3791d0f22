"""The client's end of event streams that stay open."""

from __future__ import annotations

import json
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from tests.proxy.wire import Caller as Wire
from tests.support.calls import Caller, modern, modern_headers


class OpenStream:
    """A stream of a caller that stays open until the end of the block."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire

    @classmethod
    def get(cls, caller: Caller, session: str, **headers: str) -> OpenStream:
        """The GET stream of a session."""
        lines = {"Mcp-Session-Id": session, **{name.replace("_", "-"): value for name, value in headers.items()}}
        parts = urlsplit(caller.url)
        return cls(Wire(parts.port or 0).ask(parts.path, key=caller.key, method="GET", headers=lines))

    @classmethod
    def listen(cls, caller: Caller, wanted: dict[str, Any], *, id: Any = 9) -> OpenStream:
        """`subscriptions/listen`."""
        asked = modern("subscriptions/listen", {"notifications": wanted}, id=id)
        parts = urlsplit(caller.url)
        headers = dict(modern_headers(asked))
        body = json.dumps(asked).encode()
        return cls(Wire(parts.port or 0).ask(parts.path, key=caller.key, body=body, headers=headers))

    def __enter__(self) -> OpenStream:
        assert self.wire.read_head() == 200, self.wire.read_body()
        assert self.wire.headers["content-type"] == "text/event-stream"
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.wire.close()

    def next(self) -> Any:
        """The next message. Comments that keep the stream alive are no reason to wait for ever."""
        for _ in range(3):
            text = self.wire.chunk()
            if text != b": keep-alive\n\n":
                assert text.endswith(b"\n\n"), "the stream ended"
                assert b"\nid:" not in b"\n" + text
                return json.loads(next(line[6:] for line in text.splitlines() if line.startswith(b"data: ")))
        raise AssertionError("nothing came but comments")

    def ended(self) -> bool:
        """Whether the gateway ends it, after comments at most."""
        while (piece := self.wire.chunk()) == b": keep-alive\n\n":
            pass
        return piece == b""
