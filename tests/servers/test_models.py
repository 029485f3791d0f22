"""The rows: what the database itself refuses, what a form refuses, and what a row shows of itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import Model, ProtectedError, RestrictedError

from authflows.models import ApiKey, VirtualAccount
from servers.models import (
    AccessRule,
    AuditHead,
    AuthConfig,
    Membership,
    PrivateDestination,
    Role,
    Server,
    ServerGroup,
    StoredSecret,
    Tenant,
)
from servers.models.tenants import RESERVED_SLUGS
from servers.secrets.store import set_secret
from servers.tenancy import default_tenant
from tests.conftest import Cast


@pytest.mark.requirement("F-501")
@pytest.mark.parametrize(
    "fields",
    [
        lambda c, g: {"user": c.outsider},
        lambda c, g: {"server": c.server},
        lambda c, g: {"server": c.server, "group": g, "user": c.outsider},
        lambda c, g: {"server": c.server, "user": c.outsider, "team": c.readers},
        lambda c, g: {"group": g, "user": c.outsider, "team": c.readers},
        lambda c, g: {},
        lambda c, g: {"server": c.server, "user": c.manager},
        lambda c, g: {"server": c.server, "team": c.readers},
    ],
    ids=[
        "on nothing",
        "for nobody",
        "on a server and a group",
        "for a person and a team",
        "for both on a group",
        "empty",
        "a second one for a person",
        "a second one for a team",
    ],
)
def test_a_rule_that_makes_no_sense_is_refused_by_form_and_database(
    cast: Cast, fields: Callable[[Cast, ServerGroup], dict[str, Any]]
) -> None:
    group = ServerGroup.objects.create(tenant=cast.tenant, name="G", slug="g")
    rule = AccessRule(role=Role.USER, **fields(cast, group))
    with pytest.raises(ValidationError):
        rule.full_clean()
    with pytest.raises(IntegrityError), transaction.atomic():
        rule.save()


@pytest.mark.requirement("F-501", "F-102")
def test_the_rules_of_a_group_are_one_per_person_and_team(cast: Cast) -> None:
    group = ServerGroup.objects.create(tenant=cast.tenant, name="G", slug="g")
    for subject in ({"user": cast.outsider}, {"team": cast.readers}):
        AccessRule.objects.create(group=group, **subject)
        with pytest.raises(IntegrityError), transaction.atomic():
            AccessRule.objects.create(group=group, **subject)


@pytest.mark.requirement("F-107")
@pytest.mark.parametrize("slug", sorted(RESERVED_SLUGS))
def test_a_tenant_cannot_hide_a_path_of_the_gateway(db: None, slug: str) -> None:
    with pytest.raises(ValidationError, match="path of the gateway"):
        Tenant(slug=slug, name="T").full_clean()


@pytest.mark.requirement("F-107")
@pytest.mark.parametrize(
    "slug", ["", "-a", "a-", "A", "a_b", "a.b", "a/b", "a b", "ä", "a" * 64, "a\n", ".well-known", "%2e", "а"]
)
def test_a_slug_is_safe_in_a_url(cast: Cast, slug: str) -> None:
    rows: list[Model] = [
        Tenant(slug=slug, name="T"),
        Server(tenant=cast.tenant, slug=slug, name="S", url="https://s.example/"),
        ServerGroup(tenant=cast.tenant, slug=slug, name="G"),
        VirtualAccount(tenant=cast.tenant, name=slug, user=cast.member),
    ]
    for row in rows:
        with pytest.raises(ValidationError):
            row.full_clean()


@pytest.mark.requirement("F-107")
@pytest.mark.parametrize("slug", ["a", "0", "a-b", "a" * 63, "calculator2"])
def test_an_ordinary_slug_is_accepted(cast: Cast, slug: str) -> None:
    Server(tenant=cast.tenant, slug=slug, name="S", url="https://s.example/").full_clean()


@pytest.mark.requirement("F-107")
def test_two_tenants_may_use_the_same_names(cast: Cast) -> None:
    twin = Server.objects.create(tenant=cast.other_tenant, slug=cast.server.slug, name="S", url="https://s.example/")
    assert twin.mcp_path == "/other/mcp/calculator/server"
    assert cast.server.mcp_path == "/default/mcp/calculator/server"
    with pytest.raises(IntegrityError), transaction.atomic():
        Server.objects.create(tenant=cast.tenant, slug=cast.server.slug, name="S", url="https://s.example/")


@pytest.mark.requirement("F-101", "T26")
@pytest.mark.parametrize(
    "url", ["", "calculator", "ftp://h/", "file:///etc/passwd", "https://u:p@h/", "https://h/#f", "https://h/\n"]
)
def test_an_endpoint_that_could_never_be_called_is_refused(cast: Cast, url: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Server(tenant=cast.tenant, slug="s", name="S", url=url).full_clean()
    assert set(caught.value.message_dict) == {"url"}


@pytest.mark.requirement("F-101")
@pytest.mark.parametrize(
    "url",
    [
        "https://mcp.example.com/mcp",
        "http://calculator:8000/mcp",
        "http://localhost:8000/mcp",
        "http://127.0.0.1:8000/mcp",
        "http://[::1]:8000/mcp",
        "https://mcp.example.com/mcp?key=value",
        "http://calculator.tools.svc.cluster.local/mcp",
    ],
)
def test_an_endpoint_inside_or_outside_is_accepted(cast: Cast, url: str) -> None:
    Server(tenant=cast.tenant, slug="s", name="S", url=url).full_clean()


@pytest.mark.requirement("F-108")
@pytest.mark.parametrize(
    ("field", "value"),
    [("connect_timeout", 0), ("connect_timeout", 121), ("response_timeout", 0), ("response_timeout", 3601)],
)
def test_a_timeout_out_of_range_is_refused(cast: Cast, field: str, value: int) -> None:
    setattr(cast.server, field, value)
    with pytest.raises(ValidationError) as caught:
        cast.server.full_clean()
    assert field in caught.value.message_dict


def test_what_others_rest_on_is_not_deleted_under_them(cast: Cast) -> None:
    group = ServerGroup.objects.create(tenant=cast.tenant, name="G", slug="g")
    cast.server.group = group
    cast.server.save()
    for row in (group, cast.tenant):
        with pytest.raises((ProtectedError, RestrictedError)):
            row.delete()


def test_what_belongs_to_a_server_or_a_person_goes_with_them(cast: Cast) -> None:
    cast.server.delete()
    assert not AccessRule.objects.exists()
    assert not AuthConfig.objects.exists()
    ApiKey.objects.create(owner=cast.member, name="k", prefix="p", digest="d")
    cast.member.delete()
    assert not ApiKey.objects.exists()
    assert not Membership.objects.filter(user_id=cast.member.pk).exists()


@pytest.mark.requirement("T55", "T56")
def test_no_row_shows_a_secret_of_its_own(cast: Cast) -> None:
    secret = set_secret(tenant=cast.tenant, group="g", key="k", value="canary-value", actor="test")
    config = AuthConfig.objects.get(server=cast.server)
    config.set_header_templates([("Authorization", "Bearer secret://default:g:k")])
    key = ApiKey(owner=cast.member, name="laptop", prefix="ghk_abcdefgh", digest="canary-digest")
    for row in (secret, config, key, cast.server, AccessRule.objects.first(), AuditHead.objects.first()):
        assert "canary" not in f"{row} {row!r}"
    assert secret.sealed_value not in f"{secret} {secret!r}"


def test_there_is_one_audit_head(db: None) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        AuditHead.objects.create(id=2)


@pytest.mark.requirement("T26")
@pytest.mark.parametrize("port", [0, 65536])
def test_a_private_destination_needs_a_real_port(db: None, port: int) -> None:
    with pytest.raises(ValidationError):
        PrivateDestination(host="h", port=port).full_clean()


def test_a_fresh_database_has_the_default_tenant(db: None) -> None:
    assert default_tenant().slug == "default"


def test_a_secret_name_is_unique_in_its_tenant(cast: Cast) -> None:
    StoredSecret.objects.create(tenant=cast.tenant, group="g", key="k", sealed_value="x")
    StoredSecret.objects.create(tenant=cast.other_tenant, group="g", key="k", sealed_value="x")
    with pytest.raises(IntegrityError), transaction.atomic():
        StoredSecret.objects.create(tenant=cast.tenant, group="g", key="k", sealed_value="x")


@pytest.mark.parametrize("app", ["servers", "authflows"])
def test_the_migrations_match_the_models(db: None, app: str) -> None:
    from django.core.management import call_command

    call_command("makemigrations", app, check=True, dry_run=True, verbosity=0)
