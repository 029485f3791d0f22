"""Admin pages of OAuth clients, approvals and what clients may register. Who sees what: `servers.scope`."""

from __future__ import annotations
