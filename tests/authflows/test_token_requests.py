"""Who may ask the token endpoint, in which form, and how often in vain."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote

import pytest
from django.test import Client
from oauth2_provider.models import AccessToken

from authflows.models import OAuthClient
from tests.conftest import Cast
from tests.support.ide import Ide, make_client

pytestmark = pytest.mark.django_db
SECRET = "s3cret: with +%& and ü"


@pytest.fixture
def ide(cast: Cast) -> Ide:
    return Ide(make_client(), cast.member, cast.server, cast.server.mcp_url)


@pytest.fixture
def confidential(cast: Cast) -> Ide:
    client = make_client(client_type=OAuthClient.CLIENT_CONFIDENTIAL, client_secret=SECRET)
    return Ide(client, cast.member, cast.server, cast.server.mcp_url)


def basic(client_id: str, secret: str) -> dict[str, str]:
    encoded = base64.b64encode(f"{quote(client_id, safe='')}:{quote(secret, safe='')}".encode()).decode()
    return {"Authorization": f"Basic {encoded}"}


@pytest.mark.requirement("AZ-1")
def test_a_client_with_a_secret_proves_it_in_header_or_body(confidential: Ide) -> None:
    pair = confidential.redeem(confidential.code(), client_secret=SECRET).content
    confidential.headers = basic(confidential.client.client_id, SECRET)
    assert confidential.refresh(pair["refresh_token"], client_id=None).status == 200
    assert confidential.refresh(pair["refresh_token"]).status == 200, "naming the client again does no harm"


@pytest.mark.requirement("AZ-1", "T8")
@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize(
    ("headers", "changes"),
    [
        ({}, {}),
        ({}, {"client_secret": "wrong"}),
        ({}, {"client_secret": SECRET, "client_id": "unknown"}),
        ({}, {"client_secret": SECRET, "client_id": None}),
        ("wrong", {}),
        ("", {}),
        (SECRET, {"client_secret": SECRET}),
        (SECRET, {"client_id": "unknown"}),
        ({"Authorization": "Basic ???"}, {}),
        ({"Authorization": "Basic " + base64.b64encode(b"no colon").decode()}, {}),
        ({"Authorization": "Basic " + base64.b64encode(b"\xff\xfe:x").decode()}, {}),
        ({"Authorization": "Bearer " + "a" * 40}, {"client_secret": SECRET}),
    ],
)
def test_a_client_that_does_not_prove_its_secret_gets_nothing(
    confidential: Ide, headers: dict[str, str] | str, changes: dict[str, Any], again: bool
) -> None:
    pair = confidential.redeem(confidential.code(), client_secret=SECRET).content
    if again:  # the answer is kept for a repetition, which needs the same proof
        assert confidential.refresh(pair["refresh_token"], client_secret=SECRET).status == 200
    by_header = isinstance(headers, str)
    confidential.headers = basic(confidential.client.client_id, headers) if isinstance(headers, str) else headers
    reply = confidential.refresh(pair["refresh_token"], **changes)
    assert (reply.status, reply.error) == (401, "invalid_client")
    assert ("WWW-Authenticate" in reply.headers) == (by_header or "Authorization" in headers)
    assert "access_token" not in reply.content


def test_a_client_without_a_secret_names_itself(ide: Ide) -> None:
    pair = ide.sign_in()
    assert ide.refresh(pair["refresh_token"], client_id=None).error == "invalid_client"
    assert ide.refresh(pair["refresh_token"], client_secret="anything").error == "invalid_client"
    ide.headers = basic(ide.client.client_id, "")
    assert ide.refresh(pair["refresh_token"], client_id=None).status == 200


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("grant_type", ["refresh_token", "refresh_token"]),
        ("refresh_token", ["a", "b"]),
        ("client_id", ["a", "a"]),
        ("scope", ["mcp", "mcp"]),
        ("refresh_token", "a\0b"),
        ("client_id", "a\0b"),
    ],
)
def test_a_parameter_twice_or_with_nul_is_refused(ide: Ide, name: str, value: Any) -> None:
    reply = ide.refresh("x", **{name: value})
    assert (reply.status, reply.error) == (400, "invalid_request")


def test_what_is_not_a_form_is_refused(client: Client, ide: Ide) -> None:
    form = {"grant_type": "refresh_token", "refresh_token": "x", "client_id": ide.client.client_id}
    encoded = "&".join(f"{name}={value}" for name, value in form.items())
    kind = "application/x-www-form-urlencoded"
    for response in (
        client.post("/token", json.dumps(form), content_type="application/json"),
        client.post("/token", form),
        client.post(f"/token?{encoded}", encoded, content_type=kind),
        client.post("/token", encoded + "&x=" + "y" * 70_000, content_type=kind),
        client.post("/token", encoded + "&x=1" * 60, content_type=kind),
        client.post("/token", encoded.encode() + b"&x=\xff\xfe", content_type=kind),
        client.post("/token", encoded.encode() + b"&x=%ff%fe", content_type=kind),
        client.post("/token", b"", content_type=kind),
    ):
        assert response.status_code == 400
        assert response.json()["error"] == "invalid_request"
        assert response.json()["error_description"]
        assert response.headers["Access-Control-Allow-Origin"] == "*"


def test_unknown_parameters_and_other_kinds_of_charset_are_tolerated(client: Client, ide: Ide) -> None:
    pair = ide.sign_in()
    encoded = f"grant_type=refresh_token&refresh_token={pair['refresh_token']}&client_id={ide.client.client_id}"
    kind = "application/x-www-form-urlencoded;charset=UTF-8"
    response = client.post("/token", f"{encoded}&audience=x&resource=&unknown=", content_type=kind)
    assert response.status_code == 200


@pytest.mark.requirement("T8")
def test_guessing_a_secret_is_slow_and_holds_up_nobody_elsewhere(confidential: Ide) -> None:
    code = confidential.code()
    for _ in range(10):
        assert confidential.redeem(code, client_secret="guess").status == 401
    held = confidential.redeem(code, client_secret=SECRET)
    assert held.status == 429
    assert int(held.headers["Retry-After"]) > 0
    assert not AccessToken.objects.exists()
    elsewhere = Client(REMOTE_ADDR="192.0.2.7").post(
        "/token",
        f"grant_type=refresh_token&refresh_token=x&client_id={confidential.client.client_id}",
        content_type="application/x-www-form-urlencoded",
    )
    assert elsewhere.status_code == 401


def test_an_address_that_fails_all_the_time_has_to_wait(ide: Ide) -> None:
    statuses = [ide.refresh("nothing").status for _ in range(200)]
    assert set(statuses) == {400}, "an office may share an address"
    assert any(ide.refresh("nothing").status == 429 for _ in range(1000))
    assert ide.revoke("nothing").status == 429


def test_good_requests_are_not_counted(ide: Ide) -> None:
    pair = ide.sign_in()
    for _ in range(30):
        reply = ide.refresh(pair["refresh_token"])
        assert reply.status == 200
