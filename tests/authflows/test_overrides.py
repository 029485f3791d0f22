"""Auth Overrides: what managers set for others, for whom, and what each of them sees of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from authflows.inbound.virtual_accounts import create_virtual_account
from authflows.models import OwnKey
from authflows.outbound.methods import own_header
from authflows.outbound.needs import Need, missing, missing_own_key
from servers.models import AccessRule, AuditEvent, AuthConfig, Role, Server
from servers.secrets import store
from tests.conftest import Cast
from tests.support.keyed_server import BETTER, GOOD, Vault, make_server, vault, with_config

pytestmark = pytest.mark.django_db
LIST = "/admin/authflows/ownkey/"


@pytest.fixture(scope="module")
def running() -> Iterator[Vault]:
    with vault() as found:
        yield found


@pytest.fixture
def server(cast: Cast, running: Vault) -> Server:
    running.keys, running.seen = {GOOD, BETTER}, []
    found = make_server(cast, running.url)
    AccessRule.objects.create(server=found, user=cast.manager, role=Role.MANAGER)
    return found


@pytest.fixture
def office(client: Client, cast: Cast, server: Server) -> Client:
    """The manager's browser."""
    client.force_login(cast.manager)
    return client


def page_of(server: Server) -> str:
    return f"{LIST}servers/{server.pk}/set/"


def set_for(office: Client, server: Server, person: Any, **values: str) -> Any:
    values = values or {"API_KEY": GOOD}
    posted = {f"value_{name}": value for name, value in values.items() if name[0].isupper()}
    more = {name: value for name, value in values.items() if not name[0].isupper()}
    return office.post(page_of(server), {"person": person.pk, **posted, **more}, follow=True)


def text_of(response: Any) -> str:
    return str(response.content.decode())


def headers_for(server: Server, person: Any) -> list[tuple[str, str]]:
    row = with_config(server)
    return own_header.headers(row, row.auth_config, OwnKey.objects.get(user=person, server=server))


def share(server: Server, cast: Cast) -> Server:
    """The same server with one header that all callers share, and one more."""
    secret = store.set_secret(tenant=cast.tenant, group="vault", key="shared", value=BETTER, actor="admin")
    config = server.auth_config
    config.method = AuthConfig.Method.SHARED_HEADER
    config.set_header_templates([("Authorization", f"Bearer {secret.fqn}"), ("X-Team", secret.fqn)])
    config.save()
    return with_config(server)


@pytest.mark.requirement("F-309")
def test_a_manager_sets_a_persons_key_and_the_person_sees_by_whom(
    office: Client, cast: Cast, server: Server, running: Vault
) -> None:
    found = text_of(set_for(office, server, cast.member, API_KEY=GOOD, note="for the audit"))
    assert "Set for member: Vault accepted it." in found
    assert GOOD not in found
    assert set(running.seen) == {f"Bearer {GOOD}"}
    key = OwnKey.objects.get()
    assert (key.user, key.set_by, key.comment) == (cast.member, "manager", "for the audit")
    assert headers_for(server, cast.member) == [("Authorization", f"Bearer {GOOD}")]
    event = AuditEvent.objects.get(action="own_key:set")
    assert (event.actor, event.detail["person"], event.detail["headers"]) == ("manager", "member", ["Authorization"])
    person = Client()
    person.force_login(cast.member)
    for page in ("/portal/connections/", "/portal/servers/default/vault/"):
        found = text_of(person.get(page))
        assert "manager, a manager" in found
        assert "for the audit" in found


@pytest.mark.requirement("F-309")
def test_managers_replace_and_remove_and_never_see_a_value(
    office: Client, cast: Cast, server: Server, running: Vault
) -> None:
    set_for(office, server, cast.member)
    key = OwnKey.objects.get()
    pages = [office.get(LIST), office.get(f"{LIST}{key.pk}/change/"), office.get(f"{page_of(server)}?for=1")]
    assert "API_KEY" in text_of(pages[1])
    assert "Replace…" in text_of(pages[1])
    for page in pages:
        assert page.status_code == 200
        assert "canary" not in text_of(page)
        assert key.sealed_values not in text_of(page)
    refused = text_of(set_for(office, server, cast.member, API_KEY="canary-wrong"))
    assert "Vault refused it" in refused
    assert "canary" not in refused
    set_for(office, server, cast.member, API_KEY=BETTER)
    assert headers_for(server, cast.member) == [("Authorization", f"Bearer {BETTER}")]
    assert "Removed: the key of member for Vault." in text_of(office.post(f"{LIST}{key.pk}/remove/", follow=True))
    assert not OwnKey.objects.exists()
    assert AuditEvent.objects.get(action="own_key:remove").actor == "manager"


@pytest.mark.requirement("F-309", "F-207")
def test_a_virtual_account_gets_a_key_from_a_manager(office: Client, cast: Cast, server: Server) -> None:
    account = create_virtual_account(cast.tenant, name="nightly", description="", actor="admin")
    assert "nightly" not in text_of(office.get(page_of(server)))
    AccessRule.objects.create(server=server, user=account.user)
    assert "nightly (virtual account)" in text_of(office.get(page_of(server)))
    set_for(office, server, account.user)
    assert headers_for(server, account.user) == [("Authorization", f"Bearer {GOOD}")]
    account.enabled = False
    account.save()
    assert "nightly" not in text_of(office.get(page_of(server)))


@pytest.mark.requirement("F-309")
def test_only_those_who_may_use_the_server_can_be_chosen(office: Client, cast: Cast, server: Server) -> None:
    AccessRule.objects.create(server=server, user=cast.stranger)
    AccessRule.objects.create(server=server, user=cast.outsider, expires_at=timezone.now() - timedelta(seconds=1))
    choices = text_of(office.get(page_of(server)))
    assert "member" in choices
    assert "stranger" not in choices
    assert "outsider" not in choices
    for person in (cast.stranger, cast.outsider):
        assert "Select a valid choice" in text_of(set_for(office, server, person))
    assert not OwnKey.objects.exists()
    AccessRule.objects.create(server=server, team=cast.readers)
    cast.outsider.groups.add(cast.readers)
    set_for(office, server, cast.outsider)
    assert OwnKey.objects.get().user == cast.outsider


@pytest.mark.requirement("F-309", "F-501")
def test_who_manages_another_server_sees_and_sets_nothing_here(
    client: Client, cast: Cast, server: Server, running: Vault
) -> None:
    AccessRule.objects.filter(server=server, user=cast.manager).delete()
    key = OwnKey.objects.create(user=cast.member, server=server, origin="x", set_by="member", comment="mark-of-it")
    client.force_login(cast.manager)
    assert "mark-of-it" not in text_of(client.get(LIST))
    assert client.get(f"{LIST}{key.pk}/change/").status_code == 302
    assert client.post(f"{LIST}{key.pk}/remove/").status_code == 404
    assert client.get(page_of(server)).status_code == 404
    assert client.post(page_of(server), {"person": cast.member.pk, "value_API_KEY": GOOD}).status_code == 404
    client.force_login(cast.member)
    assert client.get(LIST).status_code == 302
    assert OwnKey.objects.get().sealed_values == ""
    client.force_login(cast.admin)
    assert "mark-of-it" in text_of(client.get(LIST))


@pytest.mark.requirement("F-309")
def test_sealed_values_cannot_be_guessed_through_filters_of_the_list(
    office: Client, cast: Cast, server: Server
) -> None:
    set_for(office, server, cast.member)
    assert office.get(f"{LIST}?sealed_values__startswith=v1").status_code in (302, 400)


@pytest.mark.requirement("F-309")
def test_an_expired_key_stops_working_at_that_moment(office: Client, cast: Cast, server: Server) -> None:
    past = timezone.now() - timedelta(days=1)
    ends = {"ends_0": f"{past:%Y-%m-%d}", "ends_1": f"{past:%H:%M}"}
    assert "Choose a time in the future." in text_of(set_for(office, server, cast.member, API_KEY=GOOD, **ends))
    soon = timezone.now() + timedelta(days=1)
    set_for(office, server, cast.member, API_KEY=GOOD, ends_0=f"{soon:%Y-%m-%d}", ends_1=f"{soon:%H:%M}")
    assert missing(cast.member, server) is None
    OwnKey.objects.update(expires_at=timezone.now())
    found = missing(cast.member, server)
    assert found is not None
    assert (found.need, found.sentence) == (Need.OWN_KEY, "Your key for Vault has expired. Enter it again.")


@pytest.mark.requirement("F-309", "F-302")
def test_a_shared_header_is_overridden_for_one_person_header_by_header(
    office: Client, cast: Cast, server: Server, running: Vault
) -> None:
    shared = share(server, cast)
    assert "Enter at least one value" in text_of(set_for(office, shared, cast.member, note="nothing"))
    set_for(office, shared, cast.member, **{"Authorization": f"Bearer {GOOD}"})
    assert running.seen
    assert set(running.seen) == {f"Bearer {GOOD}"}
    assert headers_for(shared, cast.member) == [("Authorization", f"Bearer {GOOD}"), ("X-Team", BETTER)]
    row = with_config(shared)
    assert missing_own_key(None, row) is None
    OwnKey.objects.update(expires_at=timezone.now())
    # The shared value may open more than the person should have, so it does not step in.
    found = missing_own_key(OwnKey.objects.get(), row)
    assert found is not None
    assert found.need is Need.CREDENTIAL
    assert "a key that manager set for you. Your key for Vault has expired. Ask a manager of Vault" in found.sentence


@pytest.mark.requirement("F-309")
def test_a_person_neither_sets_nor_removes_what_stands_over_a_shared_header(
    office: Client, cast: Cast, server: Server, running: Vault
) -> None:
    shared = share(server, cast)
    set_for(office, shared, cast.member, **{"Authorization": f"Bearer {GOOD}"})
    person = Client()
    person.force_login(cast.member)
    found = text_of(person.get("/portal/servers/default/vault/"))
    assert "a key that manager set for you" in found
    assert "Replace" not in found
    assert person.post("/portal/servers/default/vault/own-key/", {"value_Authorization": "x"}).status_code == 404
    key = OwnKey.objects.get()
    assert f"/portal/own-keys/{key.pk}/remove/" not in text_of(person.get("/portal/connections/"))
    assert person.post(f"/portal/own-keys/{key.pk}/remove/").status_code == 404
    assert headers_for(shared, cast.member)[0] == ("Authorization", f"Bearer {GOOD}")


@pytest.mark.requirement("F-309")
def test_the_servers_page_and_the_list_lead_to_the_form(office: Client, cast: Cast, server: Server) -> None:
    assert "0 own keys (Auth Overrides)" in text_of(office.get(f"/admin/servers/server/{server.pk}/change/"))
    assert "Auth Overrides" in text_of(office.get(LIST))
    assert office.get(f"{LIST}add/").headers["Location"] == page_of(server)
    more = Server.objects.create(tenant=cast.tenant, slug="more", name="More", url=server.url)
    AuthConfig.objects.create(server=more, method=server.auth_config.method, settings=server.auth_config.settings)
    AccessRule.objects.create(server=more, user=cast.manager, role=Role.MANAGER)
    assert "More" in text_of(office.get(f"{LIST}add/"))
    assert office.get(f"{LIST}add/?server={more.pk}").headers["Location"] == page_of(more)
    assert "own keys (Auth Overrides)" not in text_of(office.get(f"/admin/servers/server/{cast.server.pk}/change/"))
