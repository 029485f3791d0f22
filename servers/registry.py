"""The read side of servers: what a call needs to know about one, kept in memory until it changes."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from uuid import UUID

from django.db.models import Q

from servers import changes
from servers.access import Grant, Rules
from servers.models.access import AccessRule, Role
from servers.models.servers import AuthConfig, Server


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """One server as the path of a call sees it. Times are seconds, sizes bytes."""

    id: UUID
    tenant_id: UUID
    tenant_slug: str
    slug: str
    name: str
    url: str
    enabled: bool
    method: AuthConfig.Method
    connect_timeout: int
    response_timeout: int
    ca_certificate: str
    static_headers: tuple[tuple[str, str], ...]
    allowed_request_headers: frozenset[bytes]
    max_request_bytes: int | None
    session_epoch: int
    credential_epoch: int
    rules: Rules


_by_path: changes.Cache[tuple[str, str], ServerFacts] = changes.Cache()


def find(tenant_slug: str, slug: str, *, may_load: bool = True) -> ServerFacts | None:
    """The server at `/<tenant>/mcp/<slug>/…`, or None.

    Raises changes.NotCached when it is not in memory and `may_load` is False.
    """
    return _by_path.get((tenant_slug, slug), lambda: _load(tenant_slug, slug), may_load=may_load)


def facts_of(server: Server) -> ServerFacts:
    """The facts of a row, straight from the database: for pages, tests of a connection and explanations."""
    config = AuthConfig.objects.filter(server=server).first()
    return ServerFacts(
        id=server.id,
        tenant_id=server.tenant_id,
        tenant_slug=server.tenant.slug,
        slug=server.slug,
        name=server.name,
        url=server.url,
        enabled=server.enabled,
        method=AuthConfig.Method(config.method) if config else AuthConfig.Method.NONE,
        connect_timeout=server.connect_timeout,
        response_timeout=server.response_timeout,
        ca_certificate=server.ca_certificate,
        static_headers=tuple((str(k), str(v)) for k, v in server.static_headers.items()),
        allowed_request_headers=frozenset(str(n).lower().encode() for n in server.allowed_request_headers),
        max_request_bytes=server.max_request_bytes,
        session_epoch=server.session_epoch,
        credential_epoch=config.epoch if config else 0,
        rules=rules_of(server),
    )


def rules_of(server: Server) -> Rules:
    """The server's collaborators and its group's, as `access.decide` wants them."""
    wanted = Q(server=server)
    if server.group_id is not None:
        wanted |= Q(group_id=server.group_id)
    people: dict[int, list[Grant]] = defaultdict(list)
    teams: dict[int, list[Grant]] = defaultdict(list)
    for rule in AccessRule.objects.filter(wanted):
        grant = Grant(Role(rule.role), rule.expires_at.timestamp() if rule.expires_at else None)
        if rule.user_id is not None:
            people[rule.user_id].append(grant)
        elif rule.team_id is not None:
            teams[rule.team_id].append(grant)
    return Rules(
        people={key: tuple(value) for key, value in people.items()},
        teams={key: tuple(value) for key, value in teams.items()},
    )


def _load(tenant_slug: str, slug: str) -> ServerFacts | None:
    server = Server.objects.select_related("tenant").filter(tenant__slug=tenant_slug, slug=slug).first()
    return facts_of(server) if server else None


def _on_change(kind: str, key: str) -> None:
    if kind == "server":
        _by_path.evict_where(lambda _, facts: str(facts.id) == key)
    elif kind == "tenant":
        _by_path.evict_where(lambda _, facts: str(facts.tenant_id) == key)


changes.listen(_on_change)
