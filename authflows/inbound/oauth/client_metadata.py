"""What a client says about itself (RFC 7591, section 2), in a registration as in a metadata document.

Fields that we do not know are left out, known ones are checked strictly; nothing here touches the database.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from authflows.inbound.oauth import redirect_uris
from authflows.inbound.oauth.redirect_uris import Accepted, without_loopback_port

LONGEST_NAME: Final = 100
MOST_REDIRECT_URIS: Final = 20


class Malformed(Exception):
    """Metadata that makes no client. `error` is the code of RFC 7591; the text names the field and the fix."""

    def __init__(self, description: str, *, error: str = "invalid_client_metadata") -> None:
        super().__init__(description)
        self.error = error


@dataclass(frozen=True, slots=True)
class Described:
    """What is kept of a client's metadata: its name, cleaned, and the redirect URIs that are allowed."""

    name: str
    redirect_uris: tuple[str, ...]
    application_type: str

    @property
    def digest(self) -> str:
        """The same for the same name and redirect URIs, in whichever order and with whichever loopback ports."""
        uris = sorted({without_loopback_port(uri) for uri in self.redirect_uris})
        return hashlib.sha256(json.dumps([self.name, uris]).encode()).hexdigest()


def read(metadata: Mapping[str, Any], *, private: Collection[str]) -> Described:
    """What we keep of `metadata`; raises Malformed.

    Grant and response types beyond those of the code flow are tolerated, and redirect URIs that are not allowed
    left out, as long as something is left (AZ-8).
    """
    _require(metadata, "grant_types", "authorization_code")
    _require(metadata, "response_types", "code")
    application_type = text(metadata, "application_type")
    return Described(
        name=clean_name(text(metadata, "client_name")),
        redirect_uris=_redirect_uris(metadata, private),
        application_type=application_type if application_type in ("web", "native") else "",
    )


def text(metadata: Mapping[str, Any], field: str) -> str:
    """A text field; empty when it is missing or null. Raises Malformed for anything else."""
    value = metadata.get(field)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Malformed(f"{field} must be a string.")
    return value


def texts(metadata: Mapping[str, Any], field: str) -> list[str]:
    """A list of texts; empty when it is missing or null. Raises Malformed for anything else."""
    value = metadata.get(field)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise Malformed(f"{field} must be a list of strings.")
    return value


def clean_name(name: str) -> str:
    """A name fit to be shown: one line, without control, bidirectional, invisible or unassigned characters."""
    shown = "".join(c for c in name[: 10 * LONGEST_NAME] if c.isspace() or unicodedata.category(c)[0] != "C")
    return " ".join(shown.split())[:LONGEST_NAME].strip()


def _require(metadata: Mapping[str, Any], field: str, value: str) -> None:
    given = texts(metadata, field)
    if given and value not in given:
        raise Malformed(f"{field} must include {value}: this server has only the authorization code flow.")


def _redirect_uris(metadata: Mapping[str, Any], private: Collection[str]) -> tuple[str, ...]:
    error = "invalid_redirect_uri"
    try:
        given = list(dict.fromkeys(texts(metadata, "redirect_uris")))
    except Malformed as malformed:
        raise Malformed(str(malformed), error=error) from None
    if not given:
        raise Malformed("redirect_uris is missing or empty: name at least one address for the answer.", error=error)
    if len(given) > MOST_REDIRECT_URIS:
        raise Malformed(f"redirect_uris has more than {MOST_REDIRECT_URIS} entries.", error=error)
    checked = [redirect_uris.check(uri, private=private) for uri in given]
    accepted = tuple(one.uri for one in checked if isinstance(one, Accepted))
    if not accepted:
        refused = [one for one in checked if not isinstance(one, Accepted)]
        reasons = " ".join(f"redirect_uris[{place}]: {one.reason}" for place, one in enumerate(refused[:3]))
        raise Malformed(f"None of redirect_uris is allowed. {reasons}", error=error)
    return accepted
