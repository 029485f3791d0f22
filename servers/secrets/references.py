"""Secret references: `secret://<tenant>:<group>:<key>` and its siblings, alone or inside text (F-401).

Accepted forms: `secret://tenant:group:key`, its older spelling `tfy-secret://…`, `env://NAME` and
`file:///absolute/path`. Pure parsing, no I/O.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_REFERENCE = re.compile(r"(?P<scheme>tfy-secret|secret|env|file)://(?P<rest>[A-Za-z0-9_./:-]+)")
_STORED = re.compile(r"(?P<tenant>[a-z0-9-]{1,63}):(?P<group>[a-z0-9-]{1,63}):(?P<key>[A-Za-z0-9_.-]{1,100})")
_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class BadReference(ValueError):
    """A text that looks like a reference but is not one; the message says what to write instead."""


@dataclass(frozen=True, slots=True)
class StoredReference:
    """A secret in our own store."""

    tenant: str
    group: str
    key: str

    def __str__(self) -> str:
        return f"secret://{self.tenant}:{self.group}:{self.key}"


@dataclass(frozen=True, slots=True)
class EnvironmentReference:
    """An environment variable of the gateway's process."""

    name: str

    def __str__(self) -> str:
        return f"env://{self.name}"


@dataclass(frozen=True, slots=True)
class FileReference:
    """A file that the gateway's process can read, such as a mounted secret."""

    path: str

    def __str__(self) -> str:
        return f"file://{self.path}"


Reference = StoredReference | EnvironmentReference | FileReference


def parse_reference(text: str) -> Reference:
    """Parse a text that is one reference and nothing else; raises BadReference."""
    match = _REFERENCE.fullmatch(text)
    if match is None:
        raise BadReference("Write secret://<tenant>:<group>:<key>, env://<NAME> or file:///<path>.")
    scheme, rest = match["scheme"], match["rest"]
    if scheme == "env":
        if not _ENVIRONMENT_NAME.fullmatch(rest):
            raise BadReference(f"env://{rest} does not name an environment variable.")
        return EnvironmentReference(rest)
    if scheme == "file":
        if not rest.startswith("/") or ".." in rest.split("/"):
            raise BadReference("A file reference needs an absolute path: file:///run/secrets/name.")
        return FileReference(rest)
    stored = _STORED.fullmatch(rest)
    if stored is None:
        raise BadReference(f"{scheme}:// needs three parts: {scheme}://<tenant>:<group>:<key>.")
    return StoredReference(stored["tenant"], stored["group"], stored["key"])


def split_template(template: str) -> list[str | Reference]:
    """A value such as `Bearer secret://acme:github:token` as literal texts and references, in order."""
    parts: list[str | Reference] = []
    position = 0
    for match in _REFERENCE.finditer(template):
        if match.start() > position:
            parts.append(template[position : match.start()])
        parts.append(parse_reference(match.group()))
        position = match.end()
    if position < len(template):
        parts.append(template[position:])
    return parts


def references_in(template: str) -> list[Reference]:
    """The references of a template; raises BadReference for a malformed one."""
    return [part for part in split_template(template) if not isinstance(part, str)]
