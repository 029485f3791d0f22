"""Upstreams behind the gateway's engine: as a member of a virtual server, or through a bridge of their own."""

from __future__ import annotations

from dataclasses import dataclass

from authflows.inbound.api_keys import create_key
from proxy.catalogue_reading import read
from proxy.probe import Target
from servers import changes
from servers.catalogue.readings import Reading
from servers.catalogue.taking import take
from servers.models import Server
from tests.conftest import Cast
from tests.interop.route import Route
from tests.support.gateway import LiveGateway
from tests.support.virtual import add_server, virtual_server


@dataclass
class Behind:
    """Puts upstreams behind the gateway, each read into a catalogue as an admin would; the caller is `cast.member`."""

    gateway: LiveGateway
    cast: Cast

    def member(self, url: str, slug: str = "member", *, path: str = Server.Path.AUTO, left_out: int = 0) -> Server:
        """A server of its own, with a catalogue; `left_out` of its items cannot be served."""
        server = add_server(self.cast, slug, url, path=path)
        found = read(Target(url=url))
        assert isinstance(found, Reading), found
        taken = take(server, found, actor="test", whole=True)
        assert not taken.failure
        assert taken.problems == left_out
        changes.forget_everything()
        return server

    def bundle(self, *members: tuple[Server, str], **fields: object) -> Route:
        """The route to a virtual server of these members, each with its alias."""
        return self.route(virtual_server(self.cast, *members, **fields))  # type: ignore[arg-type]

    def route(self, server: Server) -> Route:
        """The route to a server, with a key of the caller's."""
        _, key = create_key(owner=self.cast.member, name=server.slug, actor="member")
        return Route(self.gateway.mcp_url(server), {"Authorization": f"Bearer {key}"})
