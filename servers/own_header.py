"""Header templates that each person fills with values of their own: `Authorization: Bearer {{API_KEY}}`.

Typed, from and to the JSON of `AuthConfig`. A template may name secrets too, as references; people's values are
never searched for references. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from django.core.exceptions import ValidationError

from servers.header_names import check_header_name, check_header_value
from servers.secrets.references import BadReference, references_in

MOST_HEADERS: Final = 20
MOST_PLACEHOLDERS: Final = 20
LONGEST_VALUE: Final = 4096
_LONGEST_LABEL: Final = 200
_PLACEHOLDER: Final = re.compile(r"\{\{[ \t]*([A-Za-z][A-Za-z0-9_]{0,49})[ \t]*\}\}")
# What a header may hold, and no blank at either end (RFC 9110, 5.5).
_VALUE: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")

Header = tuple[str, str]


class BadTemplate(ValueError):
    """Templates or labels that cannot be used; the message says what to write instead, and holds no value."""


class ValueMissing(LookupError):
    """There is no value for this placeholder."""


@dataclass(frozen=True, slots=True)
class Placeholder:
    """One value that a person enters, the header that it goes into, and what stands in front of it there."""

    name: str
    label: str
    header: str
    before: str = ""


@dataclass(frozen=True, slots=True)
class OwnHeaderSettings:
    """What an admin sets for a server with keys of people's own."""

    headers: tuple[Header, ...] = ()
    """Names and templates, in the order of the admin."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """What people are told to enter, by the placeholder's name."""

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Self:
        """From `AuthConfig.settings`."""
        headers = tuple((str(item["name"]), str(item["value"])) for item in stored.get("headers", ()))
        return cls(headers, {str(name): str(text) for name, text in stored.get("labels", {}).items()})

    def stored(self) -> dict[str, Any]:
        """For `AuthConfig.settings`."""
        headers = [{"name": name, "value": template} for name, template in self.headers]
        return {"headers": headers, "labels": dict(self.labels)}

    def placeholders(self) -> tuple[Placeholder, ...]:
        """What a person has to enter, each once, in the order of the templates."""
        found: dict[str, Placeholder] = {}
        for header, template in self.headers:
            parts = split(template)
            for position in range(1, len(parts), 2):
                name = parts[position]
                label = self.labels.get(name) or _readable(name)
                # A text before it can be pasted along with it only where it is all that the header begins with.
                before = parts[0] if position == 1 else ""
                found.setdefault(name, Placeholder(name, label, header, before))
        return tuple(found.values())

    def fill(self, values: Mapping[str, str], *, resolve: Callable[[str], str]) -> list[Header]:
        """The headers with a person's values; `resolve` fills references in the admin's own text.

        Raises ValueMissing with the placeholder's name, and what `resolve` raises.
        """
        headers = []
        for name, template in self.headers:
            parts = split(template)
            text = [resolve(part) if part else "" for part in parts[::2]]
            names = parts[1::2]
            if lacking := [one for one in names if one not in values]:
                raise ValueMissing(lacking[0])
            filled = [piece for pair in zip(text, (values[one] for one in names), strict=False) for piece in pair]
            headers.append((name, "".join([*filled, text[-1]])))
        return headers


def split(template: str) -> list[str]:
    """Literal texts and placeholder names in turn; the first and the last are texts, which may be empty."""
    return _PLACEHOLDER.split(template)


def check(settings: OwnHeaderSettings) -> OwnHeaderSettings:
    """The settings as given; raises BadTemplate."""
    if not settings.headers:
        raise BadTemplate("Write at least one header, for example Authorization: Bearer {{API_KEY}}.")
    if len(settings.headers) > MOST_HEADERS:
        raise BadTemplate(f"No more than {MOST_HEADERS} headers.")
    seen: set[str] = set()
    for name, template in settings.headers:
        _check_header(name, template)
        if name.lower() in seen:
            raise BadTemplate(f"The header {name} stands twice.")
        seen.add(name.lower())
    names = {placeholder.name for placeholder in settings.placeholders()}
    if not names:
        raise BadTemplate(
            "No header has a placeholder such as {{API_KEY}}, so people would have nothing to enter. Add one, or "
            "choose Header Auth for values that all callers share."
        )
    if len(names) > MOST_PLACEHOLDERS:
        raise BadTemplate(f"No more than {MOST_PLACEHOLDERS} placeholders.")
    for name, label in settings.labels.items():
        if name not in names:
            raise BadTemplate(f"The label for {name} belongs to no placeholder: write {{{{{name}}}}} into a header.")
        if len(label) > _LONGEST_LABEL or not label.isprintable():
            raise BadTemplate(f"The label for {name} has to be one line of at most {_LONGEST_LABEL} characters.")
    return settings


def _check_header(name: str, template: str) -> None:
    try:
        check_header_name(name)
    except ValidationError as error:
        raise BadTemplate(" ".join(error.messages)) from error
    parts = split(template)
    for text in parts[::2]:
        if "{{" in text or "}}" in text:
            raise BadTemplate(
                f"{name}: write a placeholder as {{{{NAME}}}}, with letters, digits and underscores, beginning with "
                "a letter."
            )
        try:
            references_in(text)
        except BadReference as error:
            raise BadTemplate(
                f"{name}: the reference is malformed. Write secret://<tenant>:<group>:<key>, env://<NAME> or "
                "file:///<path>."
            ) from error
    filled = "".join("x" if position % 2 else part for position, part in enumerate(parts))
    try:
        check_header_value(filled)
    except ValidationError as error:
        raise BadTemplate(f"{name}: {' '.join(error.messages)}") from error


@dataclass(frozen=True, slots=True)
class CleanValue:
    """A value as it is kept, and what was taken off it, in a sentence for the person."""

    value: str = field(repr=False)
    note: str = ""


def clean_value(placeholder: Placeholder, typed: str) -> CleanValue:
    """What a person typed, without blanks around it and without what the template has in front of it already.

    Raises ValidationError, whose text never holds the value.
    """
    value, note = typed.strip(), ""
    scheme = placeholder.before.strip()
    for known, end in ((placeholder.header, ":"), (scheme, " ")):
        if known and f"{value} "[: len(known) + 1].lower() == f"{known}{end}".lower():
            value = value[len(known) + 1 :].strip()
            note = f"{placeholder.label}: “{known}” in front of it was left out, because the gateway adds it."
    if not value:
        raise ValidationError("Enter a value.", code="required")
    if len(value) > LONGEST_VALUE:
        raise ValidationError(f"This is longer than {LONGEST_VALUE:,} characters. Copy only the key.", code="long")
    if not _VALUE.fullmatch(value):
        raise ValidationError(
            "This has a line break, or a letter or sign that no header may hold. Copy the key once more, without "
            "anything around it.",
            code="characters",
        )
    return CleanValue(value, note)


def _readable(name: str) -> str:
    """`API_KEY` as `API key`."""
    words = name.replace("_", " ").split()
    text = " ".join(word.upper() if word.upper() in _ACRONYMS else word.lower() for word in words)
    return text[:1].upper() + text[1:]


_ACRONYMS: Final = frozenset(("API", "ID", "URL", "PAT", "JWT"))
