"""The same under the paths and in the shapes that programs written for another gateway know. Thin.

Only what costs little: the list, one server, the authorization address, the state, overrides. New programs use
`/api/v1`.
"""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from jiter import from_json
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from authflows.models import Connection
from authflows.outbound import connections, own_keys
from authflows.outbound.my_members import MyMember, reached_by
from authflows.outbound.overrides import servers_with_overrides
from proxy.api.connections import connect_link
from proxy.api.operations import ApiView, Operation, Taken
from proxy.api.own_keys import check_settable, remove_key, set_key
from proxy.api.people import Subject, subject_of
from proxy.api.problems import Problem
from servers.models import Server
from servers.people import VIRTUAL_PREFIX
from servers.usable import usable_by

TAG: Final = "Compatible paths"
_OF_OTHERS: Final = ("unknown_server", "not_manager", "unknown_person")
_SUBJECTS: Final = ("user", "virtualaccount")


class AliasServer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    fqn = serializers.CharField()
    tenantName = serializers.CharField()
    manifest = serializers.DictField()
    proxyUrl = serializers.URLField()
    isAuthOverrideSupported = serializers.BooleanField()
    createdAt = serializers.DateTimeField()
    updatedAt = serializers.DateTimeField()


class AliasPagination(serializers.Serializer[Any]):
    total = serializers.IntegerField()
    offset = serializers.IntegerField()
    limit = serializers.IntegerField()


class AliasList(serializers.Serializer[Any]):
    data = AliasServer(many=True)  # type: ignore[assignment]
    pagination = AliasPagination()


class AliasOne(serializers.Serializer[Any]):
    data = AliasServer()  # type: ignore[assignment]


class AliasListQuery(serializers.Serializer[Any]):
    limit = serializers.IntegerField(min_value=1, max_value=1000, default=100)
    offset = serializers.IntegerField(min_value=0, default=0)
    filter = serializers.CharField(
        required=False,
        max_length=10_000,
        help_text='`{"op": "and", "values": [{"field": "name", "op": "EQUAL" or "IN", "value" or "values": …}]}`',
    )


class AliasState(serializers.Serializer[Any]):
    status = serializers.ChoiceField(("authenticated", "authentication_required", "authentication_not_required"))
    reason = serializers.CharField(required=False)
    authorization_endpoint = serializers.URLField(required=False)


class AliasSubjectQuery(serializers.Serializer[Any]):
    subjectId = serializers.CharField(required=False, max_length=150, help_text="User name, or the account's name.")
    subjectType = serializers.ChoiceField(_SUBJECTS, default="user")


class AliasHeader(Taken):
    type = serializers.ChoiceField(("header",))
    headerValue = serializers.CharField(max_length=4200, trim_whitespace=False)


class AliasOverride(Taken):
    subjectId = serializers.CharField(max_length=150)
    subjectType = serializers.ChoiceField(_SUBJECTS)
    authOverride = AliasHeader()


class AliasRemoval(Taken):
    subjectId = serializers.CharField(max_length=150)
    subjectType = serializers.ChoiceField(_SUBJECTS)
    authSource = serializers.ChoiceField(("oauth", "auth-override"))


class AliasServers(ApiView):
    operations = {"get": Operation("alias_list_servers", "As list_servers", TAG, AliasList, query=AliasListQuery)}

    def get(self, request: Request) -> Response:
        asked = self.asked()
        names = _names_in(asked.get("filter", ""))
        found = usable_by(self.caller.principal)
        found = [one for one in found if names is None or one.server.slug in names]
        limit, offset = asked["limit"], asked["offset"]
        pagination = {"total": len(found), "offset": offset, "limit": limit}
        part = [one.server for one in found[offset : offset + limit]]
        overridable = set(servers_with_overrides(Server.objects.filter(pk__in=[one.pk for one in part])))
        shown = [_shown(one, overridable=one in overridable) for one in part]
        return self.answer({"data": shown, "pagination": pagination})


class AliasView(ApiView):
    """Base of what is about one server."""

    def subject(self, server_id: UUID, asked: dict[str, Any] | None = None) -> Subject:
        """The caller, or whom a manager asks about; raises Problem."""
        row = Server.objects.select_related("tenant").filter(pk=server_id).first()
        asked = asked or {}
        person = asked.get("subjectId")
        if row is None:
            raise Problem("unknown_server" if person in (None, self.caller.user.get_username()) else "not_manager")
        if person is not None and asked["subjectType"] == "virtualaccount":
            person = f"{VIRTUAL_PREFIX}{row.tenant.slug}/{person}"
        return subject_of(self.caller, tenant=row.tenant.slug, slug=row.slug, person=person)


class AliasServerView(AliasView):
    operations = {"get": Operation("alias_get_server", "As get_server", TAG, AliasOne, problems=("unknown_server",))}

    def get(self, request: Request, server_id: UUID) -> Response:
        server = self.subject(server_id).server
        overridable = servers_with_overrides(Server.objects.filter(pk=server.pk)).exists()
        return self.answer({"data": _shown(server, overridable=overridable)})


class AliasAuthorize(AliasView):
    operations = {
        "get": Operation(
            "alias_authorize",
            "As make_connect_link",
            TAG,
            AliasState,
            problems=("unknown_server", "cannot_connect"),
            text="`redirectURL` is not followed: the page ends here.",
        )
    }

    def get(self, request: Request, server_id: UUID) -> Response:
        found = self.subject(server_id)
        state = _state(found)
        if state["status"] == "authentication_required":
            link = connect_link(found.user, found.server, asked_by="the Gateway API")
            state["authorization_endpoint"] = link["connect_url"]
        return self.answer(state)


class AliasAuthState(AliasView):
    operations = {
        "get": Operation(
            "alias_auth_state", "As get_connection", TAG, AliasState, query=AliasSubjectQuery, problems=_OF_OTHERS
        )
    }

    def get(self, request: Request, server_id: UUID) -> Response:
        return self.answer(_state(self.subject(server_id, self.asked())))


class AliasAuthStatus(AliasAuthState):
    operations = {
        "get": Operation(
            "alias_auth_status", "As get_connection", TAG, AliasState, query=AliasSubjectQuery, problems=_OF_OTHERS
        )
    }


class AliasAuth(AliasView):
    operations = {
        "put": Operation(
            "alias_set_override",
            "As set_own_key, where a server asks for one value",
            TAG,
            None,
            takes=AliasOverride,
            status=204,
            problems=(*_OF_OTHERS, "key_not_taken", "key_refused", "key_untested"),
        ),
        "delete": Operation(
            "alias_remove_auth",
            "As revoke_connection or remove_own_key",
            TAG,
            None,
            takes=AliasRemoval,
            status=204,
            problems=(*_OF_OTHERS, "key_not_taken"),
        ),
    }

    def put(self, request: Request, server_id: UUID) -> Response:
        taken = self.taken()
        found = self.subject(server_id, taken)
        check_settable(found)
        asked = own_keys.asked_of(found.server)
        if len(asked) != 1:
            raise Problem("key_not_taken", f"{found.server.name} asks for several values: use own-key of /api/v1.")
        set_key(found, {asked[0].name: taken["authOverride"]["headerValue"]}, actor=self.caller.user)
        return Response(status=self.operation.status)

    def delete(self, request: Request, server_id: UUID) -> Response:
        taken = self.taken()
        found = self.subject(server_id, taken)
        actor = self.caller.user.get_username()
        if taken["authSource"] == "auth-override":
            check_settable(found)
            remove_key(found, actor=actor)
        else:
            rows = Connection.objects.select_related("server__tenant", "server__auth_config", "client__tenant", "user")
            connection = rows.filter(user=found.user, server=found.server).first()
            if connection is not None:
                connections.revoke(connection, actor=actor)
        return Response(status=self.operation.status)


def _names_in(text: str) -> set[str] | None:
    """The names that a filter asks for, None for all; raises ValidationError."""
    if not text:
        return None
    names: set[str] | None = None
    try:
        parsed = from_json(text.encode())
        if parsed["op"] != "and":
            raise ValueError("only and")
        for one in parsed["values"]:
            if one["field"] != "name" or one["op"] not in ("EQUAL", "IN"):
                raise ValueError("only names")
            wanted = {str(name) for name in (one["values"] if one["op"] == "IN" else [one["value"]])}
            names = wanted if names is None else names & wanted
    except (ValueError, KeyError, TypeError) as error:
        text = 'Write {"op": "and", "values": [{"field": "name", "op": "EQUAL", "value": "…"}]}, or "IN" with "values".'
        raise serializers.ValidationError({"filter": [text]}) from error
    return names


def _shown(server: Server, *, overridable: bool) -> dict[str, Any]:
    kind = "virtual" if server.is_virtual else "remote"
    return {
        "id": server.pk,
        "fqn": f"{server.tenant.slug}:mcp-server:{server.slug}",
        "tenantName": server.tenant.slug,
        "manifest": {"type": f"mcp-server/{kind}", "name": server.slug, "description": server.description},
        "proxyUrl": server.mcp_url,
        "isAuthOverrideSupported": overridable,
        "createdAt": server.created_at,
        "updatedAt": server.updated_at,
    }


def _state(subject: Subject) -> dict[str, Any]:
    members = [one for one in reached_by(subject.user, subject.server) if one.enabled and _asks_for_something(one)]
    missing = [one.missing for one in members if one.missing is not None]
    if missing:
        return {"status": "authentication_required", "reason": missing[0].sentence}
    return {"status": "authenticated" if members else "authentication_not_required"}


def _asks_for_something(member: MyMember) -> bool:
    return member.personal or member.missing is not None
