"""An OAuth client (an IDE) as tests play it: asks for a code, redeems it, refreshes."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from django.test import Client

from authflows.inbound.oauth import approvals
from authflows.models import Approval, OAuthClient
from servers.models import Server

REDIRECT_URI = "http://127.0.0.1:33418/callback"
VERIFIER = "v" * 64
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()


@dataclass
class Reply:
    """What an endpoint answered."""

    status: int
    headers: Mapping[str, str]
    content: Any

    @property
    def error(self) -> str:
        return str(self.content["error"])


Post = Callable[[str, Sequence[tuple[str, str]], Mapping[str, str]], Reply]


def post_in_process(path: str, form: Sequence[tuple[str, str]], headers: Mapping[str, str]) -> Reply:
    """Through Django alone."""
    response = Client(enforce_csrf_checks=True).post(
        path, urlencode(form), content_type="application/x-www-form-urlencoded", headers=dict(headers)
    )
    return Reply(response.status_code, response.headers, json.loads(response.content) if response.content else None)


def post_to(port: int) -> Post:
    """Over a socket to a gateway on `port`."""

    def post(path: str, form: Sequence[tuple[str, str]], headers: Mapping[str, str]) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        connection.request("POST", path, urlencode(form), {**kind, **headers})
        response = connection.getresponse()
        body = response.read()
        connection.close()
        return Reply(response.status, dict(response.getheaders()), json.loads(body) if body else None)

    return post


def make_client(**fields: Any) -> OAuthClient:
    """A registered public client; `fields` are of its row."""
    client: OAuthClient = OAuthClient.objects.create(
        **{
            "name": "IDE",
            "redirect_uris": REDIRECT_URI,
            "client_type": OAuthClient.CLIENT_PUBLIC,
            "authorization_grant_type": OAuthClient.GRANT_AUTHORIZATION_CODE,
            "registration_source": OAuthClient.RegistrationSource.DCR,
            "metadata_digest": "1" * 64,
        }
        | fields
    )
    return client


@dataclass
class Ide:
    """One installation of a client, used by `user` for `server`; None: for the Gateway API."""

    client: OAuthClient
    user: Any
    server: Server | None
    resource: str
    post: Post = post_in_process
    headers: dict[str, str] = field(default_factory=dict)

    def approve(self) -> Approval:
        """What the approval page does."""
        return approvals.approve(self.user, self.client, self.server, redirect_host="127.0.0.1")

    def code(self, **changes: Any) -> str:
        """A code, through /authorize with an approval that is remembered."""
        self.approve()
        browser = Client()
        browser.force_login(self.user)
        parameters = {
            "response_type": "code",
            "client_id": self.client.client_id,
            "redirect_uri": REDIRECT_URI,
            "scope": "mcp",
            "code_challenge": CHALLENGE,
            "code_challenge_method": "S256",
            "resource": self.resource,
        } | changes
        response = browser.get(f"/authorize?{urlencode(parameters)}")
        answer = parse_qs(urlsplit(response.headers["Location"]).query)
        return answer["code"][0]

    def redeem(self, code: str, /, **changes: Any) -> Reply:
        """Exchange a code; None leaves a parameter out, a list sends it several times."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": REDIRECT_URI,
            "client_id": self.client.client_id,
            "code_verifier": VERIFIER,
            "resource": self.resource,
        }
        return self.send("/token", form | changes)

    def refresh(self, refresh_token: str, /, **changes: Any) -> Reply:
        """Exchange a refresh token; changes as in `redeem`."""
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token, "client_id": self.client.client_id}
        return self.send("/token", form | {"resource": self.resource} | changes)

    def revoke(self, token: str, /, **changes: Any) -> Reply:
        """Give a token back."""
        return self.send("/revoke", {"token": token, "client_id": self.client.client_id} | changes)

    def sign_in(self, **changes: Any) -> dict[str, Any]:
        """The whole trip; returns the token endpoint's answer."""
        reply = self.redeem(self.code(**changes))
        assert reply.status == 200, reply
        content: dict[str, Any] = reply.content
        return content

    def send(self, path: str, form: Mapping[str, Any]) -> Reply:
        """Post a form."""
        pairs = [
            (name, str(value))
            for name, values in form.items()
            for value in (values if isinstance(values, list) else [values])
            if value is not None
        ]
        return self.post(path, pairs, self.headers)
