"""The read side of servers: what the path of a call knows about one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from servers import registry
from servers.access import Grant
from servers.changes import NotCached
from servers.models import AccessRule, AuthConfig, Role, Server, ServerGroup
from tests.conftest import Cast


@pytest.mark.requirement("F-107")
@pytest.mark.parametrize(
    ("tenant", "slug"), [("default", "nothing"), ("nowhere", "calculator"), ("other", "calculator"), ("", "")]
)
def test_a_server_is_found_in_its_own_tenant_only(cast: Cast, tenant: str, slug: str) -> None:
    assert registry.find("default", "calculator") is not None
    assert registry.find(tenant, slug) is None


@pytest.mark.requirement("F-108")
def test_the_facts_are_those_of_the_row(cast: Cast) -> None:
    server = cast.server
    server.connect_timeout, server.response_timeout = 3, 30
    server.ca_certificate, server.max_request_bytes = "PEM", 1000
    server.static_headers = {"X-One": "1", "X-Two": "2"}
    server.allowed_request_headers = ["X-Trace", "accept-language"]
    server.enabled = False
    server.save()
    facts = registry.find("default", "calculator")
    assert facts is not None
    assert (facts.id, facts.tenant_id, facts.tenant_slug, facts.slug) == (
        server.pk,
        cast.tenant.pk,
        "default",
        "calculator",
    )
    assert (facts.name, facts.url, facts.enabled) == ("Calculator", server.url, False)
    assert (facts.connect_timeout, facts.response_timeout, facts.max_request_bytes) == (3, 30, 1000)
    assert facts.ca_certificate == "PEM"
    assert facts.static_headers == (("X-One", "1"), ("X-Two", "2"))
    assert facts.allowed_request_headers == {b"x-trace", b"accept-language"}
    assert facts.method is AuthConfig.Method.NONE


@pytest.mark.requirement("F-102", "F-501")
def test_the_rules_are_those_of_the_server_and_its_group(cast: Cast) -> None:
    group = ServerGroup.objects.create(tenant=cast.tenant, name="G", slug="g")
    end = datetime(2030, 1, 1, tzinfo=UTC)
    AccessRule.objects.create(group=group, user=cast.manager, role=Role.USER, expires_at=end)
    AccessRule.objects.create(group=group, team=cast.readers, role=Role.MANAGER)
    before = registry.rules_of(cast.server)
    cast.server.group = group
    after = registry.rules_of(cast.server)
    assert set(before.people[cast.manager.pk]) == {Grant(Role.MANAGER)}
    assert set(after.people[cast.manager.pk]) == {Grant(Role.MANAGER), Grant(Role.USER, end.timestamp())}
    assert set(after.teams[cast.readers.pk]) == {Grant(Role.USER), Grant(Role.MANAGER)}


@pytest.mark.requirement("F-301")
def test_a_server_without_a_configuration_needs_no_authentication(cast: Cast) -> None:
    AuthConfig.objects.all().delete()
    facts = registry.find("default", "calculator")
    assert facts is not None
    assert facts.method is AuthConfig.Method.NONE


@pytest.mark.django_db(transaction=True)
def test_a_server_is_read_once_and_a_missing_one_every_time(
    cast: Cast, django_assert_num_queries: Callable[[int], Any]
) -> None:
    with pytest.raises(NotCached):
        registry.find("default", "calculator", may_load=False)
    registry.find("default", "calculator")
    with django_assert_num_queries(0):
        assert registry.find("default", "calculator", may_load=False) is not None
    assert registry.find("default", "later") is None
    Server.objects.create(tenant=cast.tenant, slug="later", name="L", url="https://l.example/")
    assert registry.find("default", "later") is not None


@pytest.mark.django_db(transaction=True)
def test_the_queries_for_one_server_do_not_grow_with_the_others(
    cast: Cast, django_assert_max_num_queries: Callable[[int], Any]
) -> None:
    Server.objects.bulk_create(
        [Server(tenant=cast.tenant, slug=f"s{number}", name="S", url="https://s.example/") for number in range(300)]
    )
    with django_assert_max_num_queries(3):
        assert registry.find("default", "s7") is not None
