"""What the gateway knows. One module per subject; this page is the list of them."""

from __future__ import annotations

from servers.models.access import AccessRule, Hints, Items, Role
from servers.models.access_requests import AccessRequest
from servers.models.catalogue import Catalogue, CatalogueItem
from servers.models.changes import Change
from servers.models.egress import PrivateDestination
from servers.models.model_endpoints import ModelEndpoint
from servers.models.records import IS_ERROR, AuditEvent, AuditHead, Call
from servers.models.secrets import StoredSecret
from servers.models.servers import AuthConfig, Server, ServerGroup
from servers.models.tenants import Membership, Tenant
from servers.models.virtual import VirtualMember, VirtualSelection

__all__ = [
    "IS_ERROR",
    "AccessRequest",
    "AccessRule",
    "AuditEvent",
    "AuditHead",
    "AuthConfig",
    "Call",
    "Catalogue",
    "CatalogueItem",
    "Change",
    "Hints",
    "Items",
    "Membership",
    "ModelEndpoint",
    "PrivateDestination",
    "Role",
    "Server",
    "ServerGroup",
    "StoredSecret",
    "Tenant",
    "VirtualMember",
    "VirtualSelection",
]
