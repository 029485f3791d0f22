"""Shared header authentication as the admin edits it: which secret stands behind which header.

A value typed in the form goes to the secret store at once; the server's row keeps only the reference.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from servers.header_fields import StoredHeader
from servers.models import AuthConfig, ModelEndpoint, Server, StoredSecret, Tenant
from servers.models.virtual import VirtualMember
from servers.secrets.references import (
    BadReference,
    Reference,
    StoredReference,
    references_in,
    split_template,
)
from servers.secrets.store import set_secret

# Words before a credential that may be shown; any other text beside a reference could be part of a secret.
_SCHEMES = re.compile(r"(?:Bearer|Basic|Token|token|ApiKey|Api-Key|Key) ")


@dataclass(frozen=True)
class HeaderChoice:
    """What one header shall be: a template with references, or a plain value that is still to be stored."""

    name: str
    template: str = field(default="", repr=False)
    plain: str = field(default="", repr=False)


def stored_references(template: str) -> list[Reference]:
    """The references of a saved template; an unreadable one counts as none."""
    try:
        return references_in(template)
    except BadReference:
        return []


def is_reference(value: str) -> bool:
    """Whether a typed value holds references; raises BadReference."""
    return bool(references_in(value))


def describe_headers(templates: Iterable[tuple[str, str]], tenant: Tenant) -> tuple[StoredHeader, ...]:
    """The saved headers as a page may show them."""
    pairs = list(templates)
    dates = {
        (s.group, s.key): s.updated_at
        for s in StoredSecret.objects.filter(tenant=tenant, key__in=_stored_keys(t for _, t in pairs))
    }
    described = []
    for name, template in pairs:
        words = []
        try:
            parts = split_template(template)
        except BadReference:
            parts = []
        for part in parts:
            if isinstance(part, str):
                words.append(part if _SCHEMES.fullmatch(part) else "…")
                continue
            words.append(str(part))
        text = "".join(words) or "…"
        for part in parts:
            if isinstance(part, StoredReference) and (set_at := dates.get((part.group, part.key))):
                text += f", set on {set_at:%d %B %Y}"
                break
        described.append(StoredHeader(name, text))
    return tuple(described)


def _stored_keys(templates: Iterable[str]) -> set[str]:
    return {r.key for t in templates for r in stored_references(t) if isinstance(r, StoredReference)}


def store_headers(server: Server, config: AuthConfig, choices: list[HeaderChoice], *, actor: str) -> None:
    """Put the choices into `config` (unsaved), storing plain values as secrets of the server's tenant."""
    headers = []
    for choice in choices:
        template = choice.template
        if choice.plain:
            group, key = free_secret_name(server, choice.name)
            secret = set_secret(tenant=server.tenant, group=group, key=key, value=choice.plain, actor=actor)
            template = secret.fqn
        headers.append((choice.name, template))
    config.set_header_templates(headers)


def free_secret_name(server: Server, what: str) -> tuple[str, str]:
    """A free name for the secret of a header or of an app, or the one this server alone already uses for it."""
    key = re.sub(r"[^a-z0-9.-]+", "-", what.lower()).strip("-.") or "header"
    taken = set(StoredSecret.objects.filter(tenant=server.tenant, group=server.slug).values_list("key", flat=True))
    used = uses_of_secrets([server.tenant])
    number = 1
    while True:
        name = key if number == 1 else f"{key}-{number}"
        if name not in taken:
            return server.slug, name
        fqn = f"secret://{server.tenant.slug}:{server.slug}:{name}"
        if {s.pk for s in used.get(fqn, ())} == {server.pk}:
            return server.slug, name
        number += 1


def uses_of_secrets(tenants: Iterable[Tenant]) -> dict[str, list[Server | ModelEndpoint]]:
    """FQN of a stored secret to what names it: servers, for themselves or a member, and model endpoints; 3 queries."""
    chosen = list(tenants)
    found: dict[str, list[Server | ModelEndpoint]] = defaultdict(list)
    configs = AuthConfig.objects.filter(server__tenant__in=chosen).select_related("server__tenant")
    for config in configs.order_by("server__name"):
        for fqn in named_secrets((*(value for _, value in config.header_templates()), _client_secret(config))):
            found[fqn].append(config.server)
    members = VirtualMember.objects.filter(virtual__tenant__in=chosen).exclude(credential=[])
    for member in members.select_related("virtual__tenant").order_by("virtual__name"):
        for fqn in named_secrets(value for _, value in member.header_templates()):
            if member.virtual not in found[fqn]:
                found[fqn].append(member.virtual)
    for endpoint in ModelEndpoint.objects.filter(tenant__in=chosen).exclude(key="").order_by("name"):
        for fqn in named_secrets([endpoint.key]):
            found[fqn].append(endpoint)
    return dict(found)


def named_secrets(templates: Iterable[str]) -> set[str]:
    """FQNs of the stored secrets that these templates name."""
    references = (reference for template in templates for reference in stored_references(template))
    return {str(reference) for reference in references if isinstance(reference, StoredReference)}


def _client_secret(config: AuthConfig) -> str:
    return str(config.settings.get("client_secret", ""))


def same_origin(one: str, other: str) -> bool:
    """Whether two URLs lead to the same scheme, host and port."""
    return _origin(one) == _origin(other)


def _origin(url: str) -> tuple[str, str, int | None]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return ("", url, None)
    default = {"http": 80, "https": 443}.get(parts.scheme)
    return (parts.scheme, (parts.hostname or "").rstrip("."), port or default)
