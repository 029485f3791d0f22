"""What every page's header needs to know."""

from __future__ import annotations

from typing import Any

from django import template
from django.contrib import admin

register = template.Library()


@register.simple_tag(takes_context=True)
def may_enter_admin(context: dict[str, Any]) -> bool:
    """Whether the admin would let the person of this request in."""
    request = context.get("request")
    return request is not None and admin.site.has_permission(request)
