"""What the chat's part of the playground needs, whichever page includes it."""

from __future__ import annotations

from typing import Any

from django import template

from servers.model_endpoints import Offered, offered_to
from servers.scope import scope_of_request

register = template.Library()


@register.simple_tag(takes_context=True)
def offered_models(context: dict[str, Any]) -> list[Offered]:
    """The model endpoints that the person of this request may chat with."""
    return offered_to(context["request"].user)


@register.simple_tag(takes_context=True)
def may_add_models(context: dict[str, Any]) -> bool:
    """Whether the person may register a model endpoint."""
    return scope_of_request(context["request"]).may_add_groups
