"""The forms of requests for access: the one of who asks, and the one of the manager who answers."""

from __future__ import annotations

from typing import Any, Final

from django import forms

from servers.access_requests import DURATIONS, duration_text
from servers.models import AccessRequest

NO_END: Final = "0"
_CHOICES: Final = [(str(days or NO_END), text.capitalize()) for days, text in DURATIONS]
_MOST_DAYS: Final = 365
_LONGEST_TEXT: Final = 500


def _days_of(text: str) -> int | None:
    """What a choice stands for: days, or None for no end. Raises ValueError."""
    days = int(text)
    if not 0 <= days <= _MOST_DAYS:
        raise ValueError
    return days or None


class AskForm(forms.Form):
    """Why somebody needs a server, and for how long."""

    reason = forms.CharField(
        label="What do you need it for?",
        max_length=_LONGEST_TEXT,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text="The managers of the server read this.",
        error_messages={"required": "Say in a sentence what you need it for."},
    )
    duration = forms.TypedChoiceField(
        label="For how long?", choices=_CHOICES, coerce=_days_of, empty_value=None, initial="30"
    )


class AnswerForm(forms.Form):
    """A manager's answer to one request. `duration` may differ from what was asked for."""

    request = forms.UUIDField()
    do = forms.ChoiceField(choices=[("approve", "Approve"), ("refuse", "Refuse")])
    duration = forms.TypedChoiceField(coerce=_days_of, required=False, empty_value=None)
    answer = forms.CharField(max_length=_LONGEST_TEXT, required=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["duration"].choices = [(str(days), "") for days in range(_MOST_DAYS + 1)]  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        cleaned = self.cleaned_data
        if cleaned.get("do") == "refuse" and not cleaned.get("answer"):
            self.add_error("answer", "Say in a sentence why not: the person who asked reads it.")
        if cleaned.get("do") == "approve" and not self.data.get("duration"):
            self.add_error("duration", "Choose for how long.")
        return cleaned


def durations_for(request: AccessRequest) -> list[tuple[str, str, bool]]:
    """What a manager chooses from, as (value, words, chosen): the usual ones, and chosen what was asked for."""
    offered = [days for days, _ in DURATIONS]
    if request.days not in offered:
        offered = [*sorted([*(days for days in offered if days), request.days or 0]), None]
    return [(str(days or NO_END), duration_text(days), days == request.days) for days in offered]
