"""What a virtual server presents to a member for all callers: whose secrets, where to, and until when."""

from __future__ import annotations

import pytest

from authflows.outbound.credentials import Credential, member_credential
from servers import registry
from servers.changes import NotCached
from servers.errors import SecretUnavailable
from servers.models import AuthConfig, Server
from servers.models.virtual import VirtualMember
from servers.secrets.store import set_secret
from servers.virtual.facts import members_of
from tests.conftest import Cast

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def member(cast: Cast) -> VirtualMember:
    """The calculator inside a virtual server that has a key of its own for it."""
    set_secret(tenant=cast.tenant, group="g", key="k", value="first", actor="test")
    virtual = Server.objects.create(tenant=cast.tenant, slug="office", name="Office", kind=Server.Kind.VIRTUAL)
    credential = [{"name": "Authorization", "value": "Bearer secret://default:g:k"}]
    return VirtualMember.objects.create(virtual=virtual, server=cast.server, alias="calc", credential=credential)


def credential(member: VirtualMember, *, may_load: bool = True) -> Credential:
    server = registry.find_by_id(member.server_id)
    assert server is not None
    (facts,) = members_of(member.virtual_id)
    return member_credential(facts, server, may_load=may_load)


@pytest.mark.requirement("F-605", "F-302")
def test_a_members_credential_takes_the_place_of_its_own_method(cast: Cast, member: VirtualMember) -> None:
    config = AuthConfig.objects.get(server=cast.server)
    config.method = AuthConfig.Method.OAUTH2
    config.save()
    found = credential(member)
    assert found.headers == (("Authorization", "Bearer first"),)
    assert found.shared
    assert found.epoch.startswith(f"member.{member.pk}.1.")
    assert "first" not in repr(found) + found.epoch
    assert credential(member, may_load=False) is found


@pytest.mark.requirement("T9", "SE-4")
def test_a_new_value_of_its_secret_is_used_at_once_under_another_epoch(cast: Cast, member: VirtualMember) -> None:
    before = credential(member)
    set_secret(tenant=cast.tenant, group="g", key="k", value="second", actor="test")
    after = credential(member)
    assert after.headers == (("Authorization", "Bearer second"),)
    assert after.epoch != before.epoch


@pytest.mark.requirement("T9", "SE-4")
def test_another_credential_counts_the_epoch_up_and_an_unchanged_one_does_not(member: VirtualMember) -> None:
    before = credential(member)
    member.alias = "numbers"
    member.save(update_fields=["alias"])
    assert credential(member).epoch == before.epoch
    stale = VirtualMember.objects.get(pk=member.pk)
    member.credential = [{"name": "X-Key", "value": "secret://default:g:k"}]
    member.save(update_fields=["credential"])
    after = credential(member)
    assert after.headers == (("X-Key", "first"),)
    assert after.epoch.startswith(f"member.{member.pk}.2.")
    # A row that was read before does not turn it back, whatever it is saved for.
    stale.position = 5
    stale.save(update_fields=["position"])
    assert credential(member).epoch == after.epoch


@pytest.mark.requirement("T29")
def test_it_is_not_sent_where_a_manager_of_the_member_moves_the_member_to(cast: Cast, member: VirtualMember) -> None:
    assert credential(member)
    cast.server.url = "https://elsewhere.example.com/mcp"
    cast.server.save()
    with pytest.raises(SecretUnavailable, match="manager of Office has to enter it again"):
        credential(member)
    # Another path at the same place is the same server.
    cast.server.url = "http://127.0.0.1:9/another"
    cast.server.save()
    assert credential(member).url == "http://127.0.0.1:9/another"
    cast.server.url = "https://elsewhere.example.com/mcp"
    cast.server.save()
    member.credential_origin = ""
    member.save()
    assert credential(member).url == "https://elsewhere.example.com/mcp"


@pytest.mark.requirement("F-107")
def test_secrets_of_another_tenant_are_not_available(cast: Cast, member: VirtualMember) -> None:
    set_secret(tenant=cast.other_tenant, group="g", key="k", value="canary", actor="test")
    member.credential = [{"name": "X-Key", "value": "secret://other:g:k"}]
    member.save()
    with pytest.raises(SecretUnavailable, match="secret://other:g:k") as caught:
        credential(member)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("change", ["removed", "emptied"])
def test_one_that_was_taken_away_is_gone_at_once(cast: Cast, member: VirtualMember, change: str) -> None:
    server = registry.find_by_id(member.server_id)
    assert server is not None
    (facts,) = members_of(member.virtual_id)
    assert member_credential(facts, server)
    if change == "removed":
        member.delete()
    else:
        member.credential = []
        member.save()
    with pytest.raises(NotCached):
        member_credential(facts, server, may_load=False)
    with pytest.raises(SecretUnavailable, match="a moment ago"):
        member_credential(facts, server)
