"""Asking for access to a server, and answering as its manager. Thin; the rules are in `servers.access_requests`."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from rest_framework.request import Request
from rest_framework.response import Response

from proxy.api.operations import ApiView, Operation, PageQuery
from proxy.api.problems import Problem
from proxy.api.shapes import (
    AccessAnswerTaken,
    AccessRequestQuery,
    AccessRequestShape,
    AccessRequestTaken,
    RequestableShape,
)
from servers import access_requests
from servers.access_requests import HasAccess, NotRequestable, RequestRefused, TooManyRequests
from servers.models import AccessRequest
from servers.scope import scope_of
from servers.usable import usable_by

TAG: Final = "Access"
_DAY: Final = 24 * 3600


class Requestable(ApiView):
    operations = {
        "get": Operation(
            "list_requestable_servers",
            "The servers that I can ask for",
            TAG,
            RequestableShape,
            query=PageQuery,
            paged=True,
        )
    }

    def get(self, request: Request) -> Response:
        principal = self.caller.principal
        mine = {usable.server.pk for usable in usable_by(principal)}
        rows = access_requests.requestable_by(principal).select_related("tenant")
        found = [one for one in rows if one.pk not in mine and self.caller.may_reach(one.pk)]
        return self.page(found, self.asked())


class AccessRequests(ApiView):
    operations = {
        "get": Operation(
            "list_access_requests",
            "My requests, or with `managed` those for the servers that I manage",
            TAG,
            AccessRequestShape,
            query=AccessRequestQuery,
            paged=True,
        ),
        "post": Operation(
            "ask_for_access",
            "Ask for a server",
            TAG,
            AccessRequestShape,
            takes=AccessRequestTaken,
            status=201,
            problems=("unknown_server", "has_access"),
            text="One that waits already is given back as it is.",
        ),
    }

    def get(self, request: Request) -> Response:
        asked = self.asked()
        rows = access_requests.requests_for(scope_of(self.caller.user))
        if not asked["managed"]:
            rows = AccessRequest.objects.select_related("server__tenant", "person").filter(person=self.caller.user)
        if "state" in asked:
            rows = rows.filter(state=asked["state"])
        return self.page([one for one in rows if self.caller.may_reach(one.server_id)], asked)

    def post(self, request: Request) -> Response:
        taken = self.taken()
        if not self.caller.may_reach(taken["server"]):
            raise Problem("unknown_server")
        try:
            made = access_requests.ask(
                self.caller.principal, taken["server"], reason=taken["reason"], days=taken["days"]
            )
        except NotRequestable as error:
            raise Problem("unknown_server", error.public_message) from error
        except HasAccess as error:
            raise Problem("has_access", error.public_message) from error
        except TooManyRequests as error:
            raise Problem("throttled", error.public_message, retry_after=_DAY) from error
        return self.answer(made)


class OneAccessRequest(ApiView):
    operations = {
        "delete": Operation(
            "withdraw_access_request",
            "Take my request back; one that was answered stays as it is",
            TAG,
            AccessRequestShape,
            problems=("not_found",),
        )
    }

    def delete(self, request: Request, request_id: UUID) -> Response:
        found = access_requests.withdraw(request_id, person=self.caller.user)
        if found is None:
            raise Problem("not_found")
        return self.answer(found)


class AccessAnswer(ApiView):
    operations = {
        "post": Operation(
            "answer_access_request",
            "Approve or refuse, as a manager of the server",
            TAG,
            AccessRequestShape,
            takes=AccessAnswerTaken,
            problems=("not_manager", "already_answered"),
        )
    }

    def post(self, request: Request, request_id: UUID) -> Response:
        taken, user = self.taken(), self.caller.user
        found = access_requests.requests_for(scope_of(user)).filter(pk=request_id).first()
        if found is None or not self.caller.may_reach(found.server_id):
            raise Problem("not_manager")
        options: dict[str, Any] = {"person": user, "answer": taken["answer"]}
        try:
            if taken["approve"]:
                access_requests.approve(request_id, days=taken.get("days", found.days), **options)
            else:
                access_requests.refuse(request_id, **options)
        except RequestRefused as error:
            raise Problem("already_answered", error.public_message) from error
        found.refresh_from_db()
        return self.answer(found)
