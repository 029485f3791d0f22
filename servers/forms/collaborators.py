"""The rows of collaborators on the pages of servers and groups."""

from __future__ import annotations

from typing import Any

from django import forms

from servers.forms.item_filter import ItemFilterField
from servers.items import EVERYTHING, ItemFilter
from servers.models.access import AccessRule, Hints, Items, Role
from servers.registry import filter_of


class CollaboratorForm(forms.ModelForm):  # type: ignore[type-arg]
    """One rule: who, in which role, until when, and what of the server it opens."""

    opens = ItemFilterField(
        label="may use",
        required=False,
        help_text="A User may use everything, or only some tools, prompts and resources. A Manager has everything.",
    )

    class Meta:
        model = AccessRule
        fields = ("user", "team", "role", "expires_at")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # As it is stored; the row itself changes when the form is cleaned.
        self.opened_before = filter_of(self.instance)
        self.initial["opens"] = self.opened_before

    def clean(self) -> dict[str, Any]:
        found: dict[str, Any] = super().clean() or self.cleaned_data
        opens = found.get("opens")
        changed = "opens" in self.changed_data
        if found.get("role") == Role.MANAGER:
            if changed and opens not in (None, EVERYTHING):
                self.add_error("opens", "A Manager has everything of the server; choose User to limit it.")
            self._set(EVERYTHING)
        elif isinstance(opens, ItemFilter):
            if changed and opens.items is not Items.ALL and not opens.names:
                self.add_error("opens", "Name at least one, or choose Everything.")
            self._set(opens)
        return found

    def _set(self, opens: ItemFilter) -> None:
        rule = self.instance
        rule.items, rule.item_names = Items(opens.items), sorted(opens.names)
        rule.hints = Hints(opens.hints)
