"""What the gateway knows. One module per subject; this page is the list of them."""

from __future__ import annotations

from servers.models.access import AccessRule, Role
from servers.models.changes import Change
from servers.models.egress import PrivateDestination
from servers.models.records import IS_ERROR, AuditEvent, AuditHead, Call
from servers.models.secrets import StoredSecret
from servers.models.servers import AuthConfig, Server, ServerGroup
from servers.models.tenants import Membership, Tenant

__all__ = [
    "IS_ERROR",
    "AccessRule",
    "AuditEvent",
    "AuditHead",
    "AuthConfig",
    "Call",
    "Change",
    "Membership",
    "PrivateDestination",
    "Role",
    "Server",
    "ServerGroup",
    "StoredSecret",
    "Tenant",
]
