"""When catalogues are taken: with Test connection, after saving what was tested, and in rounds while nobody calls."""

from __future__ import annotations

import threading
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.urls import reverse
from django.utils import timezone

from authflows.outbound import own_keys
from proxy.catalogue_rounds import read_due
from servers.catalogue import reading_now
from servers.catalogue.due import claim, due
from servers.catalogue.facts import catalogue_of
from servers.models import AccessRule, AuditEvent, AuthConfig, Catalogue, Role, Server
from servers.own_header import CleanValue
from tests.conftest import Cast, allow_private
from tests.proxy.test_connection_pages import draft, headers, saved
from tests.servers.test_admin_access import form_data, signed_in
from tests.support.keyed_server import GOOD, make_server, vault, with_config
from tests.support.mcp_upstream import calculator, requiring, serving
from tests.support.processes import free_port
from tests.support.upstream import Answer, Request, Upstream, mcp_server
from tests.support.virtual import add_server, set_catalogue, tool, virtual_server

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.requirement("F-804")]


def served(server: Server) -> list[str]:
    return [key for _, key in catalogue_of(server.pk).texts]


def press(person: Any, server: Server) -> str:
    """Test connection of a saved server; what the results page says."""
    answer = signed_in(person).post(reverse("test-connection", args=[server.pk]))
    assert answer.status_code == 200
    return answer.content.decode()


def test_the_test_of_a_saved_server_takes_its_catalogue(cast: Cast) -> None:
    with serving(calculator()) as url:
        allow_private(url)
        Server.objects.filter(pk=cast.server.pk).update(url=url)
        press(cast.manager, cast.server)
    assert served(cast.server) == ["add", "subtract"]
    server = Server.objects.get(pk=cast.server.pk)
    assert (server.health, server.eras) == ("ok", Server.Eras.DUAL)
    assert [row.actor for row in AuditEvent.objects.filter(action="catalogue:take")] == ["manager"]


def test_so_does_the_test_on_its_page_while_nothing_is_changed_there(cast: Cast) -> None:
    with serving(calculator()) as url:
        allow_private(url)
        Server.objects.filter(pk=cast.server.pk).update(url=url)
        server = Server.objects.get(pk=cast.server.pk)
        draft(cast.manager, form_data(server, server_id=str(server.pk), description="Another text."))
        assert not Catalogue.objects.exists()
        draft(cast.manager, form_data(server, server_id=str(server.pk)))
    assert served(cast.server) == ["add", "subtract"]


def test_the_test_says_what_waits_and_what_is_suddenly_empty(cast: Cast) -> None:
    with Upstream(mcp_server) as upstream:
        allow_private(upstream.url)
        Server.objects.filter(pk=cast.server.pk).update(url=upstream.url)
        set_catalogue(cast.server, {"tool": [tool("other")]}, policy=Catalogue.Policy.HOLD_ALL)
        assert "1 new or changed item waits for approval." in press(cast.manager, cast.server)
        set_catalogue(cast.server, {"tool": [tool("echo")], "prompt": [{"name": "greet"}]})
        assert "It suddenly offers no prompts." in press(cast.manager, cast.server)


def test_a_failed_test_is_a_failed_reading_and_the_last_copy_stays(cast: Cast) -> None:
    set_catalogue(cast.server, {"tool": [tool("add")]})
    allow_private(f"http://127.0.0.1:{(port := free_port())}/mcp")
    Server.objects.filter(pk=cast.server.pk).update(url=f"http://127.0.0.1:{port}/mcp")
    assert "refused the connection" in press(cast.manager, cast.server)
    assert served(cast.server) == ["add"]
    assert Catalogue.objects.get(server=cast.server).failure == "connect"


def test_a_testers_own_key_adds_and_takes_nothing_away(cast: Cast) -> None:
    with vault() as upstream:
        server = make_server(cast, upstream.url)
        AccessRule.objects.update_or_create(server=server, user=cast.member, defaults={"role": Role.MANAGER})
        set_catalogue(server, {"tool": [tool("of-others")]})
        press(cast.member, server)
        assert served(server) == ["of-others"], "a test without a key reads nothing"
        values = {"API_KEY": CleanValue(GOOD)}
        own_keys.enter(user=cast.member, server=with_config(server), values=values, actor=cast.member)
        press(cast.member, server)
        assert served(server) == ["of-others", "add", "subtract"]
        upstream.keys.clear()
        press(cast.member, server)
    assert Catalogue.objects.get(server=server).failure == "", "that one key is refused says nothing of the server"


def test_saving_what_was_tested_takes_the_catalogue_with_the_saved_credential(cast: Cast) -> None:
    with serving(requiring(calculator(), "X-Key", "k")) as url:
        allow_private(url)
        good = form_data(url=url) | headers(("X-Key", "k", ""))
        server = saved(cast.admin, good, draft(cast.admin, good).json()["note"])
        untested = saved(cast.admin, good | {"slug": "untested", "name": "Untested"}, "")
    assert served(server) == ["add", "subtract"]
    assert [row.actor for row in AuditEvent.objects.filter(action="catalogue:take")] == ["admin"]
    assert not Catalogue.objects.filter(server=untested).exists()


def test_a_reading_after_saving_that_fails_inside_costs_nothing_of_what_was_saved(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError("no disk")

    monkeypatch.setattr(reading_now, "_after_saving", [fails])
    with serving(calculator()) as url:
        allow_private(url)
        good = form_data(url=url)
        assert saved(cast.admin, good, draft(cast.admin, good).json()["note"]).health == "ok"


# Rounds


def other_methods(cast: Cast, url: str) -> list[Server]:
    made = []
    for method in ("oauth2", "own_header", "passthrough", "token_exchange"):
        server = add_server(cast, method.replace("_", "-"), url)
        AuthConfig.objects.filter(server=server).update(method=method)
        made.append(server)
    return made


def test_a_round_reads_what_all_callers_share_and_nothing_else(cast: Cast) -> None:
    with Upstream(mcp_server) as upstream:
        shared = add_server(cast, "shared", upstream.url)
        other_methods(cast, upstream.url)
        add_server(cast, "disabled", upstream.url, enabled=False)
        virtual_server(cast, (shared, "a"))
        cast.server.delete()
        done = read_due(timezone.now())
    assert (done.read, done.failed) == (1, 0)
    assert served(shared) == ["echo"]
    assert set(Catalogue.objects.values_list("server__slug", flat=True)) == {"shared"}


def test_a_round_reads_only_what_is_old_and_the_oldest_first(cast: Cast) -> None:
    now, age = timezone.now(), timedelta(minutes=15)
    fresh, old, older = (add_server(cast, slug, "http://127.0.0.1:9/mcp") for slug in ("fresh", "old", "older"))
    for server, hours in ((fresh, 0), (old, 1), (older, 2)):
        then = now - timedelta(hours=hours)
        Catalogue.objects.create(server=server, taken_at=then, tried_at=then)
    assert due(now, older_than=age, most=10) == [cast.server.pk, older.pk, old.pk]
    assert due(now, older_than=age, most=2) == [cast.server.pk, older.pk]
    # One that failed a moment ago is not tried again at once.
    Catalogue.objects.filter(server=old).update(tried_at=now)
    assert old.pk not in due(now, older_than=age, most=10)


def test_of_several_processes_one_reads(cast: Cast) -> None:
    now, age = timezone.now(), timedelta(minutes=15)
    assert [claim(cast.server.pk, now, older_than=age) for _ in range(3)] == [True, False, False]
    assert claim(cast.server.pk, now + age, older_than=age)
    cast.server.delete()
    assert not claim(cast.server.pk, now, older_than=age)


def test_a_server_that_fails_costs_the_others_nothing(cast: Cast) -> None:
    with Upstream(mcp_server) as upstream:
        servers = [add_server(cast, f"server-{n}", upstream.url) for n in range(6)]
        done = read_due(timezone.now())
    assert (done.read, done.failed) == (6, 1)
    assert all(served(server) == ["echo"] for server in servers)
    failed = Catalogue.objects.get(server=cast.server)
    assert (failed.failure, failed.taken_at) == ("address", None)


def test_a_round_ends_soon_after_it_is_told_to(cast: Cast) -> None:
    stop = threading.Event()

    def script(request: Request) -> Answer:
        stop.set()
        return mcp_server(request)

    with Upstream(script) as upstream:
        for n in range(20):
            add_server(cast, f"server-{n}", upstream.url)
        done = read_due(timezone.now(), stop=stop)
    assert done.read + done.failed <= 5, done


def test_a_secret_that_is_not_there_is_the_reason_that_is_kept(cast: Cast) -> None:
    config = AuthConfig.objects.get(server=cast.server)
    config.method = "shared_header"
    config.set_header_templates([("X-Key", "secret://default:no:where")])
    config.save()
    done = read_due(timezone.now())
    assert (done.read, done.failed) == (0, 1)
    catalogue = Catalogue.objects.get(server=cast.server)
    assert (catalogue.failure, "no secret secret://default:no:where" in catalogue.failure_sentence) == (
        "authentication",
        True,
    )


def test_maintain_reads_catalogues(cast: Cast) -> None:
    with Upstream(mcp_server) as upstream:
        allow_private(upstream.url)
        Server.objects.filter(pk=cast.server.pk).update(url=upstream.url)
        out = StringIO()
        call_command("maintain", "--once", stdout=out)
    assert "catalogues: 1 read, 0 could not be" in out.getvalue()
    assert served(cast.server) == ["echo"]
