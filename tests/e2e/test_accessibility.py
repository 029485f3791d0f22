"""Every page that links lead to, found by following them: for assistive technology, in both themes, at three widths."""

from __future__ import annotations

from collections import deque

import pytest
from django.conf import settings
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from authflows.inbound import api_keys
from authflows.inbound.oauth import approvals
from authflows.inbound.virtual_accounts import create_virtual_account
from servers.models import AccessRule, AuthConfig, PrivateDestination, Role, Server
from servers.models.virtual import VirtualMember
from servers.secrets.store import set_secret
from tests.conftest import Cast
from tests.e2e import test_catalogue_pages, test_portal_pages, test_virtual_pages
from tests.e2e.conftest import Window
from tests.e2e.test_portal_pages import sign_in
from tests.support import page_rules
from tests.support.gateway import LiveGateway
from tests.support.ide import make_client

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.requirement("F-601"),
]

MOST_QUERIES = 20
NO_PAGES = {"admin:logout", "admin:jsi18n", "admin:autocomplete", "admin:view_on_site", "sign-out"}


def furnish(cast: Cast, *, for_portal: bool) -> None:
    """Something on every list, so that there is a row to open."""
    if for_portal:
        test_portal_pages.fill_the_gateway(cast)
    else:
        test_virtual_pages.group_with_servers(cast)
        test_catalogue_pages.fill(cast)
        add_rows_of_every_kind(cast)
    servers = list(Server.objects.filter(tenant=cast.tenant)[:2])
    virtual = Server.objects.create(tenant=cast.tenant, slug="all", name="Everything", kind=Server.Kind.VIRTUAL)
    AuthConfig.objects.create(server=virtual)
    for place, server in enumerate(servers):
        VirtualMember.objects.create(virtual=virtual, server=server, position=place, alias=server.slug)
    for person, role in ((cast.member, Role.USER), (cast.manager, Role.MANAGER)):
        AccessRule.objects.create(server=virtual, user=person, role=role)


def add_rows_of_every_kind(cast: Cast) -> None:
    """Keys, clients, approvals, secrets, calls: what the admin has lists of."""
    create_virtual_account(tenant=cast.tenant, name="nightly", description="", actor="admin")
    PrivateDestination.objects.create(host="intern.example.com", port=443)
    api_keys.create_key(owner=cast.member, name="Editor", actor="member", servers=[cast.server])
    approvals.approve(cast.member, make_client(name="Cursor"), cast.server, redirect_host="127.0.0.1")
    set_secret(tenant=cast.tenant, group="wiki", key="token", value="a secret", actor="admin")
    AccessRule.objects.get_or_create(server=cast.server, user=cast.admin, defaults={"role": Role.MANAGER})


def walk(window: Window, origin: str, start: str, below: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Follow links, one page of each kind, and judge every page; the paths seen, and what is wrong with which."""
    page, paths, wrong = window.page, [], []
    waiting, seen = deque([(page_rules.view_of(start), origin + start)]), set()
    while waiting:
        view, url = waiting.popleft()
        if view is None or view in seen | NO_PAGES or "export" in view:
            continue
        seen.add(view)
        response = page.goto(url)
        assert response is not None
        if "text/html" not in response.headers.get("content-type", ""):
            continue
        waiting.extend(page_rules.linked_pages(page, origin=origin, below=below))
        path, size = url.removeprefix(origin), page_rules.size_of(response.text())
        paths.append(path)
        found = [f"{size} bytes"] if size > page_rules.MOST_BYTES else []
        wrong += [f"{path}: {finding}" for finding in found + page_rules.judged(page)]
    return paths, wrong


def too_many_queries(person: object, paths: list[str]) -> dict[str, int]:
    """The pages that ask the database more often than a page may, session and sign-in counted."""
    client, found = Client(), {}
    client.force_login(person, backend=settings.AUTHENTICATION_BACKENDS[0])  # type: ignore[arg-type]
    # Before a deletion, Django asks once for each kind of row that would go too.
    for path in (path for path in paths if "/delete/" not in path):
        with CaptureQueriesContext(connection) as asked:
            client.get(path)
        if len(asked) > MOST_QUERIES:
            found[path] = len(asked)
    return found


@pytest.mark.parametrize(
    ("person", "start", "below", "least"),
    [
        ("member", "/portal/", ("/portal/", "/connect/"), 10),
        ("manager", "/admin/", ("/admin/",), 15),
        ("admin", "/admin/", ("/admin/",), 30),
    ],
    ids=["portal", "admin-of-a-manager", "admin-of-everything"],
)
def test_every_page_keeps_the_rules_of_pages(
    gateway: LiveGateway, cast: Cast, window: Window, person: str, start: str, below: tuple[str, ...], least: int
) -> None:
    furnish(cast, for_portal=person == "member")
    window.page.add_init_script(page_rules.WATCH_SHIFTS)
    sign_in(window.page, gateway.origin, person)
    paths, wrong = walk(window, gateway.origin, start, below)
    assert len(paths) >= least, paths
    assert not wrong, "\n".join(wrong)
    assert too_many_queries(getattr(cast, person), paths) == {}
