"""What the first call of a caller to a server costs: it is what everybody waits for after a restart or a change."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from typing import Any, Protocol

import pytest

from authflows.inbound.api_keys import create_key
from authflows.inbound.virtual_accounts import create_virtual_account
from proxy.pipeline import Knock, Prepared, prepare_call
from servers import changes
from servers.models import AccessRule, AuthConfig, Role
from servers.secrets.store import set_secret
from tests.conftest import Cast

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.requirement("F-501")]


class CountsQueries(Protocol):
    """pytest-django's fixture."""

    def __call__(self, number: int) -> AbstractContextManager[Any]: ...


def ask(token: str, *, may_load: bool = True) -> Prepared:
    """A call to the cast's server with this key."""
    knock = Knock("default", "calculator", "server", f"Bearer {token}".encode(), False, b"")
    prepared = prepare_call(knock, now=time.time(), may_load=may_load)
    assert isinstance(prepared, Prepared), prepared
    return prepared


def key_of(owner: Any, **limits: Any) -> str:
    return create_key(owner=owner, name="laptop", actor="tests", **limits)[1]


def test_the_first_call_of_a_person_takes_five_queries_and_the_next_none(
    cast: Cast, django_assert_num_queries: CountsQueries
) -> None:
    token = key_of(cast.member)
    changes.forget_everything()
    with django_assert_num_queries(5):  # key, tenants and teams, server, rules, credential
        cold = ask(token)
    with django_assert_num_queries(0):
        warm = ask(token, may_load=False)
    assert (cold.principal, cold.server, cold.credential) == (warm.principal, warm.server, warm.credential)
    assert cold.principal.teams == {cast.readers.pk}
    assert cold.principal.tenants == {cast.tenant.pk}
    assert cold.principal.label == "member"


def test_the_first_call_of_a_virtual_account_takes_as_many(
    cast: Cast, django_assert_num_queries: CountsQueries
) -> None:
    account = create_virtual_account(cast.tenant, name="nightly", description="", actor="tests")
    AccessRule.objects.create(server=cast.server, user=account.user, role=Role.USER)
    token = key_of(account.user)
    changes.forget_everything()
    with django_assert_num_queries(5):
        cold = ask(token)
    assert cold.principal.label == "virtual account nightly"
    assert cold.principal.tenants == {cast.tenant.pk}


def test_the_limits_of_a_key_an_own_value_and_a_stored_secret_take_one_query_each(
    cast: Cast, django_assert_num_queries: CountsQueries
) -> None:
    set_secret(tenant=cast.tenant, group="calculator", key="x-key", value="canary", actor="tests")
    config = AuthConfig.objects.get(server=cast.server)
    config.method = AuthConfig.Method.SHARED_HEADER
    config.set_header_templates([("X-Key", "secret://default:calculator:x-key")])
    config.save()
    token = key_of(cast.member, servers=[cast.server])
    changes.forget_everything()
    with django_assert_num_queries(8):  # an own value in place of the shared one is looked for once
        cold = ask(token)
    with django_assert_num_queries(0):
        ask(token, may_load=False)
    assert cold.credential.headers == (("X-Key", "canary"),)
    assert cold.server.credential_epoch == AuthConfig.objects.get(server=cast.server).epoch


def test_a_person_of_several_tenants_and_teams_has_them_all(cast: Cast) -> None:
    cast.member.memberships.create(tenant=cast.other_tenant)
    others = [cast.member.groups.create(name=f"team {number}").pk for number in range(3)]
    principal = ask(key_of(cast.member)).principal
    assert principal.tenants == {cast.tenant.pk, cast.other_tenant.pk}
    assert principal.teams == {cast.readers.pk, *others}
