"""The form of an import: where the servers go, and the file."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from servers.forms.placement import PlacedForm
from servers.imports.documents import MOST_CHARACTERS
from servers.models import Server


class ImportPlaceForm(PlacedForm):
    """Tenant and group of what is imported."""

    class Meta:
        model = Server
        fields = ("tenant", "group")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices = list(self.tenant_choices()[:2])
        if len(choices) == 1:
            self.instance.tenant = choices[0]
            del self.fields["tenant"]
        self.limit_groups()
        if not self.fields["group"].required and not self._has_groups():
            del self.fields["group"]

    def _has_groups(self) -> bool:
        field = self.fields["group"]
        return isinstance(field, forms.ModelChoiceField) and field.queryset is not None and field.queryset.exists()

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        self.clean_place()
        return cleaned

    def _post_clean(self) -> None:
        """No server is made from this form, so there is none to check."""


class ImportForm(ImportPlaceForm):
    """The same with the file, pasted or uploaded."""

    text = forms.CharField(
        label="Paste it here",
        required=False,
        strip=False,
        max_length=MOST_CHARACTERS,
        widget=forms.Textarea(
            attrs={"rows": 14, "class": "gh-code gh-paste", "spellcheck": "false", "autocomplete": "off"}
        ),
    )
    file = forms.FileField(label="Or choose a file", required=False)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        upload = cleaned.get("file")
        if upload is None:
            return cleaned
        if str(cleaned.get("text", "")).strip():
            raise ValidationError("Paste a text or choose a file, not both.")
        if upload.size > 2 * MOST_CHARACTERS:
            self.add_error("file", f"The file is larger than {MOST_CHARACTERS // 1024} KiB.")
            return cleaned
        try:
            cleaned["text"] = upload.read().decode("utf-8-sig")
        except UnicodeDecodeError:
            self.add_error("file", "The file is not a text in UTF-8.")
        return cleaned
