"""Requests as clients and browsers write them, without any client library in between."""

from __future__ import annotations

import base64
import hashlib
import re
import urllib.parse
from dataclasses import dataclass
from typing import Any

import requests

from tests.conftest import PASSWORD

VERIFIER = "of-a-test-and-long-enough-for-the-specification-of-pkce"
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("=")
CALLBACK = "http://127.0.0.1:33418/callback"
LIST_TOOLS = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
TIMEOUT = 20


class HttpBrowser:
    """A browser without scripts: cookies, forms, and redirects as far as the gateway's own pages go."""

    def __init__(self, origin: str, *, person: str = "member") -> None:
        self._origin = origin
        self._person = person
        self._session = requests.Session()

    def __enter__(self) -> HttpBrowser:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def open(self, url: str) -> requests.Response:
        """Open a URL and follow redirects, signing in on the way. The last answer: a page, or a redirect elsewhere."""
        answer = self._follow(self._session.get(url, allow_redirects=False, timeout=TIMEOUT))
        if 'name="password"' in answer.text:
            answer = self._follow(self._send(answer, username=self._person, password=PASSWORD))
        return answer

    def decide(self, url: str, decision: str = "approve") -> str:
        """Open an authorization URL, decide on the approval page; returns the URL that the client gets."""
        page = self.open(url)
        assert page.status_code == 200, f"{page.status_code}: {page.headers} {page.text}"
        assert 'name="decision"' in page.text, page.text
        return self._send(page, decision=decision).headers["Location"]

    def _send(self, page: requests.Response, **fields: str) -> requests.Response:
        """Send the form of a page, with what it hides."""
        hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page.text))
        hidden = {name: value.replace("&amp;", "&") for name, value in hidden.items()}
        headers = {"Origin": self._origin}
        return self._session.post(
            page.url, data={**hidden, **fields}, headers=headers, allow_redirects=False, timeout=TIMEOUT
        )

    def _follow(self, answer: requests.Response) -> requests.Response:
        while answer.is_redirect:
            target = urllib.parse.urljoin(answer.url, answer.headers["Location"])
            if not target.startswith(f"{self._origin}/"):
                break
            answer = self._session.get(target, allow_redirects=False, timeout=TIMEOUT)
        return answer


@dataclass
class WireClient:
    """A client that knows an MCP URL; what it asks can be changed in each request."""

    origin: str
    mcp_url: str
    client_id: str = ""

    def register(self, **changes: Any) -> requests.Response:
        """Register, and go by the id that comes back. `None` leaves a field out."""
        metadata = {
            "client_name": "Wire",
            "redirect_uris": [CALLBACK],
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            "token_endpoint_auth_method": "none",
        } | changes
        asked = {name: value for name, value in metadata.items() if value is not None}
        answer = requests.post(f"{self.origin}/register", json=asked, allow_redirects=False, timeout=TIMEOUT)
        if answer.status_code == 201:
            self.client_id = answer.json()["client_id"]
        return answer

    def authorization_url(self, **changes: str | None) -> str:
        """Where it sends the browser. `None` leaves a parameter out."""
        parameters = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": CALLBACK,
            "state": "s-1",
            "scope": "mcp",
            "code_challenge": CHALLENGE,
            "code_challenge_method": "S256",
            "resource": self.mcp_url,
        } | changes
        return f"{self.origin}/authorize?" + urllib.parse.urlencode(
            {name: value for name, value in parameters.items() if value is not None}
        )

    def exchange(self, back: str, **changes: str) -> requests.Response:
        """Exchange the code of the URL that the browser came back with."""
        return self.token(
            grant_type="authorization_code",
            code=parameters_of(back)["code"],
            redirect_uri=CALLBACK,
            code_verifier=VERIFIER,
            resource=self.mcp_url,
            **changes,
        )

    def refresh(self, refresh_token: str, **changes: str) -> requests.Response:
        """Refresh."""
        return self.token(grant_type="refresh_token", refresh_token=refresh_token, **changes)

    def token(self, **parameters: str) -> requests.Response:
        """A request to the token endpoint."""
        asked = {"client_id": self.client_id, **parameters}
        return requests.post(f"{self.origin}/token", data=asked, allow_redirects=False, timeout=TIMEOUT)

    def sign_in(self, browser: HttpBrowser, **changes: str | None) -> dict[str, Any]:
        """Register if need be, sign in, be approved; returns the token answer."""
        if not self.client_id:
            assert self.register().status_code == 201
        answer = self.exchange(browser.decide(self.authorization_url(**changes)))
        assert answer.status_code == 200, answer.text
        tokens: dict[str, Any] = answer.json()
        return tokens

    def status_of_call(self, access_token: str) -> int:
        """The status of listing the tools with an access token."""
        headers = {"Authorization": f"Bearer {access_token}", "Accept": "application/json, text/event-stream"}
        return requests.post(self.mcp_url, json=LIST_TOOLS, headers=headers, timeout=TIMEOUT).status_code


def parameters_of(url: str) -> dict[str, str]:
    """The query parameters of a URL, none of which may be there twice."""
    found = urllib.parse.parse_qsl(urllib.parse.urlsplit(url).query, keep_blank_values=True)
    assert len(found) == len(dict(found)), url
    return dict(found)
