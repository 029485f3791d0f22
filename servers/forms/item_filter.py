"""The form field for what of a server a rule opens: everything, only some names, everything but some, and by hints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from django import forms
from django.core.exceptions import ValidationError
from django.template.loader import render_to_string
from django.utils.safestring import SafeString

from servers.items import EVERYTHING, ItemFilter, ItemKind
from servers.models.access import Hints, Items
from servers.models.catalogue import LONGEST_KEY
from servers.rule_texts import filter_text

MOST_NAMES: Final = 500
"""In one rule."""
MOST_BOXES: Final = 2_000
"""Names to tick on one page, in all of its rows together; beyond that they are typed or searched."""
_EXAMPLE: Final = "tool:search"


@dataclass(frozen=True, slots=True)
class Posted:
    """What a browser sent for one rule."""

    items: str = ""
    hints: str = ""
    ticked: tuple[str, ...] = ()
    typed: str = ""


class ItemFilterWidget(forms.Widget):
    """A summary that opens: two choices, names to tick, and a text area for names that are not there yet."""

    offered: Sequence[str] = ()
    """Names of the catalogue, as `kind:key`."""
    boxes: bool = True
    """Whether they are listed to be ticked; otherwise they are typed, with suggestions where scripts run."""

    def render(self, name: str, value: Any, attrs: dict[str, Any] | None = None, renderer: Any = None) -> SafeString:
        shown, again = self._shown(value)
        offered = list(self.offered) if self.boxes else []
        known = set(offered)
        names = set(shown.ticked)
        context = {
            "name": name,
            "items": [(key, label, key == shown.items) for key, label in Items.choices],
            "hints": [(key, label, key == shown.hints) for key, label in Hints.choices],
            "boxes": [(one, *_parted(one), one in names) for one in offered],
            "typed": "\n".join(filter(None, (shown.typed, *sorted(names - known)))),
            "summary": "…" if again else (filter_text(value) if isinstance(value, ItemFilter) else "") or "everything",
            "open": again,
            "example": _EXAMPLE,
        }
        return render_to_string("admin/gatehouse/item_filter.html", context)

    @staticmethod
    def _shown(value: Any) -> tuple[Posted, bool]:
        if isinstance(value, Posted):
            return value, True
        found = value if isinstance(value, ItemFilter) else EVERYTHING
        return Posted(found.items, found.hints, tuple(sorted(found.names))), False

    def value_from_datadict(self, data: Mapping[str, Any], files: Any, name: str) -> Posted | None:
        if f"{name}-items" not in data:
            return None  # a page or program that knows nothing of this changes nothing of it
        listed = getattr(data, "getlist", None)
        ticked = listed(f"{name}-names") if listed is not None else data.get(f"{name}-names", [])
        typed = str(data.get(f"{name}-typed", ""))
        return Posted(str(data[f"{name}-items"]), str(data.get(f"{name}-hints", Hints.ANY)), tuple(ticked), typed)

    def value_omitted_from_data(self, data: Mapping[str, Any], files: Any, name: str) -> bool:
        return f"{name}-items" not in data

    def id_for_label(self, id_: str) -> str:
        return ""


class ItemFilterField(forms.Field):
    """Cleans to an ItemFilter; to None where nothing was sent."""

    widget = ItemFilterWidget

    def clean(self, value: Any) -> ItemFilter | None:
        if not isinstance(value, Posted):
            return None
        try:
            items, hints = Items(value.items), Hints(value.hints)
        except ValueError:
            raise ValidationError("Choose what the rule is about.") from None
        if items is Items.ALL:
            return replace(EVERYTHING, hints=hints)
        names = [*map(_checked, value.ticked), *names_in(value.typed)]
        if len(set(names)) > MOST_NAMES:
            raise ValidationError(f"A rule names at most {MOST_NAMES}. Use hints, or the other way round.")
        return ItemFilter(items, frozenset(names), hints)

    def has_changed(self, initial: Any, data: Any) -> bool:
        try:
            found = self.clean(data)
        except ValidationError:
            return True
        return found is not None and found != (initial or EVERYTHING)


def names_in(text: str) -> list[str]:
    """Names that were typed, one a line. Raises ValidationError that says which line is wrong."""
    problems, found = [], []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            found.append(_checked(line.strip()))
        except ValidationError as error:
            problems.append(ValidationError(f"Line {number}: {error.message}"))
    if problems:
        raise ValidationError(problems[:5])
    return found


def _checked(name: str) -> str:
    kind, colon, key = name.partition(":")
    if not colon or kind not in ItemKind.values:
        kinds = ", ".join(f"{one}:" for one in ItemKind.values)
        raise ValidationError(f"begin with one of {kinds} for example {_EXAMPLE}.")
    if not key.strip():
        raise ValidationError(f"a name has to follow, for example {_EXAMPLE}.")
    if len(key) > LONGEST_KEY or not key.isprintable():
        raise ValidationError(f"a name has at most {LONGEST_KEY} characters, all of them visible.")
    return name


def _parted(name: str) -> tuple[str, str]:
    kind, _, key = name.partition(":")
    return str(ItemKind(kind).label), key
