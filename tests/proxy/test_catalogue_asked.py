"""Read now, from the page of a catalogue to a real server and back."""

from __future__ import annotations

import pytest
from django.test import Client

from authflows.outbound import own_keys
from servers.admin.catalogue_page import catalogue_url
from servers.catalogue.facts import catalogue_of
from servers.models import AccessRule, AuditEvent, Role, Server
from servers.models.catalogue import Catalogue, CatalogueItem
from servers.own_header import CleanValue
from tests.conftest import Cast, allow_private
from tests.servers.test_admin_access import signed_in
from tests.support.keyed_server import GOOD, make_server, vault, with_config
from tests.support.upstream import Upstream, json_answer, mcp_server

pytestmark = [pytest.mark.django_db, pytest.mark.requirement("F-804", "F-109")]


def press(client: Client, server: Server) -> str:
    answer = client.post(catalogue_url(server), {"do": "read"}, follow=True)
    return " ".join(str(message) for message in answer.context["messages"])


def served(server: Server) -> set[str]:
    return {key for _, key in catalogue_of(server.pk).texts}


def test_a_manager_reads_a_server_and_keeps_the_copy_while_it_is_down(cast: Cast) -> None:
    client = signed_in(cast.manager)
    with Upstream(mcp_server) as upstream:
        allow_private(upstream.url)
        cast.server.url = upstream.url
        cast.server.save()
        assert press(client, cast.server) == "The catalogue was read: 1 added."
        assert press(client, cast.server) == "The catalogue was read: nothing has changed."
        upstream.script = lambda request: json_answer({}, 503)
        assert press(client, cast.server).startswith("The catalogue was not read: ")
    assert served(cast.server) == {"echo"}
    known = Catalogue.objects.get()
    assert known.failure
    assert known.taken_at is not None
    assert known.tried_at is not None
    assert known.taken_at < known.tried_at
    assert AuditEvent.objects.filter(action="catalogue:take", actor="manager").count() == 1


def test_where_each_person_has_a_key_the_catalogue_is_read_with_that_of_who_asks(cast: Cast) -> None:
    with vault() as upstream:
        server = make_server(cast, upstream.url)
        AccessRule.objects.update_or_create(server=server, user=cast.member, defaults={"role": Role.MANAGER})
        client = signed_in(cast.member)
        assert "Enter yours on Vault" in press(client, server)
        assert not Catalogue.objects.filter(server=server).exclude(failure="").exists(), "it says nothing of the server"
        values = {"API_KEY": CleanValue(GOOD)}
        own_keys.enter(user=cast.member, server=with_config(server), values=values, actor=cast.member)
        assert press(client, server).startswith("The catalogue was read: ")
        known = served(server)
        assert known
        extra = CatalogueItem.objects.create(
            catalogue=Catalogue.objects.get(server=server), kind="tool", key="of_others", state="approved",
            approved='{"name":"of_others"}', offered='{"name":"of_others"}',
        )  # fmt: skip
        press(client, server)
        extra.refresh_from_db()
        assert extra.state == "approved", "one person's credential may not see everything"
