"""Form fields for headers: rows of write-only secrets, and friendly text areas instead of JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.template.loader import render_to_string
from django.utils.safestring import SafeString

from servers.header_names import check_header_name, check_header_value, check_public_header_name
from servers.secrets.references import BadReference, references_in

SPARE_ROWS = 1
BAD_REFERENCE = "the reference is malformed. Write secret://<tenant>:<group>:<key>, env://<NAME> or file:///<path>."
_MOST_ROWS = 20


@dataclass(frozen=True)
class HeaderRow:
    """One posted row. `stored` names the saved header that a blank value keeps."""

    name: str = ""
    value: str = field(default="", repr=False)
    stored: str = ""
    remove: bool = False

    @property
    def is_blank(self) -> bool:
        """A spare row that nobody filled in."""
        return not (self.name or self.value or self.stored)


@dataclass(frozen=True)
class StoredHeader:
    """A saved header as pages may show it: `shown` says that it is set and where, never what it is."""

    name: str
    shown: str


class HeaderRowsWidget(forms.Widget):
    """Rows of a name and a write-only value. A value is never rendered, not even one just typed."""

    stored: tuple[StoredHeader, ...] = ()

    def render(self, name: str, value: Any, attrs: dict[str, Any] | None = None, renderer: Any = None) -> SafeString:
        rows: list[dict[str, Any]] = []
        shown = {header.name.lower(): header.shown for header in self.stored}
        posted = value if isinstance(value, list) else [HeaderRow(h.name, stored=h.name) for h in self.stored]
        for row in posted:
            if not row.is_blank:
                known = shown.get(row.stored.lower(), "")
                rows.append({"name": row.name, "stored": row.stored, "shown": known, "remove": row.remove})
        rows += [{"name": "", "stored": "", "shown": "", "remove": False}] * max(SPARE_ROWS, 1 - len(rows))
        context = {
            "for_methods": self.attrs.get("data-for-methods", ""),
            "prefix": name,
            "rows": rows,
            "again": isinstance(value, list) and any(r.value for r in value),
        }
        return render_to_string("admin/gatehouse/header_rows.html", context)

    def value_from_datadict(self, data: Mapping[str, Any], files: Any, name: str) -> list[HeaderRow]:
        rows = []
        for number in range(_MOST_ROWS + 1):
            key = f"{name}-{number}"
            if not any(f"{key}-{part}" in data for part in ("name", "value", "stored")):
                break
            row = HeaderRow(
                name=str(data.get(f"{key}-name", "")).strip(),
                value=str(data.get(f"{key}-value", "")).strip(" \t"),
                stored=str(data.get(f"{key}-stored", "")).strip(),
                remove=bool(data.get(f"{key}-remove")),
            )
            if not row.is_blank:
                rows.append(row)
        return rows

    def value_omitted_from_data(self, data: Mapping[str, Any], files: Any, name: str) -> bool:
        return f"{name}-0-name" not in data

    def id_for_label(self, id_: str) -> str:
        return ""


class HeaderRowsField(forms.Field):
    """Cleans to the rows that remain, each with a legal name, and a value or a stored header to keep."""

    widget = HeaderRowsWidget

    def clean(self, value: Any) -> list[HeaderRow]:
        problems: list[ValidationError] = []
        kept: list[HeaderRow] = []
        rows = list(value or [])
        if len(rows) > _MOST_ROWS:
            problems.append(ValidationError(f"No more than {_MOST_ROWS} headers."))
        for row in rows:
            if row.remove:
                continue
            label = row.name or row.stored or "A row"
            try:
                if not row.name:
                    raise ValidationError("A row has a value but no header name.")
                check_header_name(row.name)
                if row.value:
                    check_header_value(row.value)
                    references_in(row.value)
                elif not row.stored:
                    raise ValidationError("%(label)s: enter a value or a reference.", params={"label": label})
            except ValidationError as error:
                problems.append(error)
            except BadReference:
                # Its own text would repeat what was typed, which may be a secret.
                problems.append(ValidationError("%(label)s: " + BAD_REFERENCE, params={"label": label}))
            kept.append(row)
        names = [row.name.lower() for row in kept]
        for name in sorted({n for n in names if n and names.count(n) > 1}):
            problems.append(ValidationError("The header %(name)s stands twice.", params={"name": name}))
        if problems:
            raise ValidationError(problems)
        return kept

    def has_changed(self, initial: Any, data: Any) -> bool:
        return any(row.remove or row.value or row.name != row.stored for row in data or [])


class HeaderLinesField(forms.CharField):
    """A JSON object of headers, written as one `Name: value` per line."""

    widget = forms.Textarea

    def prepare_value(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return "\n".join(f"{name}: {text}" for name, text in value.items())
        return value

    def to_python(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return dict(value)
        headers: dict[str, str] = {}
        problems = []
        for number, line in enumerate(str(value or "").splitlines(), start=1):
            name, colon, text = (part.strip() for part in line.partition(":"))
            if not name and not colon:
                continue
            try:
                if not colon or not text:
                    raise ValidationError("write it as Name: value.")
                check_public_header_name(name)
                check_header_value(text)
                if name.lower() in (known.lower() for known in headers):
                    raise ValidationError("this header stands twice.")
            except ValidationError as error:
                problems.append(
                    ValidationError(
                        "Line %(number)s: %(why)s", params={"number": number, "why": " ".join(error.messages)}
                    )
                )
            headers[name] = text
        if problems:
            raise ValidationError(problems)
        return headers

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return bool(dict(initial or {}) != self.to_python(data))
        except ValidationError:
            return True


class HeaderNamesField(forms.CharField):
    """A JSON list of header names, written as one name per line (commas are taken too)."""

    widget = forms.Textarea

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        if isinstance(value, list):
            return value
        names: dict[str, str] = {}
        problems = []
        for name in str(value or "").replace(",", "\n").splitlines():
            if not (name := name.strip()):
                continue
            try:
                check_public_header_name(name)
            except ValidationError as error:
                problems.append(error)
            names.setdefault(name.lower(), name)
        if problems:
            raise ValidationError(problems)
        return list(names.values())

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            return bool(list(initial or []) != self.to_python(data))
        except ValidationError:
            return True
