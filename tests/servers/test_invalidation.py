"""After every kind of write, what is in memory is what a cold start would read; and other processes are told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db.models import F
from django.utils import timezone

from authflows.inbound.api_keys import create_key, revoke_key
from authflows.inbound.bearer import Unauthenticated, authenticate
from authflows.models import ApiKey, VirtualAccount
from authflows.outbound.credentials import credential_for
from servers import changes, egress, registry
from servers.access import Principal
from servers.models import AccessRule, AuthConfig, Change, Membership, PrivateDestination, Role, Server, ServerGroup
from servers.secrets.store import rotate_secrets, set_secret
from tests.conftest import Cast

NOW = 1_000_000.0
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.requirement("T9")]


class ProxyUser(User):
    """A proxy model, as an admin page may use one: it is a sender of signals of its own."""

    class Meta:
        proxy = True
        app_label = "auth"


class ProxyTeam(Group):
    class Meta:
        proxy = True
        app_label = "auth"


@dataclass
class World:
    """The cast, and more of everything that a write can touch."""

    cast: Cast
    group: ServerGroup
    other_group: ServerGroup
    neighbour: Server
    grouped: Server
    team: Group
    account: VirtualAccount
    tokens: dict[str, str]
    keys: dict[str, ApiKey]

    def seen(self) -> dict[str, Any]:
        """What the path of a call would go by, from memory where it is there."""
        found: dict[str, Any] = {}
        for tenant in ("default", "renamed"):
            for slug in ("calculator", "neighbour", "grouped", "renamed"):
                found[f"{tenant}/{slug}"] = registry.find(tenant, slug)
        for name, token in self.tokens.items():
            found[name] = authenticate(f"Bearer {token}".encode(), now=NOW)
        found["private"] = egress.private_destinations()
        server = registry.find("default", "calculator")
        if server is not None:
            try:
                found["credential"] = credential_for(any_principal, server)
            except Exception as error:
                found["credential"] = str(error)
        return found


any_principal = Principal(0, "", True, frozenset(), frozenset(), "")


@pytest.fixture
def world(cast: Cast) -> World:
    group = ServerGroup.objects.create(tenant=cast.tenant, name="Group", slug="group")
    other_group = ServerGroup.objects.create(tenant=cast.tenant, name="Other", slug="other-group")
    neighbour = Server.objects.create(tenant=cast.tenant, slug="neighbour", name="N", url="https://n.example/")
    grouped = Server.objects.create(tenant=cast.tenant, slug="grouped", name="G", url="https://g.example/", group=group)
    team = Group.objects.create(name="writers")
    AccessRule.objects.create(group=group, user=cast.outsider, role=Role.USER)
    AccessRule.objects.create(group=other_group, team=team, role=Role.MANAGER)
    set_secret(tenant=cast.tenant, group="g", key="token", value="first value", actor="test")
    set_secret(tenant=cast.tenant, group="g", key="tok", value="another", actor="test")
    config = AuthConfig.objects.get(server=cast.server)
    config.method = AuthConfig.Method.SHARED_HEADER
    config.set_header_templates([("X-Key", "Key secret://default:g:token")])
    config.save()
    robot = User.objects.create_user("robot")
    account = VirtualAccount.objects.create(tenant=cast.tenant, name="robot", user=robot)
    made = {
        name: create_key(owner=owner, name=name, actor="test")
        for name, owner in (
            ("member", cast.member),
            ("outsider", cast.outsider),
            ("robot", robot),
            ("manager", cast.manager),
        )
    }
    made["limited"] = create_key(owner=cast.manager, name="limited", actor="test", servers=[cast.server, neighbour])
    return World(
        cast,
        group,
        other_group,
        neighbour,
        grouped,
        team,
        account,
        {name: token for name, (_, token) in made.items()},
        {name: key for name, (key, _) in made.items()},
    )


def save(row: Any, *, fields: list[str] | None = None, **values: Any) -> None:
    for name, value in values.items():
        setattr(row, name, value)
    row.save(update_fields=fields)


def rule(**fields: Any) -> AccessRule:
    return AccessRule.objects.get(**fields)


def config_of(server: Server) -> AuthConfig:
    return AuthConfig.objects.get(server=server)


WRITES: dict[str, Callable[[World], Any]] = {
    "a rule is added": lambda w: AccessRule.objects.create(server=w.cast.server, user=w.cast.outsider),
    "a rule is removed": lambda w: rule(server=w.cast.server, user=w.cast.manager).delete(),
    "rules are removed in bulk": lambda w: AccessRule.objects.filter(server=w.cast.server).delete(),
    "a rule changes its role": lambda w: save(rule(server=w.cast.server, user=w.cast.manager), role=Role.USER),
    "a rule gets an end": lambda w: save(
        rule(server=w.cast.server, user=w.cast.manager), expires_at=timezone.now() + timedelta(days=1)
    ),
    "a rule changes its person": lambda w: save(rule(server=w.cast.server, user=w.cast.manager), user=w.cast.outsider),
    "a rule moves to another server": lambda w: save(
        rule(server=w.cast.server, user=w.cast.manager), server=w.neighbour
    ),
    "a rule moves from a server to a group": lambda w: save(
        rule(server=w.cast.server, user=w.cast.manager), server=None, group=w.group
    ),
    "a group's rule is added": lambda w: AccessRule.objects.create(group=w.group, team=w.team),
    "a group's rule is removed": lambda w: rule(group=w.group, user=w.cast.outsider).delete(),
    "a group's rule moves to another group": lambda w: save(
        rule(group=w.group, user=w.cast.outsider), group=w.other_group
    ),
    "a server moves into a group": lambda w: save(w.cast.server, group=w.other_group),
    "a server moves to another group": lambda w: save(w.grouped, group=w.other_group),
    "a server leaves its group": lambda w: save(w.grouped, group=None),
    "a server is disabled": lambda w: save(w.cast.server, enabled=False, fields=["enabled"]),
    "a server changes its address": lambda w: save(w.cast.server, url="https://moved.example/mcp"),
    "a server changes its slug": lambda w: save(w.cast.server, slug="renamed"),
    "a server moves to another tenant": lambda w: save(w.cast.server, tenant=w.cast.other_tenant),
    "a server is deleted": lambda w: w.cast.server.delete(),
    "a tenant changes its slug": lambda w: save(w.cast.tenant, slug="renamed"),
    "a person is disabled": lambda w: save(w.cast.member, is_active=False),
    "a person is disabled through a proxy model": lambda w: save(
        ProxyUser.objects.get(pk=w.cast.member.pk), is_active=False
    ),
    "a person is renamed": lambda w: save(w.cast.member, username="renamed"),
    "a person is deleted": lambda w: w.cast.manager.delete(),
    "people are deleted in bulk": lambda w: User.objects.filter(pk=w.cast.manager.pk).delete(),
    "a person joins a team": lambda w: w.cast.outsider.groups.add(w.team),
    "a team takes a person in": lambda w: w.team.user_set.add(w.cast.outsider),
    "a person leaves a team": lambda w: w.cast.member.groups.remove(w.cast.readers),
    "a team lets a person go": lambda w: w.cast.readers.user_set.remove(w.cast.member),
    "a person leaves every team": lambda w: w.cast.member.groups.clear(),
    "a team is emptied": lambda w: w.cast.readers.user_set.clear(),
    "a person's teams are set": lambda w: w.cast.member.groups.set([w.team]),
    "a team is deleted": lambda w: w.cast.readers.delete(),
    "a team is deleted through a proxy model": lambda w: ProxyTeam.objects.get(pk=w.cast.readers.pk).delete(),
    "a person joins a tenant": lambda w: Membership.objects.create(user=w.cast.member, tenant=w.cast.other_tenant),
    "a person leaves a tenant": lambda w: Membership.objects.get(user=w.cast.member).delete(),
    "a membership passes to another person": lambda w: save(
        Membership.objects.get(user=w.cast.member), user=w.cast.stranger
    ),
    "a tenant is deleted": lambda w: (
        Membership.objects.create(user=w.cast.member, tenant=w.cast.other_tenant),
        w.seen(),
        w.cast.other_tenant.delete(),
    ),
    "a virtual account is disabled": lambda w: save(w.account, enabled=False),
    "a virtual account is renamed": lambda w: save(w.account, name="renamed"),
    "a virtual account is deleted": lambda w: w.account.delete(),
    "a key is revoked": lambda w: revoke_key(w.keys["member"], actor="test"),
    "a key is deleted": lambda w: w.keys["member"].delete(),
    "a key gets an end": lambda w: save(w.keys["member"], expires_at=timezone.now() + timedelta(days=1)),
    "a key changes hands": lambda w: save(w.keys["member"], owner=w.cast.outsider),
    "a key is limited": lambda w: save(w.keys["member"], limited=True),
    "a limited key gets a server": lambda w: w.keys["limited"].servers.add(w.grouped),
    "a limited key loses a server": lambda w: w.keys["limited"].servers.remove(w.neighbour),
    "a limited key loses every server": lambda w: w.keys["limited"].servers.clear(),
    "a limited key's servers are set": lambda w: w.keys["limited"].servers.set([w.grouped]),
    "the authentication changes its method": lambda w: save(config_of(w.cast.server), method=AuthConfig.Method.NONE),
    "the authentication changes a header": lambda w: save(
        config_of(w.cast.server), settings={"headers": [{"name": "X-Other", "value": "plain"}]}
    ),
    "the authentication is deleted": lambda w: config_of(w.cast.server).delete(),
    "a secret gets another value": lambda w: set_secret(
        tenant=w.cast.tenant, group="g", key="token", value="second value", actor="test"
    ),
    "a secret is deleted": lambda w: w.cast.tenant.secrets.get(key="token").delete(),
    "a private destination is allowed": lambda w: PrivateDestination.objects.create(host="db.internal", port=80),
    "a private destination is removed": lambda w: (
        PrivateDestination.objects.create(host="db.internal", port=80),
        w.seen(),
        PrivateDestination.objects.get(host="db.internal").delete(),
    ),
}
# Writes that leave the picture above as it was at the beginning, by their nature.
SAME_AS_BEFORE = {"a private destination is removed", "a tenant is deleted"}


@pytest.fixture
def heard() -> Iterator[list[tuple[str, str]]]:
    found: list[tuple[str, str]] = []
    end = changes.listen(lambda kind, key: found.append((kind, key)))
    yield found
    end()


@pytest.mark.requirement("T10", "F-206", "F-207", "F-501", "F-102")
@pytest.mark.parametrize("write", WRITES)
def test_memory_is_true_after(write: str, world: World, heard: list[tuple[str, str]]) -> None:
    before = world.seen()
    Change.objects.all().delete()
    heard.clear()

    WRITES[write](world)

    warm = world.seen()
    changes.forget_everything()
    cold = world.seen()
    # A deleted server or tenant stays in the sets of principals; its id never comes back.
    if write not in ("a server is deleted", "a tenant is deleted"):
        assert warm == cold
    assert (cold == before) == (write in SAME_AS_BEFORE), "the write should show"
    told = set(Change.objects.values_list("kind", "key"))
    assert told
    assert told == set(heard), "other processes are told what this one evicted"


@pytest.mark.requirement("F-206")
def test_a_key_whose_only_server_is_deleted_opens_nothing(world: World) -> None:
    key, token = create_key(owner=world.cast.manager, name="k", actor="test", servers=[world.neighbour])
    world.neighbour.delete()
    key.refresh_from_db()
    assert key.limited
    principal = authenticate(f"Bearer {token}".encode(), now=NOW)
    assert not isinstance(principal, Unauthenticated)
    assert principal.limited_to == frozenset()


# --- What need not be told ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "write",
    [
        lambda w: save(w.cast.server, health="ok", fields=["health", "health_at", "health_detail"]),
        lambda w: save(w.cast.member, last_login=timezone.now(), fields=["last_login"]),
        lambda w: save(w.keys["member"], last_used_at=timezone.now(), fields=["last_used_at"]),
        lambda w: save(w.group, description="text"),
        lambda w: save(w.team, name="renamed"),
    ],
    ids=["health", "last sign-in", "last use of a key", "a group's text", "a team's name"],
)
def test_writes_that_decide_nothing_empty_no_cache(world: World, write: Callable[[World], None]) -> None:
    Change.objects.all().delete()
    write(world)
    assert not Change.objects.exists()


# --- Epochs: which upstream sessions stay good ----------------------------------------------------


def session_epoch(world: World) -> int:
    return Server.objects.get(pk=world.cast.server.pk).session_epoch


def credential_epoch(world: World) -> int:
    return config_of(world.cast.server).epoch


@pytest.mark.requirement("SE-4", "T40")
def test_a_new_address_ends_the_sessions_of_the_old_one(world: World) -> None:
    server, first = world.cast.server, session_epoch(world)
    save(server, name="Same address")
    assert session_epoch(world) == first
    save(server, url="https://two.example/mcp")
    assert session_epoch(world) == first + 1
    save(server, url="https://three.example/mcp", fields=["url"])
    assert session_epoch(world) == first + 2


@pytest.mark.requirement("SE-4", "SE-8")
def test_a_row_read_earlier_does_not_turn_the_epochs_back(world: World) -> None:
    stale, stale_config = Server.objects.get(pk=world.cast.server.pk), config_of(world.cast.server)
    Server.objects.filter(pk=stale.pk).update(session_epoch=F("session_epoch") + 5)
    AuthConfig.objects.filter(pk=stale_config.pk).update(epoch=F("epoch") + 5)
    session, credential = session_epoch(world), credential_epoch(world)
    save(stale, description="edited")
    save(stale_config)
    assert (session_epoch(world), credential_epoch(world)) == (session, credential)
    save(stale_config, method=AuthConfig.Method.NONE)
    assert credential_epoch(world) == credential + 1
    save(stale, session_epoch=F("session_epoch") + 1)
    assert session_epoch(world) == session + 1


@pytest.mark.requirement("SE-4", "T40")
def test_a_new_value_of_a_secret_ends_the_sessions_that_the_old_one_opened(world: World) -> None:
    first = credential_epoch(world)
    set_secret(tenant=world.cast.tenant, group="g", key="tok", value="not in use", actor="test")
    assert credential_epoch(world) == first
    set_secret(tenant=world.cast.tenant, group="g", key="token", value="in use", actor="test")
    assert credential_epoch(world) == first + 1


@pytest.mark.requirement("F-404", "SE-2")
def test_sealing_a_secret_anew_ends_no_session(world: World, settings: Any) -> None:
    from gateway_project.keys import make_ring_key
    from servers.sealing import KeyRing

    first = credential_epoch(world)
    settings.KEY_RING = KeyRing((*KeyRing.parse(make_ring_key()).keys, *settings.KEY_RING.keys))
    assert rotate_secrets().sealed_anew == 2
    assert credential_epoch(world) == first


@pytest.mark.requirement("F-107")
def test_a_new_person_belongs_to_the_default_tenant(cast: Cast) -> None:
    person = ProxyUser.objects.create_user("newcomer")
    assert [m.tenant for m in Membership.objects.filter(user=person)] == [cast.tenant]
