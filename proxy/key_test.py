"""Whether a server takes somebody's own key: the connection test with that key (F-308)."""

from __future__ import annotations

import logging
from typing import Final

from authflows.outbound.testing import Header, Outcome, Tested
from proxy.probe import Target, probe
from proxy.probe_http import Step
from servers.models import Server

log = logging.getLogger(__name__)
# A person waits for it in front of a form.
_SECONDS: Final = 15.0


def test_key(server: Server, headers: tuple[Header, ...]) -> Tested:
    """Open the server with these headers and list its tools; 401 and 403 mean that it refused them."""
    target = Target(
        url=server.url,
        credential=headers,
        static_headers=tuple((str(name), str(value)) for name, value in server.static_headers.items()),
        ca_certificate=server.ca_certificate,
        connect_timeout=server.connect_timeout,
    )
    result = probe(target, total_seconds=_SECONDS)
    log.info("key tested", extra={"server": server.slug, "ok": result.ok, "step": str(result.step)})
    if result.ok:
        return Tested(Outcome.ACCEPTED)
    refused = result.step == Step.AUTHENTICATION
    return Tested(Outcome.REFUSED if refused else Outcome.NO_ANSWER, str(result.step))
