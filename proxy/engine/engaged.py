"""One request that the engine serves, and what is known of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from proxy.engine.clients import Client
from proxy.engine.sink import Sink
from proxy.in_flight import ActiveCall
from proxy.messages import Message
from proxy.pipeline import Prepared
from proxy.request_head import RequestHead
from proxy.runtime import Runtime
from servers.registry import ServerFacts
from servers.virtual.arrangement import Arrangement


@dataclass(slots=True)
class Engaged:
    """A request to a virtual server, or to one that is bridged."""

    call: ActiveCall
    runtime: Runtime
    head: RequestHead
    virtual: Prepared
    """What the request came to at our door. `call.prepared` is the member's once one is entered."""
    body: bytes
    client: Client
    arrangement: Arrangement
    message: Message
    """The request itself; in a batch one of its elements."""
    params: Mapping[str, Any]
    sink: Sink

    @property
    def server(self) -> ServerFacts:
        """The server whose URL was called."""
        return self.virtual.server
