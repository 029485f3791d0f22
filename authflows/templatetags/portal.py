"""What the pages need beyond Django's own tags."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django import template
from django.contrib import admin
from django.utils import timezone
from django.utils.timesince import timesince

register = template.Library()


@register.simple_tag(takes_context=True)
def may_enter_admin(context: dict[str, Any]) -> bool:
    """Whether the admin would let the person of this request in."""
    request = context.get("request")
    return request is not None and admin.site.has_permission(request)


@register.filter
def ago(moment: datetime) -> str:
    """How long ago something was, in words."""
    return "just now" if timezone.now() - moment < timedelta(minutes=1) else f"{timesince(moment)} ago"
