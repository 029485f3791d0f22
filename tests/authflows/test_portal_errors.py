"""Pages for when something does not work: what happened, and one next step."""

from __future__ import annotations

import pytest
from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse
from django.template.loader import get_template
from django.test import Client, override_settings
from django.urls import include, path

from tests.conftest import Cast


def broken(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("canary-internal-detail")


def malformed(request: HttpRequest) -> HttpResponse:
    raise BadRequest("canary-internal-detail")


urlpatterns = [
    path("broken/", broken),
    path("malformed/", malformed),
    path("", include("gateway_project.urls")),
]


@pytest.mark.parametrize("name", ["400", "403", "403_csrf", "404", "500"])
def test_an_error_page_needs_no_database_and_offers_one_next_step(name: str) -> None:
    text = get_template(f"{name}.html").render()
    assert text.count('class="button main"') == 1
    assert "<h1>" in text


@pytest.mark.django_db
@override_settings(ROOT_URLCONF="tests.authflows.test_portal_errors")
def test_an_error_of_ours_shows_no_detail(cast: Cast) -> None:
    client = Client(raise_request_exception=False)
    client.force_login(cast.member)
    for url, status in (("/broken/", 500), ("/malformed/", 400)):
        response = client.get(url)
        assert response.status_code == status
        assert "canary" not in response.content.decode()
        assert response["X-Request-Id"]
        assert "default-src 'self'" in response["Content-Security-Policy"]


@pytest.mark.django_db
def test_an_unknown_page_is_a_404_for_strangers_too(client: Client) -> None:
    response = client.get("/absent/")
    assert response.status_code == 404
    assert "There is nothing here" in response.content.decode()
