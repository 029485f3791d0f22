"""The one-time link that creates the first admin."""

from __future__ import annotations

import io
import logging
import re
import threading
from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.utils import timezone

from authflows.inbound import first_admin
from authflows.models import OneTimeLink
from gateway_project.logging import redact
from servers.audit import Action
from servers.models import AccessRule, AuditEvent, Membership, Role, Server, ServerGroup, Tenant
from servers.tenancy import default_tenant
from tests.conftest import PASSWORD, Cast

pytestmark = pytest.mark.django_db
User = get_user_model()
GOOD = {
    "username": "ada",
    "email": "ada@example.com",
    "password1": "a long enough phrase",
    "password2": "a long enough phrase",
}


@pytest.fixture(autouse=True)
def installed(db: None) -> None:
    """The default tenant, which tests with their own transactions leave emptied behind them."""
    Tenant.objects.get_or_create(slug="default", defaults={"name": "Default"})


def printed(*arguments: str) -> str:
    out = io.StringIO()
    call_command("first_admin_link", *arguments, stdout=out)
    return out.getvalue()


def new_link() -> str:
    return printed("--quiet").strip()


def opened(client: Client) -> Client:
    """A browser that followed a good link to the form."""
    assert client.get(path_of(new_link()))["Location"] == "/setup/"
    return client


def path_of(link: str) -> str:
    return link.removeprefix("http://127.0.0.1:8000")


def test_the_command_prints_a_link_of_256_random_bits_and_stores_only_its_hash() -> None:
    text = printed()
    found = re.search(r"http://127\.0\.0\.1:8000/setup/([A-Za-z0-9_-]{43})\n", text)
    assert found, text
    assert "once" in text
    row = OneTimeLink.objects.get()
    assert found[1] not in str(vars(row))
    assert timedelta(hours=23, minutes=59) < row.expires_at - timezone.now() <= timedelta(hours=24)
    assert found[1] not in str([vars(event) for event in AuditEvent.objects.all()])
    assert AuditEvent.objects.get().action == Action.FIRST_ADMIN_LINK


def test_the_link_makes_an_admin_who_is_signed_in_and_looks_after_what_nobody_manages(client: Client) -> None:
    tenant = default_tenant()
    sample = Server.objects.create(tenant=tenant, slug="sample", name="Sample", url="http://127.0.0.1:9/mcp")
    group = ServerGroup.objects.create(tenant=tenant, slug="kept", name="Kept")
    kept = Server.objects.create(tenant=tenant, slug="kept", name="Kept", url="http://127.0.0.1:9/mcp", group=group)
    other = User.objects.create_user("other", password=PASSWORD)
    AccessRule.objects.create(group=group, user=other, role=Role.MANAGER)

    response = opened(client).post("/setup/", GOOD)
    assert (response.status_code, response["Location"]) == (302, "/admin/")
    ada = User.objects.get(username="ada")
    assert ada.is_superuser
    assert ada.is_staff
    assert ada.email == "ada@example.com"
    assert client.get("/admin/").status_code == 200
    assert Membership.objects.get(user=ada).role == Membership.Role.ADMIN
    assert AccessRule.objects.get(user=ada).server == sample
    assert AccessRule.objects.get(user=ada).role == Role.MANAGER
    assert not AccessRule.objects.filter(server=kept).exists()
    event = AuditEvent.objects.get(action=Action.FIRST_ADMIN_CREATE)
    assert (event.actor, event.detail) == ("ada", {"manager_of": ["sample"]})
    client.logout()
    assert client.login(username="ada", password=GOOD["password1"])


def test_the_token_leaves_the_address_bar_and_no_referrer_tells_it(client: Client) -> None:
    link = new_link()
    response = client.get(path_of(link))
    assert response["Referrer-Policy"] == "no-referrer"
    assert response["Location"] == "/setup/"
    page = client.get("/setup/")
    assert link.rpartition("/")[2] not in page.content.decode()
    assert "no-store" in page["Cache-Control"]


def test_the_form_is_accepted_with_csrf_checks_on() -> None:
    browser = opened(Client(enforce_csrf_checks=True))
    page = browser.get("/setup/").content.decode()
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
    assert token
    assert browser.post("/setup/", GOOD).status_code == 403
    response = browser.post("/setup/", GOOD | {"csrfmiddlewaretoken": token[1]}, HTTP_ORIGIN="http://127.0.0.1:8000")
    assert response.status_code == 302


def test_looking_at_the_link_does_not_use_it_up(client: Client) -> None:
    link = new_link()
    for browser in (Client(), Client(), client):
        assert browser.get(path_of(link))["Location"] == "/setup/"
        assert browser.get("/setup/").status_code == 200
    assert client.post("/setup/", GOOD).status_code == 302


def test_a_used_link_is_gone(client: Client) -> None:
    link = new_link()
    client.get(path_of(link))
    client.post("/setup/", GOOD)
    response = Client().get(path_of(link))
    assert response.status_code == 410
    assert response["Referrer-Policy"] == "no-referrer"
    assert "has its admin" in response.content.decode()


@pytest.mark.parametrize("step", ["before the page", "while the form is open"])
def test_an_expired_link_says_how_to_get_a_new_one(client: Client, step: str) -> None:
    link = new_link()
    if step == "while the form is open":
        client.get(path_of(link))
    OneTimeLink.objects.update(expires_at=timezone.now())
    response = client.post("/setup/", GOOD) if step == "while the form is open" else client.get(path_of(link))
    assert response.status_code == 410
    assert "manage.py first_admin_link" in response.content.decode()
    assert not User.objects.exists()


@pytest.mark.parametrize("path", ["/setup/", "/setup/x", "/setup/" + "A" * 43])
def test_a_wrong_link_says_how_to_get_a_good_one(client: Client, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 404
    assert "manage.py first_admin_link" in response.content.decode()
    assert client.post("/setup/", GOOD).status_code == 404
    assert not User.objects.exists()


def test_a_new_link_ends_the_older_ones(client: Client) -> None:
    older, newer = new_link(), new_link()
    assert Client().get(path_of(older)).status_code == 410
    assert client.get(path_of(newer)).status_code == 302


def test_where_an_admin_exists_the_command_says_so_and_makes_no_link(cast: Cast) -> None:
    assert "An admin exists already" in printed()
    assert printed("--quiet") == ""
    assert not OneTimeLink.objects.exists()


def test_a_switched_off_admin_does_not_count(cast: Cast) -> None:
    User.objects.filter(pk=cast.admin.pk).update(is_active=False)
    assert new_link().startswith("http://127.0.0.1:8000/setup/")


def test_a_link_dies_when_an_admin_was_made_elsewhere(client: Client) -> None:
    opened(client)
    User.objects.create_superuser("elsewhere", password=PASSWORD)
    response = client.post("/setup/", GOOD)
    assert response.status_code == 410
    assert not User.objects.filter(username="ada").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"password1": "short", "password2": "short"},
        {"password1": "ada@example.com", "password2": "ada@example.com"},
        {"password2": "another long phrase"},
        {"email": ""},
        {"username": "a b"},
        {"username": "OTHER"},
    ],
)
def test_a_form_that_is_not_right_makes_nobody_and_keeps_the_link(client: Client, wrong: dict[str, str]) -> None:
    User.objects.create_user("other", password=PASSWORD)
    response = opened(client).post("/setup/", GOOD | wrong)
    assert response.status_code == 200
    assert response.context["form"].errors
    assert User.objects.count() == 1
    assert client.post("/setup/", GOOD).status_code == 302


@pytest.mark.django_db(transaction=True)
def test_two_submits_at_once_make_one_admin() -> None:
    browsers = [Client(), Client()]
    link = path_of(new_link())
    for browser in browsers:
        browser.get(link)
    start, answers = threading.Barrier(2), []

    def submit(browser: Client, name: str) -> None:
        start.wait()
        answers.append(browser.post("/setup/", GOOD | {"username": name}).status_code)
        connection.close()

    threads = [
        threading.Thread(target=submit, args=(browser, name))
        for browser, name in zip(browsers, ("ada", "eve"), strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [302, 410]
    assert User.objects.filter(is_superuser=True).count() == 1
    assert User.objects.count() == 1


def test_the_token_is_struck_out_of_log_lines(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    link = new_link()
    token = link.rpartition("/")[2]
    assert token not in redact(f'"GET {path_of(link)} HTTP/1.1" 302')
    with caplog.at_level(logging.DEBUG):
        client.get(path_of(link))
        client.get(path_of(link)[:-1])
    assert token not in redact(caplog.text)
    assert first_admin.digest_of(token) not in caplog.text
