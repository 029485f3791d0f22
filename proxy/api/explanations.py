"""Why can't I? Every step of the decision about one person and one server. Thin; the rules are in
`authflows.explain`."""

from __future__ import annotations

from rest_framework.request import Request
from rest_framework.response import Response

from authflows.explain import explain, nothing_here
from authflows.explaining import questions
from authflows.explaining.steps import Explanation, Reader
from authflows.inbound.api_servers import managed_server
from proxy.api.operations import ApiView, Operation
from proxy.api.problems import Problem
from proxy.api.shapes import ExplanationShape, WhyQuery
from servers.items import ItemKey, ItemKind
from servers.scope import scope_of


class Why(ApiView):
    operations = {
        "get": Operation(
            "explain_access",
            "Why I cannot: every step of the decision, and what to do",
            "Access",
            ExplanationShape,
            query=WhyQuery,
            problems=("not_manager", "unknown_person"),
            text="Steps after the one that refuses are `not_reached`. A server that does not exist and one that you "
            "may not know of read the same. With `person`, a manager asks about somebody else.",
        )
    }

    def get(self, request: Request, tenant: str, slug: str) -> Response:
        asked = self.asked()
        item = (ItemKind.TOOL, asked["tool"]) if "tool" in asked else None
        client, person = asked.get("client", ""), asked.get("person")
        if person in (None, self.caller.user.get_username()):
            return self.answer(self._about_me(tenant, slug, item=item, client=client))
        server = managed_server(self.caller, tenant=tenant, slug=slug)
        if server is None:
            raise Problem("not_manager")
        scope, limited = scope_of(self.caller.user), self.caller.principal.limited_to is not None
        somebody = questions.askable(scope).filter(username=person).first()
        if somebody is None:
            raise Problem("unknown_person")
        return self.answer(explain(somebody, server, item=item, client=client, reader=Reader(scope, limited)))

    def _about_me(self, tenant: str, slug: str, *, item: ItemKey | None, client: str) -> Explanation:
        user, typed = self.caller.user, f"{tenant}/{slug}"
        server = questions.mine(user, typed)
        # A key for other servers learns nothing of this one.
        if server is None or not self.caller.may_reach(server.pk):
            return nothing_here(user, typed)
        reader = Reader(limited=self.caller.principal.limited_to is not None)
        return explain(user, server, item=item, client=client, reader=reader)
