"""The import itself: all chosen servers with their authentication, in one transaction or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction

from servers import audit
from servers.destinations import check_address
from servers.header_auth import HeaderChoice, free_secret_name, store_headers
from servers.header_names import check_header_value
from servers.imports.entries import Remote
from servers.imports.planning import Line
from servers.models import AccessRule, AuthConfig, Role, Server, ServerGroup, Tenant
from servers.own_header import BadTemplate, OwnHeaderSettings, check
from servers.secrets.store import set_secret

Method = AuthConfig.Method


@dataclass(frozen=True)
class Choice:
    """A chosen line, with the values that were typed for what the file leaves open."""

    line: Line
    values: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def remote(self) -> Remote:
        """The entry; only lines that have one can be chosen."""
        assert self.line.remote is not None  # noqa: S101
        return self.line.remote

    @property
    def lacks(self) -> bool:
        """Whether a value is left open, so that each person enters it."""
        return any(one.name not in self.values for one in self.remote.missing)


def problems(choices: Sequence[Choice], *, may_allow_private: bool) -> dict[int, str]:
    """Why chosen lines cannot be added after all, by number. Asks the DNS: never inside a transaction."""
    found: dict[int, str] = {}
    for choice in choices:
        if (why := _value_problem(choice) or _address_problem(choice.remote.url, may_allow_private)) is not None:
            found[choice.line.number] = why
    return found


def _value_problem(choice: Choice) -> str | None:
    if choice.lacks and not choice.remote.can_be_own:
        return "Enter the value: it stands inside a longer text, so people cannot enter it themselves."
    for name, text in choice.remote.headers:
        if all(one.name in choice.values for one in text.missing):
            try:
                check_header_value(text.filled(choice.values))
            except ValidationError as error:
                return f"{name}: {' '.join(error.messages)}"
    if choice.lacks:
        try:
            check(_own_settings(choice, {}))
        except BadTemplate as error:
            return str(error)
    return None


def _address_problem(url: str, may_allow_private: bool) -> str | None:
    checked = check_address(url)
    if checked.problem is None:
        return None
    if checked.is_private and checked.destination is not None:
        place = f"{checked.destination.host}:{checked.destination.port}"
        who = "List it" if may_allow_private else "Ask an admin to list it"
        return f"{place} is a private address. {who} under Allowed private destinations, then import again."
    return checked.problem.public_message


def add(
    choices: Sequence[Choice], *, tenant: Tenant, group: ServerGroup | None, person: Any, actor: str
) -> list[Server]:
    """Add them all, the person as their Manager. Raises ValidationError, and then nothing was added."""
    with transaction.atomic():
        made = [(choice, _server(choice, tenant, group)) for choice in choices]
        rules = [AccessRule.objects.create(server=server, user_id=person.pk, role=Role.MANAGER) for _, server in made]
        # What is audited comes after the rows: the end of the chain stays locked from then on.
        for choice, server in made:
            _authenticate(choice, server, actor=actor)
        for (_, server), rule in zip(made, rules, strict=True):
            about = {"by": "import", "method": str(server.auth_config.method), "enabled": server.enabled}
            audit.record(audit.Action.SERVER_CREATE, actor=actor, subject=server, tenant=tenant, detail=about)
            who = {"on": str(server), "role": str(rule.role), "why": "creator"}
            audit.record(audit.Action.COLLABORATOR_ADD, actor=actor, subject=rule, tenant=tenant, detail=who)
    return [server for _, server in made]


def _server(choice: Choice, tenant: Tenant, group: ServerGroup | None) -> Server:
    remote, preset = choice.remote, choice.line.preset
    server = Server(
        tenant=tenant,
        group=group,
        name=remote.name,
        slug=choice.line.slug,
        description=remote.description or (preset.summary if preset is not None else ""),
        url=remote.url,
        enabled=choice.line.enabled,
        preset=preset.slug if preset is not None else "",
    )
    server.full_clean()
    server.save()
    return server


def _authenticate(choice: Choice, server: Server, *, actor: str) -> None:
    config = AuthConfig(server=server)
    if not choice.remote.headers:
        config.method = Method.NONE
    elif choice.lacks:
        stored = {
            name: _store(server, name, text.filled(choice.values), actor=actor)
            for name, text in choice.remote.headers
            if all(one.name in choice.values for one in text.missing)
        }
        config.method, config.settings = Method.OWN_HEADER, check(_own_settings(choice, stored)).stored()
    else:
        config.method = Method.SHARED_HEADER
        chosen = [HeaderChoice(name, plain=text.filled(choice.values)) for name, text in choice.remote.headers]
        store_headers(server, config, chosen, actor=actor)
    config.save()


def _own_settings(choice: Choice, stored: Mapping[str, str]) -> OwnHeaderSettings:
    """Headers with placeholders for what people enter; those with a value stand as references in `stored`."""
    headers: list[tuple[str, str]] = []
    labels: dict[str, str] = {}
    for name, text in choice.remote.headers:
        if all(one.name in choice.values for one in text.missing):
            if name in stored:
                headers.append((name, stored[name]))
            continue
        headers.append((name, text.template()))
        labels |= {one.placeholder: one.label for one in text.missing if one.label}
    return OwnHeaderSettings(tuple(headers), labels)


def _store(server: Server, header: str, value: str, *, actor: str) -> str:
    group, key = free_secret_name(server, header)
    return set_secret(tenant=server.tenant, group=group, key=key, value=value, actor=actor).fqn
