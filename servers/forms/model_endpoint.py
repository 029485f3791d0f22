"""The form of a model endpoint: models one a line, and a key that goes in and never comes out."""

from __future__ import annotations

import re
from typing import Any

from django import forms
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError

from servers.egress import parse_destination
from servers.errors import DestinationRefused
from servers.forms.base import TenantScopedForm
from servers.header_auth import same_origin
from servers.model_endpoints import MODEL_MOST_CHARACTERS, model_names
from servers.models import ModelEndpoint, StoredSecret
from servers.people import teams_of
from servers.secrets.references import BadReference, StoredReference, parse_reference
from servers.secrets.store import set_secret

SECRET_GROUP = "model-endpoints"  # noqa: S105  (a name)
_MOST_MODELS = 50


class ModelNamesField(forms.CharField):
    """Names of models, one a line, as the list that the row keeps."""

    widget = forms.Textarea(attrs={"rows": 4, "class": "vLargeTextField gh-code", "spellcheck": "false"})

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        lines = value if isinstance(value, list) else str(value or "").splitlines()
        if any(len(line.strip()) > MODEL_MOST_CHARACTERS for line in lines):
            raise ValidationError(f"The name of a model has at most {MODEL_MOST_CHARACTERS} characters.")
        names = list(model_names(lines))
        if len(names) > _MOST_MODELS:
            raise ValidationError(f"Enter at most {_MOST_MODELS} models.")
        return names


class ModelEndpointForm(TenantScopedForm):
    """Add or change a model endpoint. A key typed here goes to the secret store; the row keeps its reference."""

    model_names = ModelNamesField(
        label="Models", help_text="One name a line, as the endpoint calls them, for example gpt-4.1-mini."
    )
    new_key = forms.CharField(
        label="Key",
        required=False,
        strip=True,
        max_length=4096,
        widget=forms.PasswordInput(attrs={"autocomplete": "off", "class": "vTextField", "size": 60}),
    )
    no_key = forms.BooleanField(label="Send no key (any more)", required=False)

    class Meta:
        model = ModelEndpoint
        fields = ("tenant", "name", "base_url", "model_names", "enabled", "teams")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        key = self.instance.key
        kept = f"Set: {shown_key(key)}. Leave this empty to keep it. " if key else ""
        self.fields["new_key"].help_text = (
            f"{kept}A key is put into the secret store and is never shown again; or enter a reference to a secret such "
            "as secret://default:llm:key."
        )
        if not key:
            self.fields.pop("no_key", None)
        self.fields["base_url"].widget = forms.URLInput(
            attrs={"class": "vURLField", "placeholder": "https://api.openai.com/v1"}
        )
        self.fields[
            "base_url"
        ].help_text = (
            "Without /chat/completions. A private address also has to be allowed under Allowed private destinations."
        )
        teams = self.fields.get("teams")
        if isinstance(teams, forms.ModelMultipleChoiceField):
            teams.queryset = teams_of(self.scope, Group.objects.order_by("name"))

    def clean_base_url(self) -> str:
        url: str = self.cleaned_data["base_url"].strip().rstrip("/")
        if url.endswith("/chat/completions"):
            raise ValidationError("Leave /chat/completions away: the gateway adds it.")
        try:
            parse_destination(url)
        except DestinationRefused as error:
            raise ValidationError(error.public_message) from error
        return url

    def clean_new_key(self) -> str:
        text: str = self.cleaned_data["new_key"]
        if "://" in text:
            try:
                parse_reference(text)
            except BadReference as error:
                raise ValidationError(str(error)) from error
        elif not text.isascii() or not text.isprintable() or " " in text:
            raise ValidationError("This has characters that no key has. Copy the key once more.")
        return text

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        tenant, typed = self.chosen_tenant(), cleaned.get("new_key", "")
        if tenant is None:
            self.add_error(None, "Choose a tenant first.")
        elif "://" in typed:
            reference = parse_reference(typed)
            if isinstance(reference, StoredReference):
                self._check_stored(reference, tenant)
        if cleaned.get("no_key") and typed:
            self.add_error("no_key", "Either enter a key or send none.")
        # The old key is for the old address: who may change the address must not send it elsewhere (T29).
        moved = not same_origin(self.initial.get("base_url", ""), cleaned.get("base_url", ""))
        if self.instance.key and moved and "base_url" in cleaned and not (typed or cleaned.get("no_key")):
            self.add_error("new_key", "The address is another one, so the key has to be entered again.")
        return cleaned

    def _check_stored(self, reference: StoredReference, tenant: Any) -> None:
        rows = StoredSecret.objects.filter(tenant=tenant, group=reference.group, key=reference.key)
        if reference.tenant != tenant.slug or not rows.exists():
            self.add_error("new_key", f"There is no secret {reference} in this tenant.")

    def keep_key(self, endpoint: ModelEndpoint, *, actor: str) -> None:
        """Put what was entered into `endpoint` (unsaved), a typed key into the secret store first."""
        typed: str = self.cleaned_data.get("new_key", "")
        if self.cleaned_data.get("no_key"):
            endpoint.key = ""
        elif "://" in typed:
            endpoint.key = typed
        elif typed:
            key = f"{re.sub(r'[^a-z0-9]+', '-', endpoint.name.lower()).strip('-')[:40]}-{endpoint.pk.hex[:8]}"
            secret = set_secret(
                tenant=endpoint.tenant, group=SECRET_GROUP, key=key.lstrip("-"), value=typed, actor=actor
            )
            endpoint.key = secret.fqn


def shown_key(key: str) -> str:
    """What a page may say about a key: its reference; never what is none."""
    try:
        return str(parse_reference(key)) if key else "none"
    except BadReference:
        return "unreadable, set it again"
