"""Fields that belong to some authentication types only, and text areas of `Name: value` lines."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from django import forms
from django.core.exceptions import ValidationError

from servers.models import AuthConfig

Method = AuthConfig.Method
_PARAMETER: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.:-]{0,99}")
# The gateway's own: an admin who could set these could undo PKCE, the state or the redirect.
_RESERVED: Final = frozenset(
    (
        *("client_id", "client_secret", "client_assertion", "client_assertion_type", "redirect_uri", "response_type"),
        *("state", "code", "code_challenge", "code_challenge_method", "code_verifier", "grant_type", "scope"),
        *("refresh_token", "subject_token", "subject_token_type", "assertion", "request", "request_uri"),
        *("response_mode", "nonce"),
    )
)


def mark(field: forms.Field, *methods: Method) -> forms.Field:
    """Say for which authentication types the page shows the field; it is ignored for the others."""
    field.widget.attrs["data-for-methods"] = " ".join(methods)
    return field


def methods_of(field: forms.Field) -> frozenset[str]:
    """The authentication types that the field belongs to; empty: all."""
    return frozenset(str(field.widget.attrs.get("data-for-methods", "")).split())


def wide(**attributes: str) -> forms.TextInput:
    """A text input without the browser's help, which only disturbs identifiers."""
    return forms.TextInput(attrs={"class": "vTextField", "autocomplete": "off", "spellcheck": "false", **attributes})


def lines(rows: int, **attributes: str) -> forms.Textarea:
    """A text area for lines that machines read."""
    return forms.Textarea(attrs={"rows": rows, "class": "vLargeTextField gh-code", "spellcheck": "false", **attributes})


class PairsField(forms.CharField):
    """An ordered set of pairs, written as one `Name: value` a line; cleans to a tuple of pairs."""

    widget = forms.Textarea

    def prepare_value(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            value = tuple(value.items())
        if isinstance(value, tuple | list):
            return "\n".join(f"{name}: {text}" for name, text in value)
        return value

    def to_python(self, value: Any) -> Any:
        if isinstance(value, tuple):
            return value
        pairs: list[tuple[str, str]] = []
        problems: list[ValidationError] = []
        for number, line in enumerate(str(value or "").splitlines(), start=1):
            name, colon, text = (part.strip() for part in line.partition(":"))
            if not name and not colon:
                continue
            try:
                if not colon or not name or not text:
                    raise ValidationError("write it as Name: value.")
                if name in (known for known, _ in pairs):
                    raise ValidationError("this name stands twice.")
                self.check(name, text)
            except ValidationError as error:
                params = {"number": number, "why": " ".join(error.messages)}
                problems.append(ValidationError("Line %(number)s: %(why)s", params=params))
            pairs.append((name, text))
        if problems:
            raise ValidationError(problems)
        return tuple(pairs)

    def check(self, name: str, text: str) -> None:
        """Raise ValidationError for a pair that cannot be used."""

    def has_changed(self, initial: Any, data: Any) -> bool:
        stored = tuple(initial.items()) if isinstance(initial, Mapping) else tuple(initial or ())
        try:
            return bool(stored != self.to_python(data))
        except ValidationError:
            return True


class ParametersField(PairsField):
    """Extra parameters of a request to a provider."""

    def check(self, name: str, text: str) -> None:
        if not _PARAMETER.fullmatch(name):
            raise ValidationError("a parameter's name has letters, digits and . _ - : only.")
        if name in _RESERVED:
            raise ValidationError(f"{name} is set by the gateway itself.")
        if len(text) > 500 or not all(" " <= c <= "~" for c in text):
            raise ValidationError("a parameter's value is one line of at most 500 plain characters.")


class ScopesField(forms.CharField):
    """Scopes, separated by spaces; cleans to a tuple."""

    def prepare_value(self, value: Any) -> Any:
        return " ".join(value) if isinstance(value, tuple | list) else value

    def to_python(self, value: Any) -> Any:
        found = tuple(dict.fromkeys(value if isinstance(value, tuple) else str(value or "").split()))
        for scope in found:
            # RFC 6749, 3.3.
            if len(scope) > 200 or not all("!" <= c <= "~" and c not in '"\\' for c in scope):
                raise ValidationError("Scopes are words of plain characters, separated by spaces.")
        return found

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return bool(tuple(initial or ()) != self.to_python(data))
        except ValidationError:
            return True


def names_for(fields: Mapping[str, forms.Field], method: str) -> Iterable[str]:
    """Names of the fields that the page shows for one authentication type only or among others."""
    return [name for name, field in fields.items() if method in methods_of(field)]
