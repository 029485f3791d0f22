"""How callers prove who they are, and what the gateway holds to prove itself upstream."""

from __future__ import annotations

from authflows.models.answers import PassedAnswer
from authflows.models.approvals import Approval, PendingSignIn, RefreshReply
from authflows.models.clients import OAuthClient, RegistrationPolicy
from authflows.models.connections import Connection, ConnectLink, OwnKey, PendingConnection, UpstreamClient
from authflows.models.identity import AccountMapping, Identity, IdentityProvider, TeamMapping
from authflows.models.keys import ApiKey, VirtualAccount
from authflows.models.links import OneTimeLink
from authflows.models.member_sessions import MemberSession
from authflows.models.sessions import SignInSession
from authflows.models.throttle import AttemptBucket

__all__ = [
    "AccountMapping",
    "ApiKey",
    "Approval",
    "AttemptBucket",
    "ConnectLink",
    "Connection",
    "Identity",
    "IdentityProvider",
    "MemberSession",
    "OAuthClient",
    "OneTimeLink",
    "OwnKey",
    "PassedAnswer",
    "PendingConnection",
    "PendingSignIn",
    "RefreshReply",
    "RegistrationPolicy",
    "SignInSession",
    "TeamMapping",
    "UpstreamClient",
    "VirtualAccount",
]
