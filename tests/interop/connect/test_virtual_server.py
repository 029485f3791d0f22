"""One URL for a No Auth, a shared-key, an own-key and an OAuth member, used by real clients from sign-in to revoke."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from playwright.sync_api import expect

from servers.models import AuthConfig, Server
from servers.secrets import store
from tests.conftest import Cast
from tests.interop.connect.person import ConnectingPerson
from tests.interop.sign_in.programs import Program
from tests.support import keyed_server
from tests.support.gateway import LiveGateway
from tests.support.keyed_server import GOOD, Vault, vault
from tests.support.mcp_upstream import calculator, legacy_only, requiring, serving
from tests.support.protected_upstream import ProtectedUpstream
from tests.support.virtual import add_server, set_catalogue, tool, virtual_server

pytestmark = [pytest.mark.node, pytest.mark.browser, pytest.mark.slow]

SUMS = {"tool": [tool("add"), tool("subtract")]}
SHARED = "canary-shared-key"
Start = Callable[..., Program]


@pytest.fixture
def running() -> Iterator[tuple[str, str, Vault]]:
    """A server without authentication that speaks the old protocol only, one with a shared key, one with own keys."""
    with (
        serving(legacy_only(calculator())) as plain,
        serving(requiring(calculator(), "Authorization", f"Bearer {SHARED}")) as keyed,
        vault() as found,
    ):
        yield plain, keyed, found


@pytest.fixture
def office(cast: Cast, notebook: Server, running: tuple[str, str, Vault]) -> Server:
    """The virtual server of the four."""
    plain, keyed, found = running
    sums = add_server(cast, "sums", plain, eras="legacy")
    desk = add_server(cast, "desk", keyed, eras="dual")
    store.set_secret(tenant=cast.tenant, group="servers", key="desk", value=SHARED, actor="admin")
    desk.auth_config.set_header_templates([("Authorization", f"Bearer secret://{cast.tenant.slug}:servers:desk")])
    desk.auth_config.method = AuthConfig.Method.SHARED_HEADER
    desk.auth_config.save()
    safe = keyed_server.make_server(cast, found.url, API_KEY="Personal access token")
    for server in (sums, desk, safe):
        set_catalogue(server, SUMS)
    set_catalogue(notebook, {"tool": [tool("whoami"), tool("add")]})
    return virtual_server(cast, (sums, "sums"), (desk, "desk"), (safe, "vault"), (notebook, "notes"), slug="office")


def through_the_members(member: ConnectingPerson, url: str) -> None:
    """What the person does in the browser that a client opened: approve, enter the key, connect the account."""
    page = member.page
    member.press(url, "Approve")
    expect(page.get_by_text("0 of 2 done")).to_be_visible()
    page.get_by_role("link", name="Enter key for Vault").click()
    page.get_by_label("Personal access token").fill(GOOD)
    page.get_by_role("button", name="Test and go on").click()
    expect(page.get_by_text("1 of 2 done")).to_be_visible()
    page.get_by_role("button", name="Connect Notebook").click()
    member.allow("ada")
    page.wait_for_url(lambda reached: not reached.startswith(member.origins))


@pytest.mark.requirement("F-605", "F-201", "F-302", "F-304", "F-308", "F-314", "F-702")
@pytest.mark.parametrize("name", ["Python SDK 2", "TypeScript SDK 2"])
def test_a_client_with_one_url_uses_four_servers_each_with_its_own_credential(
    name: str,
    start: Start,
    gateway: LiveGateway,
    office: Server,
    member: ConnectingPerson,
    running: tuple[str, str, Vault],
    upstream: ProtectedUpstream,
) -> None:
    program = start(name, {"url": gateway.mcp_url(office)})
    program.do("connect", partial(through_the_members, member))
    assert program.do("call", tool="notes__whoami") == "1001"
    for alias in ("sums", "desk", "vault"):
        assert program.do("call", tool=f"{alias}__add", a=40, b=2) == "42"
    _, _, keys = running
    assert set(keys.seen) <= {f"Bearer {GOOD}"}
    assert upstream.refused == []

    member.revoke("Notebook")
    answer = str(program.do("call", tool="notes__whoami"))
    link = re.search(rf"{re.escape(gateway.origin)}/connect/[^\s\"]+", answer)
    assert link, answer
    # The others work on.
    assert program.do("call", tool="desk__add", a=1, b=2) == "3"
    member.connect_by_link(link[0], "ada")
    assert program.do("call", tool="notes__whoami") == "1001"
