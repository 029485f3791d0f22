"""Addresses of admin pages, by model and row. URL names only: the pages themselves live above."""

from __future__ import annotations

from django.db.models import Model
from django.urls import reverse


def admin_url(target: Model | type[Model], page: str = "") -> str:
    """The change page of a row, or the named page (`changelist`, `add`, `history`…) of its model."""
    options = target._meta
    name = f"admin:{options.app_label}_{options.model_name}_{page or 'change'}"
    needs_row = page in ("", "change", "delete", "history")
    return reverse(name, args=[target.pk] if needs_row and isinstance(target, Model) else [])
