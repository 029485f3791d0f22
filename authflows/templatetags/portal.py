"""What the pages need beyond Django's own tags."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Final

from django import template
from django.contrib import admin
from django.utils import timezone
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe
from django.utils.timesince import timesince

from authflows.outbound.my_members import MyMember

register = template.Library()

_MOMENT: Final = re.compile(r"(\d{4}-\d\d-\d\d) (\d\d:\d\d) UTC", re.ASCII)


@register.simple_tag(takes_context=True)
def may_enter_admin(context: dict[str, Any]) -> bool:
    """Whether the admin would let the person of this request in."""
    request = context.get("request")
    return request is not None and admin.site.has_permission(request)


@register.filter
def ago(moment: datetime) -> str:
    """How long ago something was, in words."""
    return "just now" if timezone.now() - moment < timedelta(minutes=1) else f"{timesince(moment)} ago"


@register.filter
def with_times(sentence: str) -> SafeString:
    """A sentence, escaped; its moments (`2026-07-28 14:05 UTC`) are `<time>`, shown in the reader's zone."""
    return mark_safe(_MOMENT.sub(r'<time datetime="\1T\2Z">\g<0></time>', escape(sentence)))  # noqa: S308


@register.filter
def server_names(members: Iterable[MyMember]) -> str:
    """The names of the servers that these members stand for, one after the other."""
    return ", ".join(member.server.name for member in members)
