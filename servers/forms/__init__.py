"""The forms of servers, groups, collaborators and secrets. Rules only; the admin and the proxy's pages use them."""

from __future__ import annotations

from servers.forms.base import GroupForm, SecretForm, TenantScopedForm
from servers.forms.server import NO_AUTH_WARNING, ServerForm, ServerTestForm

__all__ = ["NO_AUTH_WARNING", "GroupForm", "SecretForm", "ServerForm", "ServerTestForm", "TenantScopedForm"]
