"""Fills an empty database with a small organisation, for pictures: people, servers in several states, a week of calls.

`python -m scripts.sample_house` in the environment of a gateway that has migrated. Never for a real one.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

import django
from django.utils import timezone

ADMIN: Final = "ada"
PASSWORD: Final = "a picture says it all"
SEED: Final = 7
WEEK: Final = timedelta(days=7)
WIKI: Final = ("search_pages", "read_page", "write_page")
TICKETS: Final = ("search_tickets", "answer_ticket")
# Slug, name, method, state, description, whether people may ask for it, tools.
SERVERS: Final = (
    ("wiki", "Wiki", "none", "ok", "Pages of the internal wiki.", False, WIKI),
    ("tickets", "Tickets", "own_header", "ok", "Tickets of the support desk: search, read, write.", False, TICKETS),
    ("orders", "Orders", "none", "failing", "Orders of the web shop, read only.", False, ("find_order",)),
    ("people", "People directory", "none", "ok", "Who works where, and how to reach them.", True, ("find_person",)),
)  # fmt: skip


def main() -> None:
    """Make all of it."""
    django.setup()
    from django.contrib.auth import get_user_model
    from django.contrib.auth.models import Group

    from authflows.inbound import api_keys
    from authflows.inbound.oauth import approvals
    from authflows.models import OAuthClient
    from servers.models import AccessRule, AuthConfig, Role, Server, ServerGroup
    from servers.tenancy import default_tenant

    tenant, people = default_tenant(), get_user_model().objects
    ada = people.create_superuser(ADMIN, f"{ADMIN}@example.com", PASSWORD)
    team = Group.objects.create(name="Support")
    for name in ("grace", "alan", "katherine"):
        team.user_set.add(people.create_user(name, f"{name}@example.com", PASSWORD))
    group = ServerGroup.objects.create(tenant=tenant, slug="office", name="Office")
    calculator = Server.objects.get(slug="calculator")
    AccessRule.objects.create(server=calculator, user=ada, role=Role.MANAGER)
    AccessRule.objects.create(server=calculator, team=team, role=Role.USER)
    made = [calculator]
    for slug, name, method, health, description, requestable, tools in SERVERS:
        server = Server.objects.create(
            tenant=tenant, group=group, slug=slug, name=name, url=f"https://{slug}.example.com/mcp", health=health,
            health_at=timezone.now() - timedelta(minutes=20), description=description, requestable=requestable,
        )  # fmt: skip
        headers = (
            {"headers": [{"name": "Authorization", "value": "Bearer {{API_KEY}}"}]} if method == "own_header" else {}
        )
        AuthConfig.objects.create(server=server, method=method, settings=headers)
        offer(server, tools)
        if not requestable:
            AccessRule.objects.create(server=server, user=ada, role=Role.MANAGER)
            AccessRule.objects.create(server=server, team=team, role=Role.USER)
            made.append(server)
    api_keys.create_key(owner=ada, name="Nightly report", actor=ADMIN, servers=[calculator])
    client = OAuthClient.objects.create(
        name="Claude Code", redirect_uris="http://127.0.0.1:33418/callback", client_type=OAuthClient.CLIENT_PUBLIC,
        authorization_grant_type=OAuthClient.GRANT_AUTHORIZATION_CODE,
        registration_source=OAuthClient.RegistrationSource.DCR, metadata_digest="1" * 64, verified=True,
    )  # fmt: skip
    approvals.approve(ada, client, calculator, redirect_host="127.0.0.1")
    remember_calls(made, [ada, *team.user_set.all()])


def offer(server: Any, tools: Sequence[str]) -> None:
    """A catalogue as a reading would have left it."""
    from servers.models import Catalogue, CatalogueItem

    now = timezone.now()
    catalogue = Catalogue.objects.create(server=server, taken_at=now, tried_at=now)
    for position, name in enumerate(tools):
        words = name.replace("_", " ").capitalize()
        text = json.dumps({"name": name, "title": words, "description": f"{words}.", "inputSchema": {"type": "object"}})
        CatalogueItem.objects.create(
            catalogue=catalogue, kind=CatalogueItem.Kind.TOOL, key=name, position=position, approved=text, offered=text,
            state=CatalogueItem.State.APPROVED, read_only=not name.startswith(("write", "answer")),
        )  # fmt: skip


def remember_calls(servers: Sequence[Any], people: Sequence[Any]) -> None:
    """A week of calls, more of them by day than by night, a few of which failed."""
    from servers.models import Call

    dice, now, rows = random.Random(SEED), timezone.now(), []
    tools = {slug: names for slug, *_, names in SERVERS} | {"calculator": ("add", "multiply", "divide")}
    for number in range(2400):
        at = now - WEEK * dice.random()
        if not 7 <= at.hour <= 18 and dice.random() < 0.8:
            continue
        server, person = dice.choice(servers), dice.choice(people)
        failed = dice.random() < (0.3 if server.slug == "orders" else 0.02)
        rows.append(Call(
            at=at, request_id=f"sample-{number}", tenant=server.tenant.slug, server=server.slug, server_id=server.pk,
            principal=person.get_username(), user_id=person.pk, credential="oauth", client="Claude Code",
            http_method="POST", method="tools/call", item=dice.choice(tools[server.slug]),
            protocol_version="2026-07-28", decision="allowed", status=502 if failed else 200,
            upstream_status=502 if failed else 200, outcome="upstream_connect" if failed else "ok", bytes_in=240,
            bytes_out=dice.randint(120, 9000), milliseconds=int(dice.lognormvariate(4.2, 0.8)),
        ))  # fmt: skip
    Call.objects.bulk_create(rows, batch_size=500)


if __name__ == "__main__":
    main()
