"""The gallery, a preset's page, and the form that begins with one."""

from __future__ import annotations

import pytest
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext

from servers.models import AuthConfig, PrivateDestination, Server
from servers.presets.library import presets
from tests.conftest import Cast
from tests.servers.test_admin_access import form_data, page, signed_in

pytestmark = [pytest.mark.django_db, pytest.mark.requirement("F-105")]


def test_the_gallery_shows_every_preset_and_finds_them(cast: Cast) -> None:
    client = signed_in(cast.admin)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        answer = client.get(page("servers_server_presets"))
    body = answer.content.decode()
    assert len(queries) <= 20
    assert len(body) < 100 * 1024
    for slug in presets():
        assert page("servers_server_preset", slug) in body
    found = client.get(page("servers_server_presets"), {"q": "deepwiki"}).content.decode()
    assert page("servers_server_preset", "deepwiki") in found
    assert page("servers_server_preset", "github") not in found
    assert (
        "No preset has all of these words" in client.get(page("servers_server_presets"), {"q": "zzz"}).content.decode()
    )


def test_a_preset_that_is_in_use_is_marked_for_those_who_see_the_server(cast: Cast) -> None:
    Server.objects.filter(pk=cast.server.pk).update(preset="github")
    assert "gh-tag-added" in signed_in(cast.admin).get(page("servers_server_presets")).content.decode()


def test_every_preset_page_says_what_to_do_and_where_it_is_from(cast: Cast) -> None:
    client = signed_in(cast.admin)
    for slug, preset in presets().items():
        answer = client.get(page("servers_server_preset", slug))
        body = answer.content.decode()
        assert answer.status_code == 200, slug
        for way in preset.ways:
            assert f"?preset={slug}&amp;way={way.key}" in body
            assert (f"{settings.PUBLIC_URL}/connect/" in body) or not way.needs_app or "callback" in body
        assert preset.sources[0].url.replace("&", "&amp;") in body
        assert "{callback_url}" not in body
    assert client.get(page("servers_server_preset", "no-such")).status_code == 404


def test_only_people_who_may_add_servers_open_the_pages(cast: Cast) -> None:
    for url in (page("servers_server_presets"), page("servers_server_preset", "github")):
        assert signed_in(cast.manager).get(url).status_code == 403
        assert signed_in(cast.outsider).get(url).status_code in (302, 403)


def test_use_this_opens_the_form_filled_in_and_the_server_remembers_its_preset(cast: Cast) -> None:
    client = signed_in(cast.admin)
    url = f"{page('servers_server_add')}?preset=github&way=own-token"
    form = client.get(url)
    body = form.content.decode()
    assert "Filled in from the preset GitHub" in body
    initial = form.context["adminform"].form
    assert initial["url"].value() == "https://api.githubcopilot.com/mcp/"
    assert initial["method"].value() == AuthConfig.Method.OWN_HEADER
    assert "Authorization: Bearer {{GITHUB_TOKEN}}" in body
    PrivateDestination.objects.create(host="127.0.0.1", port=9)
    data = form_data(
        tenant=str(cast.tenant.pk), method="own_header", own_headers="Authorization: Bearer {{GITHUB_TOKEN}}"
    )
    answer = client.post(url, data)
    assert answer.status_code == 302, answer.context["errors"]
    server = Server.objects.get(slug="new-one")
    assert server.preset == "github"
    shown = client.get(page("servers_server_change", server.pk)).content.decode()
    assert "Added from the preset GitHub" in shown
    assert "no dynamic registration" in shown


def test_every_way_of_every_preset_fills_the_form(cast: Cast) -> None:
    client = signed_in(cast.admin)
    for slug, preset in presets().items():
        for way in preset.ways:
            answer = client.get(page("servers_server_add"), {"preset": slug, "way": way.key})
            form = answer.context["adminform"].form
            assert form["method"].value() == way.method, slug
            assert form["url"].value() == (way.url or preset.url)
            if way.scopes:
                assert " ".join(way.scopes) in answer.content.decode().replace("&#x27;", "'")


def test_an_unknown_preset_opens_an_empty_form(cast: Cast) -> None:
    answer = signed_in(cast.admin).get(page("servers_server_add"), {"preset": "no-such"})
    assert answer.status_code == 200
    assert not answer.context["adminform"].form["url"].value()
