"""What installed clients are known to send and to insist on, request by request."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from servers.models import Server
from tests.conftest import Cast, allow_private
from tests.interop.sign_in.wire import CALLBACK, LIST_TOOLS, TIMEOUT, HttpBrowser, WireClient, parameters_of
from tests.support.gateway import LiveGateway
from tests.support.process_gateway import ProcessGateway
from tests.support.processes import Peer

CURSOR = [
    "cursor://anysphere.cursor-mcp/oauth/callback",
    "https://www.cursor.com/agents/mcp/oauth/callback",
    "http://localhost:8787/callback",
]
VS_CODE = [
    "https://insiders.vscode.dev/redirect",
    "https://vscode.dev/redirect",
    "http://127.0.0.1/",
    "http://127.0.0.1:33418/",
]


@pytest.fixture
def client(gateway: LiveGateway, mcp_url: str) -> WireClient:
    """A client that has registered."""
    client = WireClient(gateway.origin, mcp_url)
    assert client.register().status_code == 201
    return client


@pytest.fixture
def person(gateway: LiveGateway, sample: Server) -> Iterator[HttpBrowser]:
    """The browser of `member`."""
    with HttpBrowser(gateway.origin) as browser:
        yield browser


@pytest.mark.requirement("F-201")
def test_without_state_there_is_none_in_the_answer(client: WireClient, person: HttpBrowser) -> None:
    back = person.decide(client.authorization_url(state=None))

    assert sorted(parameters_of(back)) == ["code", "iss"]
    assert client.exchange(back).status_code == 200


@pytest.mark.requirement("F-201")
@pytest.mark.parametrize("length", [2048, 4096])
def test_a_state_that_is_a_whole_url_comes_back_as_it_was(client: WireClient, person: HttpBrowser, length: int) -> None:
    state = ("http://127.0.0.1:33418/?way=ü+ /" + "&windowId=1&nonce=YWJj%3D%3D" * 200)[:length]

    back = person.decide(client.authorization_url(state=state))

    assert parameters_of(back)["state"] == state


@pytest.mark.requirement("F-201", "F-204")
@pytest.mark.parametrize("prompt", ["consent", "consent select_account"])
def test_a_client_may_want_the_person_asked_again(client: WireClient, person: HttpBrowser, prompt: str) -> None:
    client.sign_in(person)
    silently = person.open(client.authorization_url())
    assert silently.is_redirect

    back = person.decide(client.authorization_url(prompt=prompt))

    assert client.exchange(back).status_code == 200


@pytest.mark.requirement("F-201")
def test_a_look_at_the_authorization_url_without_cookies_spoils_nothing(
    client: WireClient, person: HttpBrowser
) -> None:
    url = client.authorization_url()
    looked = requests.get(url, allow_redirects=False, timeout=TIMEOUT)

    assert looked.status_code in (302, 303)
    back = person.decide(url)
    assert client.exchange(back).status_code == 200


@pytest.mark.requirement("F-202", "AZ-8")
def test_the_redirect_uris_of_cursor_are_registered_without_the_private_one(
    client: WireClient, person: HttpBrowser
) -> None:
    answer = client.register(client_name="Cursor", redirect_uris=CURSOR)

    assert answer.status_code == 201
    assert answer.json()["redirect_uris"] == CURSOR[1:]
    back = person.decide(client.authorization_url(redirect_uri="http://localhost:8787/callback"))
    assert back.startswith("http://localhost:8787/callback?code=")


@pytest.mark.requirement("F-202", "AZ-8")
def test_the_registration_of_vs_code_is_taken_with_its_grant_types_and_unknown_fields(
    client: WireClient, person: HttpBrowser
) -> None:
    answer = client.register(
        client_name="Visual Studio Code",
        redirect_uris=VS_CODE,
        grant_types=["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"],
        application_type="native",
        code_challenge_method="S256",
        software_version={"any": ["thing"]},
    )

    assert answer.status_code == 201
    assert answer.json()["redirect_uris"] == VS_CODE
    assert answer.json()["grant_types"] == ["authorization_code", "refresh_token"]
    for redirect_uri in (VS_CODE[1], "http://127.0.0.1:51234/"):
        back = person.decide(client.authorization_url(redirect_uri=redirect_uri, prompt="consent"))
        assert back.startswith(f"{redirect_uri}?code=")


@pytest.mark.requirement("F-202")
def test_a_client_that_registers_with_little_is_taken(gateway: LiveGateway, mcp_url: str) -> None:
    least = requests.post(f"{gateway.origin}/register", json={"redirect_uris": [CALLBACK]}, timeout=TIMEOUT)
    nothing = requests.post(f"{gateway.origin}/register", json={"redirect_uris": []}, timeout=TIMEOUT)

    assert least.status_code == 201
    assert (nothing.status_code, nothing.json()["error"]) == (400, "invalid_redirect_uri")


@pytest.mark.requirement("F-201", "RS-6")
def test_a_client_that_names_no_scope_gets_the_one_that_is_enough(client: WireClient, person: HttpBrowser) -> None:
    tokens = client.sign_in(person, scope=None)

    assert tokens["scope"] == "mcp"
    assert client.status_of_call(tokens["access_token"]) == 200


@pytest.mark.requirement("F-205")
@pytest.mark.parametrize("asked", ["mcp", "mcp offline_access"])
def test_staying_signed_in_may_be_asked_for_again_on_refresh(
    client: WireClient, person: HttpBrowser, gateway: LiveGateway, asked: str
) -> None:
    document = requests.get(f"{gateway.origin}/.well-known/oauth-authorization-server", timeout=TIMEOUT).json()
    every = " ".join(document["scopes_supported"])
    assert every == "mcp offline_access"

    tokens = client.sign_in(person, scope=asked)
    assert tokens["scope"] == asked
    again = client.refresh(tokens["refresh_token"], scope=every, resource=client.mcp_url)

    assert again.status_code == 200, again.text
    assert client.status_of_call(again.json()["access_token"]) == 200


@pytest.mark.requirement("F-205")
def test_two_refreshes_with_one_token_at_the_same_moment_get_one_answer(
    client: WireClient, person: HttpBrowser
) -> None:
    tokens = client.sign_in(person)

    with ThreadPoolExecutor(2) as windows:
        answers = list(windows.map(lambda _: client.refresh(tokens["refresh_token"]), range(2)))

    assert [answer.status_code for answer in answers] == [200, 200]
    first, second = (answer.json() for answer in answers)
    assert first["access_token"] == second["access_token"]
    assert first["refresh_token"] == second["refresh_token"] != tokens["refresh_token"]
    assert client.status_of_call(first["access_token"]) == 200
    assert client.refresh(first["refresh_token"]).status_code == 200


@pytest.mark.requirement("F-205")
def test_a_dead_refresh_token_is_an_invalid_grant_and_tokens_hold_at_least_ten_minutes(
    client: WireClient, person: HttpBrowser
) -> None:
    tokens = client.sign_in(person)
    gone = client.refresh(tokens["refresh_token"][:-1] + "~")

    assert tokens["expires_in"] >= 600
    assert tokens["token_type"] == "Bearer"
    assert (gone.status_code, gone.json()["error"]) == (400, "invalid_grant")


@pytest.mark.slow
@pytest.mark.requirement("F-202", "F-205")
def test_registrations_and_sign_ins_outlive_a_restart(cast: Cast, calculator: Peer, transactional_db: None) -> None:
    allow_private(calculator.url)
    Server.objects.filter(pk=cast.server.pk).update(url=calculator.url)
    with ProcessGateway() as before:
        mcp_url = f"{before.origin}/{cast.tenant.slug}/mcp/{cast.server.slug}/server"
        client = WireClient(before.origin, mcp_url)
        with HttpBrowser(before.origin) as person:
            tokens = client.sign_in(person)
            pending = client.authorization_url(prompt="consent")
            page = person.open(pending).url

            before.__exit__(None, None, None)
            with ProcessGateway(port=before.port):
                assert client.status_of_call(tokens["access_token"]) == 200
                again = client.refresh(tokens["refresh_token"])
                assert again.status_code == 200, again.text
                assert client.status_of_call(again.json()["access_token"]) == 200
                # The person had the approval page open all the while.
                back = person.decide(page)
                assert client.exchange(back).status_code == 200


VERSIONS = [None, "2024-11-05", "2025-11-25", "2026-07-28", "not-a-version"]


@pytest.mark.requirement("RS-5", "RS-3")
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE"])
@pytest.mark.parametrize("version", VERSIONS)
def test_whatever_is_asked_without_a_credential_is_challenged(
    gateway: LiveGateway, mcp_url: str, method: str, version: str | None
) -> None:
    headers = {"MCP-Protocol-Version": version} if version else {}

    answer = requests.request(method, mcp_url, json=LIST_TOOLS, headers=headers, timeout=TIMEOUT)

    assert answer.status_code == 401
    document = mcp_url.replace(gateway.origin, f"{gateway.origin}/.well-known/oauth-protected-resource")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
    assert f'resource_metadata="{document}"' in answer.headers["WWW-Authenticate"]
    assert requests.get(document, timeout=TIMEOUT).json()["resource"] == mcp_url


@pytest.mark.requirement("RS-2", "AZ-2")
def test_the_issuer_is_the_same_text_in_every_document(gateway: LiveGateway, mcp_url: str) -> None:
    well_known = f"{gateway.origin}/.well-known"
    resource = requests.get(mcp_url.replace(gateway.origin, f"{well_known}/oauth-protected-resource"), timeout=TIMEOUT)
    documents = [
        requests.get(f"{well_known}/{name}", timeout=TIMEOUT)
        for name in ("oauth-authorization-server", "openid-configuration")
    ]

    assert resource.json()["authorization_servers"] == [gateway.origin]
    assert [document.json()["issuer"] for document in documents] == [gateway.origin] * 2
    assert [document.json()["authorization_response_iss_parameter_supported"] for document in documents] == [True] * 2
    assert requests.get(f"{well_known}/anything", allow_redirects=False, timeout=TIMEOUT).status_code == 404


@pytest.mark.requirement("AZ-2")
@pytest.mark.parametrize("path", ["token", "register", "revoke", "authorize"])
def test_a_slash_at_the_end_changes_nothing(gateway: LiveGateway, client: WireClient, path: str) -> None:
    def answer(address: str) -> tuple[int, bytes]:
        if path == "authorize":
            found = requests.get(address, allow_redirects=False, timeout=TIMEOUT)
        elif path == "register":
            found = requests.post(address, json={"redirect_uris": "x"}, allow_redirects=False, timeout=TIMEOUT)
        else:
            found = requests.post(address, data={"client_id": client.client_id}, allow_redirects=False, timeout=TIMEOUT)
        return found.status_code, found.headers["Content-Type"].encode() + found.content

    with_slash, without = answer(f"{gateway.origin}/{path}/"), answer(f"{gateway.origin}/{path}")

    assert with_slash[0] == without[0] == 400
    if path != "authorize":
        assert with_slash[1] == without[1]


@pytest.mark.requirement("AZ-5")
@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"resource": None}, "invalid_target"),
        ({"resource": "https://elsewhere.example/mcp"}, "invalid_target"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"prompt": "none"}, "login_required"),
    ],
)
def test_every_error_that_goes_to_the_client_says_from_whom(
    client: WireClient, changes: dict[str, str | None], error: str
) -> None:
    answer = requests.get(client.authorization_url(**changes), allow_redirects=False, timeout=TIMEOUT)

    assert answer.headers["Location"].startswith(f"{CALLBACK}?")
    told = parameters_of(answer.headers["Location"])
    assert (told["error"], told["iss"], told["state"]) == (error, client.origin, "s-1")


@pytest.mark.requirement("AZ-5", "F-204")
def test_yes_and_no_say_from_whom_and_no_can_be_followed_by_yes(client: WireClient, person: HttpBrowser) -> None:
    no = parameters_of(person.decide(client.authorization_url(), "deny"))
    yes = parameters_of(person.decide(client.authorization_url(state="s-2")))

    assert (no["error"], no["iss"], no["state"]) == ("access_denied", client.origin, "s-1")
    assert sorted(yes) == ["code", "iss", "state"]
    assert (yes["iss"], yes["state"]) == (client.origin, "s-2")
