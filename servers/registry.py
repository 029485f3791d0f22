"""The read side of servers: what a call needs to know about one, kept in memory until it changes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from uuid import UUID

from django.db.models import Q

from servers import changes
from servers.access import Grant, Principal, Rules
from servers.items import EVERYTHING, ItemFilter
from servers.models.access import AccessRule, Hints, Items, Role
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
    virtual: bool = False
    path: Server.Path = Server.Path.AUTO
    eras: Server.Eras = Server.Eras.UNKNOWN
    eras_at: float = 0.0
    """When that was found out (Unix seconds)."""
    versions: tuple[str, ...] = ()
    """Legacy protocol versions that it was seen to negotiate."""
    list_unconnected: bool = True
    restricted: bool = False
    """Not everything that it offers may be used, so its lists come from the catalogue on every path."""


_by_path: changes.Cache[tuple[str, str], ServerFacts] = changes.Cache(
    tags=lambda facts: (("server", str(facts.id)), ("tenant", str(facts.tenant_id)))
)

_by_id: changes.Cache[UUID, ServerFacts] = changes.Cache(
    tags=lambda facts: (("server", str(facts.id)), ("tenant", str(facts.tenant_id)))
)


def find(tenant_slug: str, slug: str, *, may_load: bool = True) -> ServerFacts | None:
    """The server at `/<tenant>/mcp/<slug>/…`, or None.

    Raises changes.NotCached when it is not in memory and `may_load` is False.
    """
    return _by_path.get((tenant_slug, slug), lambda: _load(tenant_slug, slug), may_load=may_load)


def find_by_id(server_id: UUID, *, may_load: bool = True) -> ServerFacts | None:
    """The same by its id, for members of virtual servers. Raises changes.NotCached as `find` does."""
    return _by_id.get(server_id, lambda: _load_by_id(server_id), may_load=may_load)


def facts_of(server: Server) -> ServerFacts:
    """The facts of a row, straight from the database: for pages, tests of a connection and explanations."""
    return _facts(server, AuthConfig.objects.filter(server=server).first())


def _facts(server: Server, config: AuthConfig | None) -> ServerFacts:
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
        virtual=server.is_virtual,
        path=Server.Path(server.path),
        eras=Server.Eras(server.eras),
        eras_at=server.eras_at.timestamp() if server.eras_at else 0.0,
        versions=tuple(str(version) for version in server.versions),
        list_unconnected=server.list_unconnected,
        restricted=server.restricted,
    )


def rules_of(server: Server) -> Rules:
    """The server's collaborators and its group's, as `access.decide` wants them."""
    wanted = Q(server=server)
    if server.group_id is not None:
        wanted |= Q(group_id=server.group_id)
    return _rules_from(AccessRule.objects.filter(wanted))


def _rules_from(rows: Iterable[AccessRule]) -> Rules:
    people: dict[int, list[Grant]] = defaultdict(list)
    teams: dict[int, list[Grant]] = defaultdict(list)
    for rule in rows:
        ends = rule.expires_at.timestamp() if rule.expires_at else None
        grant = Grant(Role(rule.role), ends, filter_of(rule))
        if rule.user_id is not None:
            people[rule.user_id].append(grant)
        elif rule.team_id is not None:
            teams[rule.team_id].append(grant)
    return Rules(
        people={key: tuple(value) for key, value in people.items()},
        teams={key: tuple(value) for key, value in teams.items()},
    )


def filter_of(rule: AccessRule) -> ItemFilter:
    """What of the server the rule opens."""
    items, hints = Items(rule.items), Hints(rule.hints)
    if items is Items.ALL and hints is Hints.ANY:
        return EVERYTHING
    names = () if items is Items.ALL else rule.item_names
    return ItemFilter(items, frozenset(str(name) for name in names), hints)


def concerning(principal: Principal, *, among: Collection[UUID] | None = None) -> list[tuple[Server, Rules]]:
    """Every server that a rule for this principal could open, each with those of its rules that name them.

    With `among`, only those with these ids. Two queries, however many servers there are. What the rules come to is
    for `access.decide` to say.
    """
    rules = AccessRule.objects.filter(Q(user_id=principal.user_id) | Q(team_id__in=principal.teams))
    on_servers: dict[UUID, list[AccessRule]] = defaultdict(list)
    on_groups: dict[UUID, list[AccessRule]] = defaultdict(list)
    for rule in rules:
        if rule.server_id is not None:
            on_servers[rule.server_id].append(rule)
        elif rule.group_id is not None:
            on_groups[rule.group_id].append(rule)
    found = Server.objects.select_related("tenant", "group").filter(
        Q(pk__in=rules.filter(server__isnull=False).values("server"))
        | Q(group__in=rules.filter(group__isnull=False).values("group")),
        tenant__in=principal.tenants,
    )
    if among is not None:
        found = found.filter(pk__in=among)
    return [
        (
            server,
            _rules_from([*on_servers[server.pk], *(on_groups[server.group_id] if server.group_id else ())]),
        )
        for server in found
    ]


def _load(tenant_slug: str, slug: str) -> ServerFacts | None:
    if "\0" in tenant_slug + slug:
        return None  # PostgreSQL fails instead of finding nothing
    rows = Server.objects.select_related("tenant", "auth_config")
    server = rows.filter(tenant__slug=tenant_slug, slug=slug).first()
    return _facts(server, getattr(server, "auth_config", None)) if server else None


def _load_by_id(server_id: UUID) -> ServerFacts | None:
    server = Server.objects.select_related("tenant", "auth_config").filter(pk=server_id).first()
    return _facts(server, getattr(server, "auth_config", None)) if server else None


def _on_change(kind: str, key: str) -> None:
    if kind in ("server", "tenant"):
        _by_path.evict_tag((kind, key))
        _by_id.evict_tag((kind, key))


changes.listen(_on_change)
