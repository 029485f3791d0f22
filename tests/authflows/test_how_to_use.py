"""How To Use: every snippet is in its client's own form, holds the exact URL, and a key only where one was made."""

from __future__ import annotations

import ast
import base64
import html
import json
import re
import shlex
import subprocess
import tomllib
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from django.test import Client

from authflows.inbound import bearer
from authflows.inbound.how_to_use import Guide, Target, methods
from authflows.models import ApiKey
from servers.models import AccessRule, Server
from tests.authflows.test_portal_keys import KEY, opens
from tests.conftest import Cast
from tests.support.node import find_node, leave_out

pytestmark = pytest.mark.requirement("F-601")

URL = "https://gw.example.com/default/mcp/calculator/server"
KEY_URL = "https://gw.example.com/default/mcp/calculator/key"
TARGET = Target(name="calculator", url=URL, key_url=KEY_URL)
A_KEY = "ghk_abcdefgh_" + "k" * 43
IN_EVERY_METHOD = {
    "cursor", "claude-code", "vs-code", "claude-desktop", "codex", "gemini-cli", "windsurf", "zed", "jetbrains",
    "opencode", "copilot-cli", "python", "typescript",
}  # fmt: skip


def guides(method: str, key: str | None = None) -> dict[str, Guide]:
    found = {one.id: one for one in methods(TARGET, key=key)}[method]
    return {guide.id: guide for guide in found.guides}


def texts(guide: Guide) -> list[str]:
    return [step.text for step in guide.steps if step.text]


def as_json(guide: Guide) -> Any:
    """The one JSON snippet of a guide."""
    (text,) = [text for text in texts(guide) if text.startswith("{")]
    return json.loads(text)


def words(guide: Guide, program: str) -> list[str]:
    """The command of a guide as a shell takes it apart."""
    (text,) = [text for text in texts(guide) if text.startswith(f"{program} ") and " add" in text]
    return shlex.split(text.replace("\\\n", " "))


def test_every_client_has_a_guide_for_both_methods_and_curl_for_keys() -> None:
    assert set(guides("sign-in")) == IN_EVERY_METHOD
    assert set(guides("key")) == IN_EVERY_METHOD | {"curl"}
    assert [method.title for method in methods(TARGET)] == ["Sign in (recommended)", "With a key"]


@pytest.mark.parametrize("key", [None, A_KEY])
def test_every_guide_names_the_exact_url_and_no_other(key: str | None) -> None:
    for method in methods(TARGET, key=key):
        for guide in method.guides:
            ours = set(re.findall(r"https://gw\.example\.com[^\s\"'`)]*", "\n".join(texts(guide))))
            assert ours == {KEY_URL if (guide.id, method.id) == ("cursor", "key") else URL}, guide.id


def test_signing_in_needs_nothing_but_the_url() -> None:
    for guide in guides("sign-in").values():
        assert "bearer" not in "\n".join(texts(guide)).lower(), guide.id
        assert "GATEHOUSE_KEY" not in str(guide)


def test_a_made_key_stands_in_every_guide_for_keys_and_in_no_link() -> None:
    for guide in guides("key", A_KEY).values():
        assert A_KEY in "\n".join(texts(guide)), guide.id
        for link in guide.links:
            decoded = unquote(unquote(link.href))
            assert A_KEY not in decoded
            for part in re.findall(r"config=([^&]+)", decoded):
                assert A_KEY not in base64.b64decode(part).decode()
    for guide in guides("sign-in", A_KEY).values():
        assert A_KEY not in str(guide)


def test_without_a_key_there_is_a_place_for_one() -> None:
    for guide in guides("key").values():
        assert "ghk_" not in str(guide)
        assert "<key>" in str(guide) or "GATEHOUSE_KEY" in str(guide) or "${input:" in str(guide), guide.id


@pytest.mark.parametrize(
    ("client", "sign_in", "with_key"),
    [
        (
            "cursor",
            {"mcpServers": {"calculator": {"url": URL}}},
            {"mcpServers": {"calculator": {"url": KEY_URL, "headers": {"Authorization": f"Bearer {A_KEY}"}}}},
        ),
        (
            "windsurf",
            {"mcpServers": {"calculator": {"serverUrl": URL}}},
            {"mcpServers": {"calculator": {"serverUrl": URL, "headers": {"Authorization": f"Bearer {A_KEY}"}}}},
        ),
        (
            "zed",
            {"context_servers": {"calculator": {"url": URL}}},
            {"context_servers": {"calculator": {"url": URL, "headers": {"Authorization": f"Bearer {A_KEY}"}}}},
        ),
        (
            "opencode",
            {"mcp": {"calculator": {"type": "remote", "url": URL, "enabled": True}}},
            {
                "mcp": {
                    "calculator": {
                        "type": "remote",
                        "url": URL,
                        "oauth": False,
                        "headers": {"Authorization": "Bearer {env:GATEHOUSE_KEY}"},
                    }
                }
            },
        ),
    ],
)
def test_files_of_editors_are_in_the_editors_own_form(
    client: str, sign_in: dict[str, Any], with_key: dict[str, Any]
) -> None:
    assert as_json(guides("sign-in")[client]) == sign_in
    assert as_json(guides("key", A_KEY)[client]) == with_key


@pytest.mark.parametrize("client", ["claude-desktop", "jetbrains"])
def test_clients_that_start_programs_get_the_bridge(client: str) -> None:
    entry = as_json(guides("sign-in")[client])["mcpServers"]["calculator"]
    assert entry == {"command": "npx", "args": ["-y", "mcp-remote", URL]}
    entry = as_json(guides("key", A_KEY)[client])["mcpServers"]["calculator"]
    # Its arguments are split at spaces by some clients, so the value travels in the environment.
    assert entry["args"] == ["-y", "mcp-remote", URL, "--header", "Authorization:${AUTH_HEADER}"]
    assert entry["env"] == {"AUTH_HEADER": f"Bearer {A_KEY}"}
    assert not [word for word in entry["args"] if " " in word]


def test_the_file_of_vs_code_asks_for_the_key() -> None:
    assert as_json(guides("sign-in")["vs-code"]) == {"servers": {"calculator": {"type": "http", "url": URL}}}
    code = as_json(guides("key", A_KEY)["vs-code"])
    assert code["servers"]["calculator"]["headers"] == {"Authorization": "Bearer ${input:gatehouse-key}"}
    assert code["inputs"] == [
        {"type": "promptString", "id": "gatehouse-key", "description": "Gatehouse API key", "password": True}
    ]


def test_the_links_of_cursor_hold_the_entry_of_its_file() -> None:
    for method in ("sign-in", "key"):
        guide = guides(method)["cursor"]
        for link in guide.links:
            parts = urlsplit(link.href)
            assert (parts.scheme, parts.netloc, parts.path) in (
                ("cursor", "anysphere.cursor-deeplink", "/mcp/install"),
                ("https", "cursor.com", "/en/install-mcp"),
            )
            query = parse_qs(parts.query, strict_parsing=True)
            assert query["name"] == ["calculator"]
            (config,) = query["config"]
            assert json.loads(base64.b64decode(config)) == as_json(guide)["mcpServers"]["calculator"]


def test_the_links_of_vs_code_hold_the_entry_of_its_file() -> None:
    for method in ("sign-in", "key"):
        guide = guides(method)["vs-code"]
        code = as_json(guide)
        wanted = {"name": "calculator", **code["servers"]["calculator"]}
        if method == "key":
            wanted["inputs"] = code["inputs"]
        plain, insiders, web = (link.href for link in guide.links)
        assert plain.startswith("vscode:mcp/install?")
        assert insiders == plain.replace("vscode:", "vscode-insiders:", 1)
        assert json.loads(unquote(plain.partition("?")[2])) == wanted
        assert web.startswith("https://vscode.dev/redirect?")
        assert parse_qs(urlsplit(web).query) == {"url": [plain]}


def test_odd_names_cannot_break_out_of_links_and_files() -> None:
    target = Target(name="a-1", url="http://127.0.0.1:8000/t/mcp/a-1/server?&\"'", key_url="http://127.0.0.1:8000/k")
    for method in methods(target):
        for guide in method.guides:
            for link in guide.links:
                assert re.fullmatch(r"[\w:/?&=.%~-]+", link.href), link.href
            for text in texts(guide):
                if text.startswith("{"):
                    json.loads(text)


def test_commands_are_what_the_clients_take() -> None:
    header = "Authorization: Bearer $GATEHOUSE_KEY"
    claude = ["claude", "mcp", "add", "--transport", "http", "calculator", URL]
    assert words(guides("sign-in")["claude-code"], "claude") == claude
    assert words(guides("key")["claude-code"], "claude") == [*claude, "--header", header]
    codex = ["codex", "mcp", "add", "calculator", "--url", URL]
    assert words(guides("sign-in")["codex"], "codex") == codex
    assert words(guides("key")["codex"], "codex") == [*codex, "--bearer-token-env-var", "GATEHOUSE_KEY"]
    gemini = ["gemini", "mcp", "add", "-s", "user", "-t", "http", "calculator", URL]
    assert words(guides("sign-in")["gemini-cli"], "gemini") == gemini
    assert words(guides("key")["gemini-cli"], "gemini") == [*gemini, "-H", header]
    copilot = ["copilot", "mcp", "add", "--transport", "http", "calculator", URL]
    assert words(guides("sign-in")["copilot-cli"], "copilot") == copilot
    assert words(guides("key")["copilot-cli"], "copilot") == [*copilot, "--header", header]


def test_the_table_of_codex_is_toml() -> None:
    (text,) = [text for text in texts(guides("key")["codex"]) if text.startswith("[")]
    entry = {"url": URL, "bearer_token_env_var": "GATEHOUSE_KEY"}
    assert tomllib.loads(text) == {"mcp_servers": {"calculator": entry}}


def test_shared_files_of_claude_code_keep_the_variable_even_when_a_key_was_made() -> None:
    entry = as_json(guides("key", A_KEY)["claude-code"])["mcpServers"]["calculator"]
    assert entry["headers"] == {"Authorization": "Bearer ${GATEHOUSE_KEY}"}


def test_the_python_programs_compile() -> None:
    for method in ("sign-in", "key"):
        ast.parse(texts(guides(method)["python"])[-1])


@pytest.mark.node
def test_the_javascript_programs_compile(tmp_path: Any) -> None:
    node = find_node()
    if node is None:
        leave_out("Node is not here")
    for method in ("sign-in", "key"):
        program = tmp_path / f"{method}.mjs"
        program.write_text(texts(guides(method)["typescript"])[-1])
        done = subprocess.run([node[0], "--check", program], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr


# --- the page


@pytest.fixture
def member(client: Client, cast: Cast) -> Client:
    client.force_login(cast.member)
    return client


PAGE = "/portal/servers/default/calculator/"


def form(member: Client) -> dict[str, str]:
    found = re.search(r'name="form_id" value="([^"]+)"', member.get(PAGE).content.decode())
    assert found
    return {"form_id": found[1], "name": "laptop", "lifetime": "90"}


@pytest.mark.django_db
def test_the_page_shows_the_exact_url_and_a_guide_for_each_client_and_no_key(member: Client) -> None:
    text = html.unescape(member.get(PAGE).content.decode())
    url = "http://127.0.0.1:8000/default/mcp/calculator/server"
    assert f"claude mcp add --transport http calculator {url}\n" in text.replace("</pre>", "\n")
    for client in ("Cursor", "Claude Code", "VS Code", "Claude Desktop", "Codex", "Gemini CLI", "Windsurf", "Zed",
                   "JetBrains", "opencode", "Copilot CLI", "Python", "TypeScript", "curl"):  # fmt: skip
        assert f'data-tab="{client}"' in text
    assert 'href="cursor://anysphere.cursor-deeplink/mcp/install?' in text
    assert 'href="vscode:mcp/install?' in text
    assert "http://127.0.0.1:8000/default/mcp/calculator/key" in text
    assert not KEY.search(text)


@pytest.mark.django_db
@pytest.mark.requirement("F-206")
def test_a_key_made_on_the_page_is_shown_once_in_its_snippets_and_opens_this_server_alone(
    member: Client, cast: Cast
) -> None:
    fields = form(member)
    answer = member.post(PAGE, fields)
    text = html.unescape(answer.content.decode())
    assert 'data-open="key"' in text
    assert "no-store" in answer["Cache-Control"]
    (token,) = set(KEY.findall(text))
    assert text.count(token) > 10
    principal = opens(token)
    assert not isinstance(principal, bearer.Unauthenticated)
    assert principal.limited_to == {cast.server.pk}
    again = member.post(PAGE, fields, follow=True).content.decode()
    assert "was made already" in again
    for page in (again, member.get(PAGE).content.decode(), member.get("/portal/access/").content.decode()):
        assert token not in page
    assert ApiKey.objects.count() == 1


@pytest.mark.django_db
def test_a_key_form_that_is_not_right_says_so_on_the_page(member: Client) -> None:
    for fields, said in (
        ({"name": ""}, "This field is required"),
        ({"lifetime": "1000"}, "Select a valid choice"),
        ({"form_id": "made-up"}, "open for too long"),
    ):
        answer = member.post(PAGE, form(member) | fields)
        assert said in answer.content.decode()
        assert not ApiKey.objects.exists()


@pytest.mark.django_db
def test_nobody_makes_a_key_on_the_page_of_a_server_that_they_may_not_use(client: Client, cast: Cast) -> None:
    client.force_login(cast.member)
    fields = form(client)
    AccessRule.objects.all().delete()
    assert client.post(PAGE, fields).status_code == 404
    client.force_login(cast.outsider)
    assert client.post(PAGE, fields).status_code == 404
    assert not ApiKey.objects.exists()
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(cast.manager)
    assert browser.post(PAGE, fields).status_code == 403


@pytest.mark.django_db
@pytest.mark.requirement("F-606")
def test_each_trouble_has_one_next_step(member: Client) -> None:
    text = member.get(PAGE).content.decode()
    troubles = text.partition("When something goes wrong")[2]
    pairs = re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", troubles)
    assert len(pairs) >= 5
    said = dict(pairs)
    assert "Sign in again" in said["The client says that it is signed out"]
    assert "once more" in said["I pressed Deny by accident"]
    assert "/portal/access/" in said["It worked, and stopped"]


@pytest.mark.django_db
@pytest.mark.requirement("T25")
def test_a_name_with_markup_is_text_on_the_page(member: Client, cast: Cast) -> None:
    Server.objects.filter(pk=cast.server.pk).update(name='"><img src=x>')
    for answer in (member.get(PAGE), member.post(PAGE, form(member) | {"name": '"><img src=x>'})):
        assert "<img" not in answer.content.decode()
