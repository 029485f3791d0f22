"""The credential that a call would go upstream with, and whether the server answered when it was last asked."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.urls import reverse

from authflows.explaining.rules import Managers, asked
from authflows.explaining.steps import Fix, Look, Reader, Step, at, failed, noted, passed
from authflows.explaining.ways import Way
from authflows.models import Connection, OwnKey
from authflows.outbound.connections import explain as words_of
from authflows.outbound.credential_results import Credential, Kind, NeedsConnection, RefreshDue
from authflows.outbound.credentials import credential_for, member_credential
from authflows.outbound.needs import Missing, Need
from servers.access import Principal
from servers.errors import SecretUnavailable
from servers.links import admin_url
from servers.models import AuthConfig, Server
from servers.registry import ServerFacts
from servers.virtual.facts import MemberFacts

Method = AuthConfig.Method
NOT_CONNECTED = "not_connected"
NOT_AVAILABLE = "credential_unavailable"


def credential_step(
    person: Any,
    server: Server,
    facts: ServerFacts,
    principal: Principal,
    reader: Reader,
    *,
    way: Way | None,
    member: MemberFacts | None,
    managers: Managers,
    now: datetime,
) -> Step:
    """With whose credential would the server be called, and does it hold? `member`: as one of a virtual server."""
    try:
        if member is not None and member.credential:
            answer: Any = member_credential(member, facts)
        else:
            answer = credential_for(principal, facts, now=now.timestamp())
    except SecretUnavailable as error:
        return _not_available(server, error, reader, managers)
    if isinstance(answer, Credential):
        return passed(Look.CREDENTIAL, *_held(person, server, answer, reader))
    if isinstance(answer, RefreshDue):
        return _due(person, server, answer, reader)
    assert isinstance(answer, NeedsConnection)  # noqa: S101
    if answer.need.need is Need.CREDENTIAL and _comes_with_call(facts.method, way):
        sentence = "The caller sends it along with each call; whether it does is seen only then."
        return noted(Look.CREDENTIAL, sentence, answer.need.sentence)
    told = answer.need.sentence if reader.themselves else f"The caller is told: “{answer.need.sentence}”"
    return failed(Look.CREDENTIAL, NOT_CONNECTED, told, fix=_fix(person, server, answer.need, reader, managers))


def _comes_with_call(method: Method, way: Way | None) -> bool:
    # A key or sign-in of ours is never exchanged; a header of its own may come beside one.
    return method is Method.PASSTHROUGH or (method is Method.TOKEN_EXCHANGE and way is None)


def _held(person: Any, server: Server, credential: Credential, reader: Reader) -> list[str]:
    if credential.kind is Kind.CONNECTION:
        row = Connection.objects.filter(user=person, server=server).first()
        return _connection(row, server, reader) if row is not None else ["Connected."]
    if credential.kind is Kind.OWN_KEY:
        key = OwnKey.objects.filter(user=person, server=server).first()
        if key is None:
            return ["A personal key."]
        ends = f", until {at(key.expires_at)}" if key.expires_at else ""
        return [f"A key set by {key.set_by} on {key.updated_at:%Y-%m-%d}{ends}."]
    if credential.kind is Kind.CLIENT_CREDENTIALS:
        return ["A token of the gateway's own, the same for all callers."]
    if not credential.headers:
        return ["None: the server asks for no credential."]
    return ["The organisation's credential, the same for all callers."]


def _connection(row: Connection, server: Server, reader: Reader) -> list[str]:
    shown = row.account_label if reader.themselves or reader.manages(server) else ""
    lines = [f"Connected{f' as {shown}' if shown else ''} since {at(row.connected_at)}."]
    if row.last_error:
        lines.append(f"The last renewal failed: {words_of(row.last_error)}")
    if row.wanted_scope:
        lines.append(f"A call asked for more rights: {row.wanted_scope}. Connecting again gives them.")
    return lines


def _due(person: Any, server: Server, due: RefreshDue, reader: Reader) -> Step:
    row = Connection.objects.filter(user=person, server=server).first()
    lines = _connection(row, server, reader) if row is not None else []
    if due.usable is not None:
        return passed(Look.CREDENTIAL, *lines, "Its token is renewed with the next call.")
    sentence = "The next call asks the provider for a token first; only then is it seen whether it gives one."
    if row is not None and row.last_error:
        return noted(Look.CREDENTIAL, *lines, sentence, fix=Fix("If calls fail, connect again."))
    return passed(Look.CREDENTIAL, *lines, sentence)


def _not_available(server: Server, error: SecretUnavailable, reader: Reader, managers: Managers) -> Step:
    if reader.manages(server):
        fix = Fix("Enter the credential again, or correct its reference.", admin_url(server), "The server")
        return failed(Look.CREDENTIAL, NOT_AVAILABLE, error.public_message, fix=fix)
    sentence = f"The gateway cannot open the credential that it holds for {server.name}."
    return failed(Look.CREDENTIAL, NOT_AVAILABLE, sentence, fix=Fix(f"Tell {asked(managers())}."))


def _fix(person: Any, server: Server, need: Missing, reader: Reader, managers: Managers) -> Fix:
    place = [server.tenant.slug, server.slug]
    if need.need is Need.CREDENTIAL:
        return Fix(f"If that does not help, ask {asked(managers())}.")
    own_key = need.need is Need.OWN_KEY
    if reader.themselves:
        if own_key:
            return Fix("Enter your key.", reverse("own-key", args=place), "Enter your key")
        return Fix("Connect your account.", reverse("portal-server", args=place), f"Connect {server.name}")
    if getattr(person, "virtual_account", None) is not None:
        if own_key and reader.manages(server):
            return Fix("Set its key under Auth Overrides.", admin_url(OwnKey, "changelist"), "Auth Overrides")
        return Fix("A program cannot connect an account; give it a server with a shared credential or a key.")
    whose = "enters the key" if own_key else "connects the account"
    sentence = f"Only {person.get_username()} {whose}, on the server's page in the portal."
    if own_key and reader.manages(server):
        return Fix(f"{sentence} Or set one for them.", admin_url(OwnKey, "changelist"), "Auth Overrides")
    return Fix(sentence)


def health_step(server: Server, reader: Reader, *, managers: Managers) -> Step | None:
    """What the last test, or calls since, have shown; refuses nothing. None for a virtual server."""
    if server.is_virtual:
        return None
    since = f", {at(server.health_at)}" if server.health_at else ""
    if server.health == Server.Health.UNKNOWN:
        return passed(Look.HEALTH, "Not tested yet, and no call has shown anything else.")
    if server.health == Server.Health.OK:
        return passed(Look.HEALTH, f"It answers{since}.")
    label = (
        server.get_health_display() if reader.manages(server) else "Slow" if not server.is_failing else "Not answering"
    )
    lines = [f"{label}{since}."]
    if reader.manages(server):
        lines += [text] if (text := str(server.health_detail.get("sentence", ""))) else []
        fix = Fix("Test the connection.", admin_url(server), "The server")
    else:
        fix = Fix(f"Wait a little; if it lasts, tell {asked(managers())}.")
    lines.append("While it fails again and again, calls are refused at once for up to a minute at a time.")
    return noted(Look.HEALTH, *(lines if server.is_failing else lines[:-1]), fix=fix)
