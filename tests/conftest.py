"""What every test may use: the fixed cast, a tenant with a server, and a live gateway."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import PBKDF2PasswordHasher, make_password
from django.contrib.auth.models import Group
from django.db import transaction
from pytest_django import DjangoDbBlocker

from servers import changes
from servers.models import AccessRule, AuthConfig, Membership, PrivateDestination, Role, Server, Tenant
from tests.support import database, static_files
from tests.support.gateway import LiveGateway
from tests.support.oidc_provider import OidcProvider


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix: None) -> None:
    """A file, which the gateway under test reads from threads and processes."""
    database.use_a_file()
    static_files.list_once()


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> None:
    """The migrated database, which tests find like that in any order."""
    with django_db_blocker.unblock():
        database.restore_after_tests()


@dataclass
class Cast:
    """The same people in the whole suite.

    admin: superuser, no rule on any server. manager: Manager of `server`. member: User of it through the team
    `readers`. outsider: same tenant, no rule. stranger: only in another tenant, but with a rule by mistake.
    """

    admin: Any
    manager: Any
    member: Any
    outsider: Any
    stranger: Any
    readers: Group
    tenant: Tenant
    other_tenant: Tenant
    server: Server


PASSWORD = "correct horse battery staple"
# The real algorithm at one round: five people a test would otherwise cost two seconds.
PBKDF2PasswordHasher.iterations = 1


@pytest.fixture
@transaction.atomic
def cast(db: None) -> Cast:
    User = get_user_model()
    tenant, _ = Tenant.objects.get_or_create(slug="default", defaults={"name": "Default"})
    other = Tenant.objects.create(slug="other", name="Other")
    names, password = ("admin", "manager", "member", "outsider", "stranger"), make_password(PASSWORD)
    powers = {"admin": {"is_staff": True, "is_superuser": True}}
    # At once and past the signals, since nearly every test waits for it: no cache knows these people yet.
    admin, manager, member, outsider, stranger = User.objects.bulk_create(
        User(username=name, email=f"{name}@example.com", password=password, **powers.get(name, {})) for name in names
    )
    homes = [Membership(user=person, tenant=tenant) for person in (admin, manager, member, outsider)]
    Membership.objects.bulk_create([*homes, Membership(user=stranger, tenant=other)])
    readers = Group.objects.create(name="readers")
    member.groups.add(readers)
    server = Server.objects.create(tenant=tenant, slug="calculator", name="Calculator", url="http://127.0.0.1:9/mcp")
    AuthConfig.objects.create(server=server)
    AccessRule.objects.create(server=server, user=manager, role=Role.MANAGER)
    AccessRule.objects.create(server=server, team=readers, role=Role.USER)
    AccessRule.objects.create(server=server, user=stranger, role=Role.MANAGER)
    return Cast(admin, manager, member, outsider, stranger, readers, tenant, other, server)


def allow_private(url: str) -> None:
    """Let the gateway call a loopback upstream of the tests."""
    from servers.egress import parse_destination

    destination = parse_destination(url)
    PrivateDestination.objects.get_or_create(host=destination.host, port=destination.port)


@pytest.fixture
def gateway(transactional_db: None) -> Iterator[LiveGateway]:
    """A live gateway on the test database."""
    with LiveGateway() as live:
        yield live


@pytest.fixture(scope="session")
def oidc_provider() -> Iterator[OidcProvider]:
    """A running OpenID provider, the same for all tests; one with other options: `OidcProvider(Options(...))`."""
    provider = OidcProvider()
    yield provider
    provider.stop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows what the provider that it used has logged."""
    report = yield
    provider = getattr(item, "funcargs", {}).get("oidc_provider")
    if report.failed and isinstance(provider, OidcProvider):
        report.sections.append(("log of the OpenID provider", provider.said()))
    return report


@pytest.fixture(autouse=True)
def empty_caches() -> Iterator[None]:
    """Rows of one test are not remembered in the next, nor what a provider said whose port the next one may get."""
    from authflows.inbound.identity.sso_backends import OidcBackend

    yield
    changes.forget_everything()
    OidcBackend.get_openid_configuration.invalidate()
    OidcBackend.get_jwks_keys_for_uri.invalidate()
