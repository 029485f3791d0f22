"""What is asked on the two pages: which server, what of it, by which client."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.auth import get_user_model
from django.db.models import Q, QuerySet

from authflows.explaining.places import LONGEST, place_in, server_at
from authflows.inbound import my_servers
from servers.items import ItemKey, ItemKind
from servers.models import Membership, Server
from servers.scope import Scope

_KINDS = [(kind.value, kind.label) for kind in (ItemKind.TOOL, ItemKind.PROMPT, ItemKind.RESOURCE)]


class QuestionForm(forms.Form):
    """The fields of the portal's page. Nothing is changed by it, so it is sent with GET and can be linked."""

    server = forms.CharField(max_length=LONGEST)
    kind = forms.ChoiceField(choices=_KINDS, required=False, initial=ItemKind.TOOL)
    item = forms.CharField(max_length=LONGEST, required=False)
    client = forms.CharField(max_length=200, required=False)

    def __init__(self, data: Any, **options: Any) -> None:
        # `tool` is what links say: shorter, and what is asked nearly always.
        given = {name: data.get(name, "") for name in ("server", "kind", "item", "client", "person")}
        given["item"] = given["item"] or data.get("tool", "")
        given["kind"] = given["kind"] or ItemKind.TOOL.value
        super().__init__(given, **options)

    @property
    def item_asked(self) -> ItemKey | None:
        """Kind and name, where one was entered."""
        name = self.cleaned_data.get("item", "")
        return (ItemKind(self.cleaned_data["kind"]), name) if name else None


class AdminQuestionForm(QuestionForm):
    """The same with the person."""

    person = forms.CharField(max_length=200)


def mine(person: Any, text: str) -> Server | None:
    """The server that the person means, where they may know of it: one of theirs, or one they can ask for."""
    place = place_in(text)
    if place is None:
        wanted = text.strip().casefold()
        named = (one.server for one in my_servers.servers_of(person))
        return next((server for server in named if wanted in (server.slug, server.name.casefold())), None)
    found = my_servers.server_of(person, tenant_slug=place.tenant, slug=place.slug)
    if found is not None:
        return found.server
    server = server_at(place)
    if server is None or not server.requestable:
        return None
    return server if Membership.objects.filter(user=person, tenant=server.tenant_id).exists() else None


def administered(scope: Scope, text: str) -> Server | None:
    """The server that an admin or manager means, among those that they administer."""
    rows = scope.visible_servers().select_related("tenant", "group", "auth_config")
    place = place_in(text)
    if place is not None:
        return rows.filter(tenant__slug=place.tenant, slug=place.slug).first()
    return rows.filter(Q(slug=text.strip()) | Q(name__iexact=text.strip())).order_by("name").first()


def askable(scope: Scope) -> QuerySet[Any]:
    """The people and virtual accounts that an admin or manager may ask about, those switched off too."""
    people = get_user_model()._default_manager.all()
    if not scope.superuser:
        people = people.filter(memberships__tenant__in=scope.reached_tenants).distinct()
    return people.order_by("username")
