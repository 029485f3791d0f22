"""How servers stand for me, the address that leads through what is missing, and revoking. Thin."""

from __future__ import annotations

from typing import Any, Final

from django.conf import settings
from django.urls import reverse
from rest_framework.request import Request
from rest_framework.response import Response

from authflows.models import Connection, VirtualAccount
from authflows.outbound import connections
from authflows.outbound.my_connections import link_for
from authflows.outbound.my_members import MyMember, reached_by, reached_by_each
from authflows.outbound.needs import Need
from proxy.api.operations import ApiView, Operation
from proxy.api.people import Subject, servers_of, subject_of
from proxy.api.problems import Problem
from proxy.api.shapes import ConnectionShape, ConnectionsQuery, ConnectLinkShape, PersonQuery, RevokedShape
from proxy.api.statuses import status_of
from servers.models import Server

TAG: Final = "Connections"
_OF_OTHERS: Final = ("unknown_server", "not_manager", "unknown_person")


class ConnectionList(ApiView):
    operations = {
        "get": Operation(
            "list_connections",
            "How all servers stand for me, in one request",
            TAG,
            ConnectionShape,
            query=ConnectionsQuery,
            paged=True,
            problems=("unknown_person",),
            text="With `person`, a manager asks for somebody else: those servers that the manager manages.",
        )
    }

    def get(self, request: Request) -> Response:
        asked = self.asked()
        person, usable = servers_of(self.caller, asked.get("person"))
        servers = [one.server for one in usable]
        shown = servers[asked["offset"] : asked["offset"] + asked["limit"]]
        reached = reached_by_each(person, shown)
        return self.page(servers, asked, lambda server: status_of(server, reached[server.pk]))


class OneConnection(ApiView):
    operations = {
        "get": Operation(
            "get_connection", "How one server stands", TAG, ConnectionShape, query=PersonQuery, problems=_OF_OTHERS
        ),
        "delete": Operation(
            "revoke_connection",
            "End the connection, here at once and at its provider where it offers that",
            TAG,
            RevokedShape,
            query=PersonQuery,
            problems=_OF_OTHERS,
            text="Doing it twice is no error.",
        ),
    }

    def get(self, request: Request, tenant: str, slug: str) -> Response:
        found = self._subject(tenant, slug)
        return self.answer(status_of(found.server, reached_by(found.user, found.server)))

    def delete(self, request: Request, tenant: str, slug: str) -> Response:
        found = self._subject(tenant, slug)
        rows = Connection.objects.select_related("server__tenant", "server__auth_config", "client__tenant", "user")
        connection = rows.filter(user=found.user, server=found.server).first()
        if connection is None:
            return self.answer({"revoked": False, "provider": None, "detail": "There was no connection."})
        outcome = connections.revoke(connection, actor=self.caller.user.get_username())
        return self.answer({"revoked": True, "provider": outcome.provider, "detail": outcome.sentence})

    def _subject(self, tenant: str, slug: str) -> Subject:
        return subject_of(self.caller, tenant=tenant, slug=slug, person=self.asked().get("person"))


class ConnectLinks(ApiView):
    operations = {
        "post": Operation(
            "make_connect_link",
            "The address that leads me through everything that is missing",
            TAG,
            ConnectLinkShape,
            problems=("unknown_server", "cannot_connect"),
            text="For the caller alone, for 15 minutes, in a browser where they are signed in. Of a virtual server the "
            "page goes from one missing member to the next.",
        )
    }

    def post(self, request: Request, tenant: str, slug: str) -> Response:
        found = subject_of(self.caller, tenant=tenant, slug=slug, person=None)
        return self.answer(connect_link(found.user, found.server, asked_by="the Gateway API"))


def connect_link(user: Any, server: Server, *, asked_by: str) -> dict[str, Any]:
    """Where `user` connects what is missing for `server` (with its auth_config); raises Problem."""
    missing = [one for one in reached_by(user, server) if one.missing is not None and one.enabled]
    if not missing:
        return {"status": "ready", "connect_url": None, "expires_at": None, "missing": []}
    if VirtualAccount.objects.filter(user=user).exists():
        text = f"{user.get_username()} is a program, which cannot sign in anywhere. Ask the manager of {server.name}."
        raise Problem("cannot_connect", text)
    pages = [one for one in missing if _has_page(one)]
    if not pages:
        assert missing[0].missing is not None  # noqa: S101
        raise Problem("cannot_connect", missing[0].missing.sentence)
    through = server.pk if server.is_virtual else None
    link = link_for(user, pages[0].server, asked_by=asked_by, through_id=through)
    return {
        "status": "action_required",
        "connect_url": settings.PUBLIC_URL + reverse("connect-link", args=[link.pk]),
        "expires_at": link.expires_at,
        "missing": [one.server for one in pages],
    }


def _has_page(member: MyMember) -> bool:
    return member.missing is not None and member.missing.need is not Need.CREDENTIAL
