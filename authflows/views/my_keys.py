"""My API keys: list, make, revoke."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Any
from uuid import UUID, uuid4

from django import forms
from django.contrib import messages
from django.core import signing
from django.core.exceptions import ValidationError
from django.db import IntegrityError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_http_methods, require_safe

from authflows.inbound import api_keys, my_servers
from authflows.models import ApiKey
from authflows.views.how_to_use import export_line
from servers.models import Server

SOON = timedelta(days=7)
_FORM_SALT = "authflows.my_keys.form"
_FORM_LIFETIME = timedelta(hours=12)
_LONGEST = timedelta(days=3660)


class KeyForm(forms.Form):
    """Name, end and limits of a new key.

    `form_id` is the id that the key will have, sealed for this person: sending the same form twice makes one key.
    """

    form_id = forms.CharField(widget=forms.HiddenInput)
    name = forms.CharField(
        max_length=100,
        help_text="Where you will use it, for example “laptop, Cursor”.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    lifetime = forms.ChoiceField(
        label="Expires",
        choices=[
            ("30", "in 30 days"),
            ("90", "in 90 days"),
            ("365", "in a year"),
            ("date", "on a date that I choose"),
            ("never", "never"),
        ],
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
        super().__init__(*args, **kwargs)
        self._user = user
        mine = [item.server.pk for item in my_servers.servers_of(user)]
        self.fields["servers"].queryset = Server.objects.filter(pk__in=mine)  # type: ignore[attr-defined]

    def clean_form_id(self) -> UUID:
        try:
            owner, text = signing.loads(self.cleaned_data["form_id"], salt=_FORM_SALT, max_age=_FORM_LIFETIME)
        except signing.BadSignature as error:
            raise _form_too_old() from error
        if owner != self._user.pk:
            raise _form_too_old()
        return UUID(text)

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
        """When the key ends; None: never. For a valid form."""
        lifetime = self.cleaned_data["lifetime"]
        if lifetime == "never":
            return None
        if lifetime == "date":
            return datetime.combine(self.cleaned_data["date"] + timedelta(days=1), time.min, UTC)
        return timezone.now() + timedelta(days=int(lifetime))

    def limits(self) -> list[Server] | None:
        """The only servers that the key is for; None: no limit. For a valid form."""
        return list(self.cleaned_data["servers"]) if self.cleaned_data["scope"] == "some" else None


@require_safe
def keys(request: HttpRequest) -> HttpResponse:
    """The list. Working keys come first."""
    now = timezone.now()
    mine = list(ApiKey.objects.filter(owner=request.user.pk).prefetch_related("servers"))
    mine.sort(key=lambda key: key.state(now) != "active")
    rows = [
        {
            "key": key,
            "state": key.state(now),
            "ends_soon": key.expires_at is not None and now < key.expires_at < now + SOON,
        }
        for key in mine
    ]
    return render(request, "portal/keys.html", {"rows": rows})


@require_http_methods(["GET", "HEAD", "POST"])
@sensitive_variables("token")
def new_key(request: HttpRequest) -> HttpResponse:
    """The form, and in the answer to it the key: the only time that it is shown."""
    user = request.user
    if request.method != "POST":
        return _key_form(request, KeyForm(user=user, initial=_first_values(request)))
    form = KeyForm(request.POST, user=user)
    if not form.is_valid():
        return _key_form(request, form)
    made = ApiKey.objects.filter(pk=form.cleaned_data["form_id"], owner=user.pk).first()
    if made is not None:
        return _made_before(request, made)
    try:
        key, token = api_keys.create_key(
            owner=user,
            name=form.cleaned_data["name"],
            actor=user.get_username(),
            servers=form.limits(),
            expires_at=form.expires_at(),
            key_id=form.cleaned_data["form_id"],
        )
    except (ValidationError, IntegrityError) as error:
        made = ApiKey.objects.filter(pk=form.cleaned_data["form_id"], owner=user.pk).first()
        if made is not None:
            return _made_before(request, made)
        if isinstance(error, IntegrityError):
            raise
        form.add_error(None, error.messages)
        return _key_form(request, form)
    limited_to = list(key.servers.select_related("tenant")) if key.limited else None
    context = {"key": key, "token": token, "export_line": export_line(token), "limited_to": limited_to}
    return render(request, "portal/key_made.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
def revoke_key(request: HttpRequest, key_id: UUID) -> HttpResponse:
    """Ask, then refuse the key from now on. Other people's keys do not exist here."""
    key = get_object_or_404(ApiKey, pk=key_id, owner=request.user.pk)
    if request.method == "POST":
        api_keys.revoke_key(key, actor=request.user.get_username())
        messages.success(request, f"The key “{key.name}” is revoked. Programs that send it are refused.")
        return redirect("my-keys")
    if key.state() != "active":
        return redirect("my-keys")
    return render(request, "portal/key_revoke.html", {"key": key})


def _first_values(request: HttpRequest) -> dict[str, Any]:
    values: dict[str, Any] = {"form_id": signing.dumps([request.user.pk, str(uuid4())], salt=_FORM_SALT)}
    if wanted := request.GET.get("server"):
        values |= {"scope": "some", "servers": [wanted]}
    return values


def _key_form(request: HttpRequest, form: KeyForm) -> HttpResponse:
    if "form_id" in form.errors:
        form.data = form.data.copy()  # type: ignore[attr-defined]
        form.data["form_id"] = _first_values(request)["form_id"]  # type: ignore[index]
    return render(request, "portal/key_new.html", {"form": form})


def _made_before(request: HttpRequest, key: ApiKey) -> HttpResponse:
    messages.warning(
        request,
        f"The key “{key.name}” was made already, and its text is shown only once. If you did not copy it, "
        "revoke it and make a new one.",
    )
    return redirect("my-keys")


def _form_too_old() -> ValidationError:
    return ValidationError("This form was open for too long. Check it and send it again.")
