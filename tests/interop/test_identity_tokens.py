"""JWTs as a real OpenID provider makes them open the door."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from authflows.inbound.virtual_accounts import create_virtual_account
from authflows.models import AccountMapping, IdentityProvider, TeamMapping
from servers.models import AccessRule, Role
from tests.conftest import Cast, allow_private
from tests.support.calls import Caller, message, point_at
from tests.support.gateway import LiveGateway
from tests.support.oidc_provider import MACHINE_ID, OidcProvider, keys
from tests.support.upstream import Upstream

pytestmark = [pytest.mark.node, pytest.mark.requirement("F-208")]
LIST = message("tools/list")


@pytest.fixture
def url(gateway: LiveGateway, cast: Cast) -> Iterator[str]:
    with Upstream() as server:
        point_at(cast.server, server)
        yield gateway.mcp_url(cast.server)


def trusted(issuer: str, cast: Cast) -> IdentityProvider:
    allow_private(issuer)
    provider = IdentityProvider.objects.create(
        tenant=cast.tenant,
        name="Acme",
        slug="acme",
        issuer=issuer,
        accept_tokens=True,
        audiences=["gatehouse"],
        creation=IdentityProvider.Creation.DOMAINS,
        allowed_domains=["example.com"],
    )
    TeamMapping.objects.create(provider=provider, value="engineering", team=cast.readers)
    return provider


def status(url: str, token: str) -> int:
    return Caller(url, token).post(LIST).status


def test_a_person_of_the_allowed_domain_comes_in_with_their_groups(
    url: str, cast: Cast, oidc_provider: OidcProvider
) -> None:
    trusted(oidc_provider.issuer, cast)
    assert status(url, oidc_provider.mint(audience="gatehouse")) == 200
    assert status(url, oidc_provider.mint(audience="gatehouse", algorithm="ES256")) == 200
    assert status(url, oidc_provider.mint(audience=url)) == 200
    assert status(url, oidc_provider.mint(audience="gatehouse", seconds=-120)) == 401
    assert status(url, oidc_provider.mint(audience="gatehouse", signed_by=keys("strange"))) == 401
    assert status(url, oidc_provider.mint(audience="gatehouse", account="bob")) == 401, "their address is not verified"


def test_a_program_comes_in_as_the_virtual_account_that_its_client_id_stands_for(
    url: str, cast: Cast, oidc_provider: OidcProvider
) -> None:
    provider = trusted(oidc_provider.issuer, cast)
    account = create_virtual_account(cast.tenant, name="night-shift", description="", actor="admin")
    AccountMapping.objects.create(provider=provider, claim="client_id", value=MACHINE_ID, virtual_account=account)
    AccessRule.objects.create(server=cast.server, user=account.user, role=Role.USER)
    assert status(url, oidc_provider.token_of_machine(url)) == 200
    assert status(url, oidc_provider.token_of_machine(url.replace("calculator", "other"))) == 401


def test_rotated_keys_are_found_and_the_old_ones_no_longer_count(url: str, cast: Cast) -> None:
    provider = OidcProvider()
    try:
        row = trusted(provider.issuer, cast)
        old = provider.mint(audience="gatehouse", jti="old")
        assert status(url, provider.mint(audience="gatehouse")) == 200
        provider.restart(with_keys="second")
        new = provider.mint(audience="gatehouse", jti="new")
        row.save()  # the keys were fetched less than a minute ago; this forgets them
        assert status(url, new) == 200
        assert status(url, old) == 401
    finally:
        provider.stop()
