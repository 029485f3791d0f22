"""Forms of OAuth clients and of what clients may register."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from authflows.inbound.oauth import hand_made_clients, redirect_uris
from authflows.inbound.oauth.client_metadata import clean_name
from authflows.models import OAuthClient, RegistrationPolicy

_LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"\.?{_LABEL}(?:\.{_LABEL})*")
_MOST_LINES = 200


class LinesField(forms.CharField):
    """A list of texts, one a line. `problem_of` says what is wrong with one, or an empty text."""

    def __init__(self, *, problem_of: Callable[[str], str], **kwargs: Any) -> None:
        widget = forms.Textarea(attrs={"rows": 4, "class": "vLargeTextField", "spellcheck": "false"})
        super().__init__(widget=widget, **kwargs)
        self.problem_of = problem_of

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(str(line) for line in value) if isinstance(value, list) else value

    def clean(self, value: Any) -> list[str]:
        text = super().clean(value)
        lines = list(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))
        if len(lines) > _MOST_LINES:
            raise ValidationError(f"At most {_MOST_LINES} lines.")
        problems = [f"“{line[:200]}”: {problem}" for line in lines if (problem := self.problem_of(line))]
        if problems:
            raise ValidationError(problems)
        return lines

    def has_changed(self, initial: Any, data: Any) -> bool:
        before = list(initial) if isinstance(initial, list) else []
        return before != [line.strip() for line in (data or "").splitlines() if line.strip()]


def _redirect_uri_problem(uri: str) -> str:
    found = redirect_uris.check(uri, private=RegistrationPolicy.current().private_uris)
    return found.reason if isinstance(found, redirect_uris.Refused) else ""


def _private_uri_problem(uri: str) -> str:
    if re.match("https?:", uri, re.IGNORECASE):
        return "This list is for schemes of applications; https and loopback addresses need no permission."
    found = redirect_uris.check(uri, private=[uri])
    return found.reason if isinstance(found, redirect_uris.Refused) else ""


def _host_problem(host: str) -> str:
    if len(host) > 253 or not _HOST.fullmatch(host):
        return "Write a host name in small letters, such as vscode.dev, or .example.com for its subdomains too."
    return ""


class ClientForm(forms.ModelForm):  # type: ignore[type-arg]
    """What an admin says about a client that described itself."""

    class Meta:
        model = OAuthClient
        fields = ("verified", "enabled")


class HandMadeClientForm(forms.ModelForm):  # type: ignore[type-arg]
    """Change a client that an admin made."""

    name = forms.CharField(max_length=100, help_text="Shown to people when they are asked to approve it.")
    redirect_uris = LinesField(
        label="Redirect URIs",
        problem_of=_redirect_uri_problem,
        help_text="One a line: where answers may go. Each is compared exactly, but for the port of loopback addresses.",
    )

    class Meta:
        model = OAuthClient
        fields = ("name", "redirect_uris", "verified", "enabled")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        instance = kwargs.get("instance")
        if instance is not None and instance.pk is not None:
            kwargs["initial"] = {"redirect_uris": instance.redirect_uris.split(), **(kwargs.get("initial") or {})}
        super().__init__(*args, **kwargs)

    def clean_name(self) -> str:
        name = clean_name(self.cleaned_data["name"])
        if not name:
            raise ValidationError("Enter a name that can be seen.")
        return name

    def _post_clean(self) -> None:
        # The model holds them as one text; `save` in the admin sets it.
        chosen = self.cleaned_data.pop("redirect_uris", None)
        super()._post_clean()  # type: ignore[misc]
        if chosen is not None:
            self.cleaned_data["redirect_uris"] = chosen
            name = self.cleaned_data.get("name", self.instance.name)
            hand_made_clients.describe(self.instance, name=name, redirect_uris=chosen)


class NewClientForm(HandMadeClientForm):
    """Make a client by hand."""

    client_type = forms.ChoiceField(
        label="Kind",
        choices=[
            (OAuthClient.CLIENT_PUBLIC, "Public: a program on people’s own computers; it has no secret"),
            (OAuthClient.CLIENT_CONFIDENTIAL, "Confidential: a program on a server that keeps a secret"),
        ],
        widget=forms.RadioSelect,
        initial=OAuthClient.CLIENT_PUBLIC,
    )

    class Meta:
        model = OAuthClient
        fields = ("name", "redirect_uris", "client_type", "verified")


class RegistrationPolicyForm(forms.ModelForm):  # type: ignore[type-arg]
    """What clients may do to make themselves known."""

    metadata_hosts = LinesField(
        label="Hosts of metadata documents",
        required=False,
        problem_of=_host_problem,
        help_text="One a line; .example.com takes subdomains too. Empty: every host.",
    )
    private_redirect_uris = LinesField(
        label="Private redirect URIs",
        required=False,
        problem_of=_private_uri_problem,
        help_text="One a line: redirect URIs with a scheme of an application, exactly as it registers them, for "
        "example cursor://anysphere.cursor-mcp/oauth/callback. Any program on a computer can claim such a scheme.",
    )

    class Meta:
        model = RegistrationPolicy
        fields = (
            "dynamic_registration", "metadata_documents", "metadata_hosts", "private_redirect_uris",
            "registrations_per_hour", "most_unused_clients", "unused_days",
        )  # fmt: skip
        help_texts = {
            "dynamic_registration": "Clients may register themselves. Most IDEs need it. Switched off, clients that "
            "are registered already go on."
        }
