"""The form in which a person, or a manager for somebody, enters header values. What was typed is never sent back."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Any, ClassVar, Final

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone

from authflows.outbound import own_keys
from authflows.outbound.own_keys import Kept
from servers.models import Server
from servers.own_header import CleanValue, Placeholder, clean_value

_PREFIX: Final = "value_"
_LONGEST: Final = timedelta(days=3660)
_ATTRIBUTES: Final = {"autocomplete": "off", "autocapitalize": "off", "spellcheck": "false"}


class ValueField(forms.CharField):
    """One write-only value; cleans to a `CleanValue`."""

    widget = forms.PasswordInput

    def __init__(self, placeholder: Placeholder, **options: Any) -> None:
        widget = forms.PasswordInput(render_value=False, attrs=_ATTRIBUTES)
        super().__init__(label=placeholder.label, strip=False, widget=widget, **options)
        self.placeholder = placeholder

    def clean(self, value: Any) -> Any:
        if not self.required and not str(value or "").strip():
            return None
        return clean_value(self.placeholder, str(value or ""))


class OwnKeyForm(forms.Form):
    """What `server` (with tenant and auth_config) asks `user` for."""

    for_others: ClassVar[bool] = False

    untested = forms.BooleanField(
        label="Keep it untested",
        required=False,
        help_text="The first call will show whether it works.",
    )

    def __init__(self, *args: Any, server: Server, user: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.server = server
        self.user = user
        self.may_keep_untested = False
        for placeholder in own_keys.asked_of(server):
            self.fields[f"{_PREFIX}{placeholder.name}"] = self.value_field(placeholder)

    def value_field(self, placeholder: Placeholder) -> ValueField:
        """The field of one value."""
        return ValueField(placeholder)

    @property
    def value_fields(self) -> list[forms.BoundField]:
        """The bound fields of the values, in the order of the templates."""
        return [self[name] for name in self.fields if name.startswith(_PREFIX)]

    @property
    def notes(self) -> list[str]:
        """What was left out of what the person typed. For a valid form."""
        return [value.note for value in self.values().values() if value.note]

    def values(self) -> dict[str, CleanValue]:
        """The values by the placeholder's name. For a valid form."""
        return {
            name.removeprefix(_PREFIX): value
            for name, value in self.cleaned_data.items()
            if name.startswith(_PREFIX) and isinstance(value, CleanValue)
        }

    def expires_at(self) -> datetime | None:
        """When the values stop working; None: never."""
        return None

    def comment(self) -> str:
        """What is noted beside them."""
        return ""

    def keep(self, *, actor: Any) -> Kept | None:
        """Try and keep the values of a valid form; None: nothing was kept, and the form says why."""
        outcome = own_keys.enter(
            user=self.user,
            server=self.server,
            values=self.values(),
            actor=actor,
            expires_at=self.expires_at(),
            comment=self.comment(),
            keep_untested=self.cleaned_data["untested"],
            for_others=self.for_others,
        )
        if isinstance(outcome, Kept):
            return outcome
        self.may_keep_untested = outcome.may_keep
        self.add_error(None, outcome.sentence)
        return None


class MyOwnKeyForm(OwnKeyForm):
    """The same with the last day on which the key works."""

    last_day = forms.DateField(
        label="Last day",
        required=False,
        help_text="If the key ends at its provider on a day that you know: from then on you are asked for a new one.",
        widget=forms.DateInput(attrs={"type": "date"}),
    )

    def clean_last_day(self) -> date | None:
        day: date | None = self.cleaned_data["last_day"]
        if day is None:
            return None
        today = timezone.now().astimezone(UTC).date()
        if day < today:
            raise ValidationError("This day is over. Choose today or a later day.")
        if day - today > _LONGEST:
            raise ValidationError("Choose a day within ten years, or none.")
        return day

    def expires_at(self) -> datetime | None:
        day = self.cleaned_data["last_day"]
        return datetime.combine(day + timedelta(days=1), time.min, UTC) if day else None
