"""How one signs in to an MCP server, read from what it and its provider publish (CL-1 to CL-5, CL-12, F-104).

The challenge of the server leads to its resource metadata (RFC 9728), that to the issuer, and the issuer's own
metadata (RFC 8414) to the endpoints. What these documents say decides where people are sent and where tokens go, so
each must name the one before it exactly, and every address goes through the one door by itself: that an admin
allowed the server's private address allows no other (T27). Nothing is stored here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import urlsplit

from authflows.outbound import challenge, provider_metadata
from authflows.outbound.provider_http import Reply, Unreachable, exchange
from authflows.outbound.provider_metadata import BadMetadata, ProviderMetadata, texts
from servers.endpoints import address_problem, origin_of, reach_problem
from servers.oauth_settings import OAuthSettings

_ROLE: Final = "discovery"
_RESOURCE: Final = "/.well-known/oauth-protected-resource"
_MODERN: Final = "2026-07-28"
_MOST_SCOPES: Final = 60
_BOTH: Final = {"Accept": "application/json, text/event-stream"}
_CLIENT_INFO: Final = {"name": "Gatehouse", "version": "1"}
_DISCOVER: Final = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "server/discover",
    "params": {
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": _MODERN,
            "io.modelcontextprotocol/clientInfo": _CLIENT_INFO,
            "io.modelcontextprotocol/clientCapabilities": {},
        }
    },
}
_INITIALIZE: Final = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": _CLIENT_INFO},
}


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was asked, and what came of it, in words for admins."""

    what: str
    outcome: str


@dataclass(frozen=True, slots=True)
class Discovered:
    """Settings to look over and save; `notes` are what an admin should know of them."""

    settings: OAuthSettings
    steps: tuple[Step, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NotDiscovered:
    """Nothing to save: a stable word, a sentence with the next step, and how far it went."""

    reason: str
    sentence: str
    steps: tuple[Step, ...] = ()


class _Stop(Exception):
    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(reason)
        self.reason, self.sentence = reason, sentence


@dataclass(slots=True)
class _Run:
    """One discovery and what it has learned."""

    url: str
    ca_certificate: str
    has_app: bool
    steps: list[Step] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def did(self, what: str, outcome: str) -> None:
        self.steps.append(Step(what, outcome))

    def get(self, url: str) -> Reply | Unreachable:
        """Fetch a document; the server's own authority is trusted for its own origin only."""
        if (problem := address_problem(url)) is not None:
            return Unreachable("address_refused", problem)
        own = origin_of(url).lower() == origin_of(self.url).lower()
        return exchange("GET", url, role=_ROLE, ca_certificate=self.ca_certificate if own else "")

    def document(self, what: str, url: str) -> dict[str, Any] | None:
        """The JSON object at `url`, or None where there is none; the step says which."""
        reply = self.get(url)
        if isinstance(reply, Unreachable):
            self.did(what, f"{url}: {reply.sentence}")
            if reply.reason == "address_refused":
                raise _Stop("address_refused", f"{what} is at an address that is not asked: {reply.sentence}")
            return None
        found = reply.document() if reply.status == 200 else None
        if found is None:
            outcome = f"answered {reply.status}" if reply.status != 200 else "answered with something that is not JSON"
            self.did(what, f"{url} {outcome}")
        return found


def discover(url: str, *, ca_certificate: str = "", has_app: bool = False) -> Discovered | NotDiscovered:
    """Ask the MCP server at `url`, and whom it names, how people sign in; blocks on the network.

    `ca_certificate` is the server's own authority (PEM), if it has one. `has_app`: an app was made at the provider,
    so the gateway need not register.
    """
    run = _Run(url, ca_certificate, has_app)
    try:
        if (problem := address_problem(url)) is not None:
            raise _Stop("address_refused", problem)
        named = _challenge(run)
        document = _resource_metadata(run, named.get("resource_metadata", ""))
        found = _from_issuer(run, document) if document is not None else _from_origin(run)
        scopes = _scopes(run, named, document or {}, found)
        return Discovered(replace(found.settings, scopes=scopes), tuple(run.steps), tuple(run.notes))
    except _Stop as stop:
        return NotDiscovered(stop.reason, stop.sentence, tuple(run.steps))


# --- the server


def _challenge(run: _Run) -> Mapping[str, str]:
    """The parameters of the server's Bearer challenge; empty where it has none."""
    for what, message, headers in (
        (
            "Ask the server without a credential (server/discover)",
            _DISCOVER,
            {"MCP-Protocol-Version": _MODERN, "Mcp-Method": "server/discover"},
        ),
        ("Ask the server without a credential (initialize)", _INITIALIZE, {}),
    ):
        reply = exchange(
            "POST",
            run.url,
            json=message,
            headers={**_BOTH, **headers},
            role=_ROLE,
            ca_certificate=run.ca_certificate,
            head_only=True,
        )
        if isinstance(reply, Unreachable):
            run.did(what, reply.sentence)
            raise _Stop(reply.reason, f"The server could not be asked. {reply.sentence}")
        if reply.status == 401:
            found = challenge.bearer(reply.headers.get("www-authenticate", ""))
            said = "no Bearer challenge that can be read" if found is None else _said(found)
            run.did(what, f"401, {said}")
            return found or {}
        run.did(what, f"answered {reply.status}, not 401")
        if session := reply.headers.get("mcp-session-id"):
            exchange("DELETE", run.url, headers={"Mcp-Session-Id": session}, role=_ROLE,
                     ca_certificate=run.ca_certificate, head_only=True)  # fmt: skip
    return {}


def _said(parameters: Mapping[str, str]) -> str:
    named = [name for name in ("resource_metadata", "scope") if name in parameters]
    return f"challenge with {' and '.join(named)}" if named else "challenge without resource_metadata"


def _resource_metadata(run: _Run, named: str) -> dict[str, Any] | None:
    """The document of the server as a protected resource; None where it publishes none."""
    what = "Resource metadata (RFC 9728)"
    for url in dict.fromkeys([named, *_well_known(run.url)] if named else _well_known(run.url)):
        document = run.document(what, url)
        if document is None:
            continue
        resource = document.get("resource")
        if not isinstance(resource, str):
            raise _Stop("resource_missing", f"{url} names no resource, so it cannot be said whose document it is.")
        if resource != run.url:
            if _plain(resource) != _plain(run.url):
                run.did(what, f"{url} is about {resource[:200]}")
                raise _Stop(
                    "resource_mismatch",
                    f"The metadata is about {resource[:200]}, not about {run.url}. If the server is meant to be called "
                    "there, enter that as its endpoint URL; else tell its operator.",
                )
            run.notes.append(f"The metadata writes the server's URL as {resource[:200]}: taken for the same.")
        run.did(what, url)
        return document
    return None


def _well_known(url: str) -> tuple[str, ...]:
    parts = urlsplit(url)
    origin, path = origin_of(url), parts.path.rstrip("/")
    root = f"{origin}{_RESOURCE}"
    if not path and not parts.query:
        return (root,)
    return (f"{root}{path}{'?' + parts.query if parts.query else ''}", root)


def _plain(url: str) -> tuple[str, str, str, str]:
    """A URL up to what may be written in two ways: case of scheme and host, a slash at the end (CL-2)."""
    parts = urlsplit(url)
    return parts.scheme.lower(), parts.netloc.lower(), parts.path.rstrip("/"), parts.query


# --- the provider


def _from_issuer(run: _Run, resource: Mapping[str, Any]) -> ProviderMetadata:
    issuers = [one for one in texts(resource, "authorization_servers") if one]
    if not issuers:
        raise _Stop("no_issuer", "The server's metadata names no authorization server. Enter the endpoints by hand.")
    issuer = issuers[0]
    if len(issuers) > 1:
        run.notes.append(f"The server names {len(issuers)} providers; the first is used: {issuer[:200]}.")
    parts = urlsplit(issuer)
    if parts.query or parts.fragment:
        raise _Stop("issuer_malformed", "The issuer that the server names has a question mark or a hash sign.")
    if (problem := reach_problem(issuer)) is not None:
        run.did("Provider", f"{issuer[:200]}: {problem}")
        raise _Stop("address_refused", f"The server names the provider {issuer[:200]}. {problem}")
    for url in _metadata_urls(issuer):
        document = run.document("Provider metadata (RFC 8414)", url)
        if document is None:
            continue
        # Raw strings: two spellings of one issuer would be two issuers in every later comparison (CL-3).
        if document.get("issuer") != issuer:
            run.did("Provider metadata (RFC 8414)", f"{url} names another issuer")
            raise _Stop(
                "wrong_issuer",
                f"{url} says that it belongs to {str(document.get('issuer'))[:200]}, but the server named {issuer}. "
                "These must be equal to the letter. Tell the provider's operator, or enter the endpoints by hand.",
            )
        run.did("Provider metadata (RFC 8414)", url)
        return _read(run, document, issuer)
    raise _Stop(
        "no_metadata",
        f"The provider {issuer} publishes no metadata where it should. Enter its endpoints by hand.",
    )


def _metadata_urls(issuer: str) -> Iterator[str]:
    """Where an issuer's metadata may stand, in the order of the specification (CL-3)."""
    origin, path = origin_of(issuer), urlsplit(issuer).path.rstrip("/")
    yield f"{origin}/.well-known/oauth-authorization-server{path}"
    yield f"{origin}/.well-known/openid-configuration{path}"
    if path:
        yield f"{origin}{path}/.well-known/openid-configuration"


def _from_origin(run: _Run) -> ProviderMetadata:
    """A server of 2025-03-26, which is its own provider: metadata at its root, else the usual paths (CL-4)."""
    if not any(step.outcome.startswith("401") for step in run.steps):
        raise _Stop(
            "not_protected",
            "The server answers without a credential and publishes nothing about signing in. "
            "Choose No Auth, or enter the endpoints by hand.",
        )
    origin = origin_of(run.url)
    run.notes.append("The server publishes no resource metadata, so it is asked as in the protocol of 2025-03-26.")
    document = run.document("Metadata of the server's own host", f"{origin}/.well-known/oauth-authorization-server")
    if document is not None:
        # We made up the address from the origin, whose slash is nobody's word.
        issuer = document.get("issuer")
        if issuer not in (origin, f"{origin}/"):
            raise _Stop("wrong_issuer", f"The metadata at {origin} says that it belongs to {str(issuer)[:200]}.")
        run.did("Metadata of the server's own host", f"{origin}/.well-known/oauth-authorization-server")
        return _read(run, document, str(issuer))
    reply = run.get(f"{origin}/authorize")
    there = isinstance(reply, Reply) or reply.reason == "redirected"
    if (isinstance(reply, Reply) and reply.status in (404, 410, 501)) or not there:
        run.did("The usual paths of its own host", f"{origin}/authorize is not there")
        raise _Stop(
            "nothing_described",
            "The server wants a credential but describes no way to sign in. It may want an API key: choose Header Auth "
            "or Own API key. If people do sign in somewhere, enter the endpoints by hand.",
        )
    run.did("The usual paths of its own host", f"{origin}/authorize answers")
    run.notes.append("No document names these endpoints; they are the paths that 2025-03-26 falls back to. Check them.")
    made = OAuthSettings(
        issuer=origin,
        authorization_endpoint=f"{origin}/authorize",
        token_endpoint=f"{origin}/token",
        registration_endpoint=f"{origin}/register",
        registration="dynamic",
        token_endpoint_auth_method="client_secret_basic",  # noqa: S106
    )
    return ProviderMetadata(made)


def _read(run: _Run, document: Mapping[str, Any], issuer: str) -> ProviderMetadata:
    try:
        found = provider_metadata.read(document, issuer, has_app=run.has_app)
    except BadMetadata as bad:
        run.did("Endpoints and PKCE", bad.sentence)
        raise _Stop(bad.reason, bad.sentence) from bad
    run.did("Endpoints and PKCE", ", ".join(found.hosts))
    run.notes.extend(found.notes)
    return found


def _scopes(
    run: _Run, named: Mapping[str, str], resource: Mapping[str, Any], found: ProviderMetadata
) -> tuple[str, ...]:
    """What to ask for: the challenge's, else the resource's, else nothing (CL-12); never more than an admin keeps."""
    asked = named.get("scope", "").split() or texts(resource, "scopes_supported")
    if asked and "offline_access" in found.scopes_offered and "offline_access" not in asked:
        run.notes.append("offline_access is added, so that people need not connect again every hour.")
        asked = [*asked, "offline_access"]
    clean = [scope for scope in dict.fromkeys(asked) if _is_scope(scope)][:_MOST_SCOPES]
    run.did("Scopes", " ".join(clean) or "none named: the provider decides")
    return tuple(clean)


def _is_scope(text: str) -> bool:
    """RFC 6749, 3.3."""
    return 0 < len(text) <= 200 and all("!" <= c <= "~" and c not in '"\\' for c in text)
