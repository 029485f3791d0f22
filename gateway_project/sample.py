"""The sample MCP server of `make run`: registered once, and from then on the admin's to change or delete.

What was registered is remembered in the audit trail, so a sample that somebody deleted or changed is not made
again, whatever happened to its row.
"""

from __future__ import annotations

from django.db import transaction

from servers import audit
from servers.models import AuditEvent, AuthConfig, PrivateDestination, Server, ServerGroup
from servers.tenancy import default_tenant

_ACTOR = "sample (make run)"
_NOTE = "The sample calculator of make run."
_HOST = "127.0.0.1"


def sample_url(port: int) -> str:
    """Where the sample listens."""
    return f"http://{_HOST}:{port}/mcp"


def register_sample(*, port: int) -> Server | None:
    """The sample server's row, made on the first call; None when an admin has deleted it.

    On a later call with another port its URL follows, unless somebody has changed the URL meanwhile.
    """
    with transaction.atomic():
        last = AuditEvent.objects.filter(detail__sample=True).order_by("sequence").last()
        if last is None:
            return _create(port)
        server = Server.objects.filter(pk=last.subject_id).first()
        if server is not None and server.url == last.detail["url"] and server.url != sample_url(port):
            _move(server, port, old_port=last.detail["port"])
        return server


def _create(port: int) -> Server:
    tenant = default_tenant()
    existing = Server.objects.filter(tenant=tenant, slug="calculator").first()
    if existing is not None:
        return existing  # somebody's own server; nothing of ours to add
    group, _ = ServerGroup.objects.get_or_create(
        tenant=tenant,
        slug="demo",
        defaults={"name": "Demo", "description": "A sample to try the gateway with. Delete it when you like."},
    )
    server = Server(
        tenant=tenant,
        group=group,
        slug="calculator",
        name="Calculator",
        description="Adds, subtracts, multiplies and divides two numbers. The sample that comes with Gatehouse.",
        url=sample_url(port),
    )
    server.full_clean()
    server.save(force_insert=True)
    AuthConfig.objects.create(server=server, method=AuthConfig.Method.NONE)
    PrivateDestination.objects.get_or_create(host=_HOST, port=port, defaults={"note": _NOTE})
    _remember(audit.Action.SERVER_CREATE, server, port)
    return server


def _move(server: Server, port: int, *, old_port: int) -> None:
    server.url = sample_url(port)
    server.save(update_fields=["url", "session_epoch", "updated_at"])
    for destination in PrivateDestination.objects.filter(host=_HOST, port=old_port, note=_NOTE):
        destination.delete()
    PrivateDestination.objects.get_or_create(host=_HOST, port=port, defaults={"note": _NOTE})
    _remember(audit.Action.SERVER_CHANGE, server, port)


def _remember(action: audit.Action, server: Server, port: int) -> None:
    detail = {"sample": True, "url": server.url, "port": port}
    audit.record(action, actor=_ACTOR, subject=server, tenant=server.tenant, detail=detail)
