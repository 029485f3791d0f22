"""Virtual accounts and API keys in the admin: made, shown once, revoked, deleted with what ends."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from django.contrib.auth import get_user_model

from authflows.inbound.api_keys import create_key
from authflows.inbound.bearer import authenticate
from authflows.inbound.virtual_accounts import create_virtual_account
from authflows.models import ApiKey, VirtualAccount
from servers.models import AccessRule, AuditEvent, Membership, Role, Server
from tests.conftest import Cast
from tests.servers.test_admin_access import page, signed_in

pytestmark = [pytest.mark.django_db, pytest.mark.requirement("F-207")]


def opens(token: str) -> bool:
    return bool(authenticate(f"Bearer {token}".encode(), now=time.time()))


@pytest.fixture
def tenant_admin(cast: Cast) -> Any:
    person = get_user_model().objects.create_user("tina", "tina@example.com", "x")
    Membership.objects.filter(user=person, tenant=cast.tenant).update(role=Membership.Role.ADMIN)
    return person


def test_an_account_is_made_with_a_user_that_cannot_sign_in(cast: Cast, tenant_admin: Any) -> None:
    client = signed_in(tenant_admin)
    answer = client.post(page("authflows_virtualaccount_add"), {"name": "nightly", "description": "CI"})
    account = VirtualAccount.objects.select_related("user").get()
    assert answer.url == page("authflows_virtualaccount_change", account.pk)
    assert account.user.username == "virtual:default/nightly"
    assert not account.user.has_usable_password()
    assert list(Membership.objects.filter(user=account.user).values_list("tenant", flat=True)) == [cast.tenant.pk]
    assert AuditEvent.objects.filter(action="virtual_account:create", actor="tina").count() == 1
    again = client.post(page("authflows_virtualaccount_add"), {"name": "nightly", "description": ""})
    assert again.status_code == 200
    assert VirtualAccount.objects.count() == 1


def test_an_account_of_another_tenant_belongs_to_it_alone(cast: Cast) -> None:
    account = create_virtual_account(cast.other_tenant, name="bot", description="", actor="t")
    tenants = Membership.objects.filter(user=account.user).values_list("tenant", flat=True)
    assert list(tenants) == [cast.other_tenant.pk]


@pytest.mark.requirement("F-206")
def test_a_key_is_shown_once_and_revoked(cast: Cast, tenant_admin: Any) -> None:
    account = create_virtual_account(cast.tenant, name="nightly", description="", actor="t")
    client = signed_in(tenant_admin)
    url = page("authflows_virtualaccount_add_key", account.pk)
    assert client.get(url).status_code == 200
    made = client.post(url, {"name": "build", "expires_at_0": "", "expires_at_1": "", "servers": [cast.server.pk]})
    assert "no-store" in made["Cache-Control"]
    token = re.search(r'value="(ghk_[^"]+)"', made.content.decode())
    assert token is not None
    assert opens(token[1])
    key = ApiKey.objects.get()
    assert (key.owner, key.limited, list(key.servers.all())) == (account.user, True, [cast.server])
    listed = client.get(page("authflows_virtualaccount_change", account.pk)).content.decode()
    assert key.prefix in listed
    assert token[1] not in listed
    assert client.get(page("authflows_apikey_revoke", key.pk)).status_code == 302
    assert opens(token[1])
    client.post(page("authflows_apikey_revoke", key.pk))
    assert ApiKey.objects.get().state() == "revoked"
    assert AuditEvent.objects.filter(action="api_key:revoke", actor="tina").count() == 1


def test_a_key_cannot_be_limited_to_a_server_of_another_tenant(cast: Cast, tenant_admin: Any) -> None:
    account = create_virtual_account(cast.tenant, name="nightly", description="", actor="t")
    far = Server.objects.create(tenant=cast.other_tenant, slug="far", name="Far", url="https://far.example/")
    url = page("authflows_virtualaccount_add_key", account.pk)
    assert "Far" not in signed_in(tenant_admin).get(url).content.decode()
    signed_in(tenant_admin).post(url, {"name": "build", "servers": [far.pk]})
    assert not ApiKey.objects.exists()


def test_deleting_an_account_shows_what_ends_and_ends_it(cast: Cast, tenant_admin: Any) -> None:
    account = create_virtual_account(cast.tenant, name="nightly", description="", actor="t")
    _, token = create_key(owner=account.user, name="build", actor="t")
    AccessRule.objects.create(server=cast.server, user=account.user, role=Role.USER)
    client = signed_in(tenant_admin)
    asked = client.get(page("authflows_virtualaccount_delete", account.pk)).content.decode()
    assert "build" in asked
    assert "Access to Calculator, as User" in asked
    client.post(page("authflows_virtualaccount_delete", account.pk), {"post": "yes"})
    assert not opens(token)
    assert not get_user_model().objects.filter(username__startswith="virtual:").exists()
    event = AuditEvent.objects.get(action="virtual_account:delete")
    assert event.detail == {"keys": 1, "rules": 1}


def test_accounts_are_not_for_managers_and_other_tenants(cast: Cast, tenant_admin: Any) -> None:
    far = create_virtual_account(cast.other_tenant, name="bot", description="", actor="t")
    for person in (cast.manager, tenant_admin):
        client = signed_in(person)
        for name in ("change", "delete", "add_key"):
            answer = client.get(page(f"authflows_virtualaccount_{name}", far.pk))
            assert answer.status_code in (302, 403, 404)
            assert answer.status_code != 302 or "admin" in answer.url
        client.post(page("authflows_virtualaccount_add_key", far.pk), {"name": "x"})
    assert not ApiKey.objects.exists()


def test_a_tenant_admin_revokes_keys_of_people_of_the_tenant_alone(cast: Cast, tenant_admin: Any) -> None:
    mine, _ = create_key(owner=cast.member, name="laptop", actor="t")
    far, _ = create_key(owner=cast.stranger, name="laptop", actor="t")
    root, _ = create_key(owner=cast.admin, name="laptop", actor="t")
    client = signed_in(tenant_admin)
    for key in (mine, far, root):
        client.post(page("authflows_apikey_revoke", key.pk))
    chosen = {"action": "revoke", "_selected_action": [str(far.pk), str(root.pk)], "confirmed": "yes"}
    client.post(page("authflows_apikey_changelist"), chosen)
    revoked = set(ApiKey.objects.filter(revoked_at__isnull=False).values_list("pk", flat=True))
    assert revoked == {mine.pk}
    signed_in(cast.manager).post(page("authflows_apikey_revoke", far.pk))
    assert ApiKey.objects.filter(revoked_at__isnull=False).count() == 1


def test_revoking_from_the_list_asks_first(cast: Cast) -> None:
    key, token = create_key(owner=cast.member, name="laptop", actor="t")
    client = signed_in(cast.admin)
    chosen = {"action": "revoke", "_selected_action": str(key.pk)}
    assert "Revoke API keys?" in client.post(page("authflows_apikey_changelist"), chosen).content.decode()
    assert opens(token)
    client.post(page("authflows_apikey_changelist"), {**chosen, "confirmed": "yes"})
    assert ApiKey.objects.get().state() == "revoked"


def test_deleting_a_server_names_the_keys_that_are_limited_to_it(cast: Cast) -> None:
    create_key(owner=cast.member, name="only-calculator", actor="t", servers=[cast.server])
    client = signed_in(cast.manager)
    asked = client.get(page("servers_server_delete", cast.server.pk)).content.decode()
    assert "only-calculator" in asked
    assert "Collaborators: 3" in asked
    client.post(page("servers_server_delete", cast.server.pk), {"post": "yes"})
    assert not Server.objects.filter(pk=cast.server.pk).exists()
    assert AuditEvent.objects.get(action="server:delete").detail == {"collaborators": 3, "limited_keys": 1}


def test_a_person_with_keys_can_be_deleted_but_not_oneself(cast: Cast) -> None:
    create_key(owner=cast.member, name="laptop", actor="t")
    client = signed_in(cast.admin)
    client.post(page("auth_user_delete", cast.member.pk), {"post": "yes"})
    client.post(page("auth_user_delete", cast.admin.pk), {"post": "yes"})
    assert not get_user_model().objects.filter(username="member").exists()
    assert get_user_model().objects.filter(username="admin").exists()
    assert AuditEvent.objects.filter(action="person:change", subject="member").count() == 1
