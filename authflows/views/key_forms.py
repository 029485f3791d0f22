"""Forms that make a key for the signed-in person."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any
from uuid import UUID, uuid4

from django import forms
from django.core import signing
from django.core.exceptions import ValidationError
from django.db import IntegrityError
from django.utils import timezone

from authflows.inbound import api_keys, my_servers
from authflows.models import ApiKey
from servers.models import Server

_FORM_SALT = "authflows.my_keys.form"
_FORM_LIFETIME = timedelta(hours=12)
_LONGEST = timedelta(days=3660)
_LIFETIMES = [("30", "in 30 days"), ("90", "in 90 days"), ("365", "in a year"), ("never", "never")]


@dataclass(frozen=True, slots=True)
class Made:
    """A key; its text only if this very form made it now."""

    key: ApiKey
    token: str | None


class NewKeyForm(forms.Form):
    """Name and end of a new key.

    `form_id` is the id that the key will have, sealed for this person: sending the same form twice makes one key.
    """

    form_id = forms.CharField(widget=forms.HiddenInput)
    name = forms.CharField(
        max_length=100,
        help_text="Where you will use it, for example “laptop, Cursor”.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    lifetime = forms.ChoiceField(label="Expires", choices=_LIFETIMES, initial="90")

    def __init__(self, *args: Any, user: Any, **kwargs: Any) -> None:
        kwargs["initial"] = {"form_id": _new_form_id(user), **(kwargs.get("initial") or {})}
        super().__init__(*args, **kwargs)
        self._user = user

    def clean_form_id(self) -> UUID:
        try:
            owner, text = signing.loads(self.cleaned_data["form_id"], salt=_FORM_SALT, max_age=_FORM_LIFETIME)
        except signing.BadSignature as error:
            raise _form_too_old() from error
        if owner != self._user.pk:
            raise _form_too_old()
        return UUID(text)

    def expires_at(self) -> datetime | None:
        """When the key ends; None: never. For a valid form."""
        lifetime = self.cleaned_data["lifetime"]
        return None if lifetime == "never" else timezone.now() + timedelta(days=int(lifetime))

    def renew(self) -> None:
        """Give a form that was refused for its age a fresh id, so that it can be sent again."""
        if "form_id" in self.errors:
            self.data = self.data.copy()  # type: ignore[attr-defined]
            self.data["form_id"] = _new_form_id(self._user)  # type: ignore[index]

    def make(self, *, servers: list[Server] | None) -> Made | None:
        """Make the key of a valid form, limited to `servers` (None: no limit); None: the form has errors now."""
        key_id = self.cleaned_data["form_id"]
        made = ApiKey.objects.filter(pk=key_id, owner=self._user.pk).first()
        if made is not None:
            return Made(made, None)
        try:
            key, token = api_keys.create_key(
                owner=self._user,
                name=self.cleaned_data["name"],
                actor=self._user.get_username(),
                servers=servers,
                expires_at=self.expires_at(),
                key_id=key_id,
            )
        except (ValidationError, IntegrityError) as error:
            made = ApiKey.objects.filter(pk=key_id, owner=self._user.pk).first()
            if made is not None:
                return Made(made, None)
            if isinstance(error, IntegrityError):
                raise
            self.add_error(None, error.messages)
            return None
        return Made(key, token)


class KeyForm(NewKeyForm):
    """The same with a last day and a choice of servers."""

    lifetime = forms.ChoiceField(
        label="Expires",
        choices=[*_LIFETIMES[:-1], ("date", "on a date that I choose"), _LIFETIMES[-1]],
        initial="90",
    )
    date = forms.DateField(
        label="Last day",
        required=False,
        help_text="The key works until this day ends (UTC).",
        widget=forms.DateInput(attrs={"type": "date"}),
    )
    scope = forms.ChoiceField(
        label="Works for",
        choices=[("all", "every server that I may use, now and later"), ("some", "only the servers that I tick")],
        widget=forms.RadioSelect,
        initial="all",
    )
    servers = forms.ModelMultipleChoiceField(
        queryset=Server.objects.none(),
        required=False,
        widget=forms.CheckboxSelectMultiple,
    )

    def __init__(self, *args: Any, user: Any, **kwargs: Any) -> None:
        super().__init__(*args, user=user, **kwargs)
        mine = [item.server.pk for item in my_servers.servers_of(user)]
        self.fields["servers"].queryset = Server.objects.filter(pk__in=mine)  # type: ignore[attr-defined]

    def clean_date(self) -> Any:
        date = self.cleaned_data["date"]
        if date is None or self.cleaned_data.get("lifetime") != "date":
            return None
        today = timezone.now().astimezone(UTC).date()
        if date < today:
            raise ValidationError("This day is over. Choose today or a later day.")
        if date - today > _LONGEST:
            raise ValidationError("Choose a day within ten years, or “never”.")
        return date

    def clean(self) -> dict[str, Any]:
        data = self.cleaned_data
        if data.get("lifetime") == "date" and not data.get("date") and "date" not in self.errors:
            self.add_error("date", "Choose the last day on which the key works.")
        if data.get("scope") == "some" and not data.get("servers") and "servers" not in self.errors:
            self.add_error("servers", "Tick at least one server.")
        return data

    def expires_at(self) -> datetime | None:
        if self.cleaned_data["lifetime"] == "date":
            return datetime.combine(self.cleaned_data["date"] + timedelta(days=1), time.min, UTC)
        return super().expires_at()

    def limits(self) -> list[Server] | None:
        """The only servers that the key is for; None: no limit. For a valid form."""
        return list(self.cleaned_data["servers"]) if self.cleaned_data["scope"] == "some" else None


def _new_form_id(user: Any) -> str:
    return signing.dumps([user.pk, str(uuid4())], salt=_FORM_SALT)


def _form_too_old() -> ValidationError:
    return ValidationError("This form was open for too long. Check it and send it again.")
