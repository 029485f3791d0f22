"""Files of clients and of the registry, and what their entries come to."""

from __future__ import annotations

import json
from typing import Any

import pytest

from servers.imports.documents import MOST_CHARACTERS, BadDocument
from servers.imports.entries import Entry, Remote, Unusable
from servers.imports.planning import Outcome, free_slug, plan
from servers.imports.reading import MOST_ENTRIES, entries_of

pytestmark = pytest.mark.requirement("F-112")
SECRET = "ghp_very_secret_value"


def read(document: Any) -> list[Entry]:
    return entries_of(document if isinstance(document, str) else json.dumps(document))


def only(document: Any) -> Remote:
    (entry,) = read(document)
    assert isinstance(entry, Remote), entry
    return entry


def refused(document: Any) -> str:
    (entry,) = read(document)
    assert isinstance(entry, Unusable), entry
    return entry.why


def of(entry: dict[str, Any], key: str = "mcpServers") -> dict[str, Any]:
    return {key: {"tracker": entry}}


@pytest.mark.parametrize(
    "document",
    [
        of({"url": "https://mcp.example.com/mcp"}),
        of({"type": "http", "url": "https://mcp.example.com/mcp"}, "servers"),
        of({"url": "https://mcp.example.com/mcp"}, "context_servers"),
        of({"httpUrl": "https://mcp.example.com/mcp"}),
        of({"serverUrl": "https://mcp.example.com/mcp"}),
        {"mcp": of({"url": "https://mcp.example.com/mcp"}, "servers")},
        {"mcp": {"tracker": {"type": "remote", "url": "https://mcp.example.com/mcp", "enabled": True}}},
        {"tracker": {"url": "https://mcp.example.com/mcp"}},
        of({"command": "npx", "args": ["-y", "mcp-remote", "https://mcp.example.com/mcp"]}),
        of({"command": "cmd", "args": ["/c", "npx", "-y", "mcp-remote@latest", "https://mcp.example.com/mcp", "3334"]}),
        of({"command": {"path": "npx", "args": ["mcp-remote", "https://mcp.example.com/mcp"]}}, "context_servers"),
        of({"type": "local", "command": ["npx", "-y", "mcp-remote", "https://mcp.example.com/mcp"]}),
        of({"command": "npx -y mcp-remote https://mcp.example.com/mcp --transport http-only"}),
    ],
    ids=lambda document: "",
)
def test_a_remote_server_is_found_however_a_client_writes_it(document: dict[str, Any]) -> None:
    entry = only(document)
    assert (entry.name, entry.url) == ("tracker", "https://mcp.example.com/mcp")


def test_an_entry_without_a_name_is_named_after_its_host() -> None:
    assert only({"url": "https://mcp.example.com/mcp"}).name == "mcp.example.com"


def test_comments_and_trailing_commas_of_editors_are_read() -> None:
    text = """// mine
    {"servers": { /* all of them */
      "one": {"url": "https://one.example/mcp", "headers": {"X-Note": "a // b, /* c */ }"},},
    },}"""
    entry = only(text)
    assert entry.headers[0][1].filled({}) == "a // b, /* c */ }"


@pytest.mark.parametrize(
    ("value", "missing"),
    [
        ("Bearer ${GITHUB_TOKEN}", ["GITHUB_TOKEN"]),
        ("Bearer ${env:GITHUB_TOKEN}", ["GITHUB_TOKEN"]),
        ("Bearer ${input:github_token}", ["github_token"]),
        ("Bearer {env:GITHUB_TOKEN}", ["GITHUB_TOKEN"]),
        ("Bearer $GITHUB_TOKEN", ["GITHUB_TOKEN"]),
        ("Bearer <your token>", ["your token"]),
        ("Bearer YOUR_GITHUB_PAT", ["YOUR_GITHUB_PAT"]),
        ("${A:-}-${B}", ["A", "B"]),
        ("Bearer ${TOKEN:-given}", []),
        (f"Bearer {SECRET}", []),
    ],
)
def test_values_that_the_file_leaves_open_are_recognised(value: str, missing: list[str]) -> None:
    entry = only(of({"url": "https://mcp.example.com/mcp", "headers": {"Authorization": value}}))
    assert [one.name for one in entry.missing] == missing


def test_what_vscode_asks_for_becomes_the_label() -> None:
    entry = only(
        {
            "inputs": [{"type": "promptString", "id": "key", "description": "Key of the tracker", "password": True}],
            "servers": {"t": {"url": "https://mcp.example.com/mcp", "headers": {"X-Key": "${input:key}"}}},
        }
    )
    assert entry.missing[0].label == "Key of the tracker"


def test_a_wrapper_gives_its_headers_with_the_values_of_its_environment() -> None:
    entry = only(
        of(
            {
                "command": "npx",
                "args": [
                    "mcp-remote",
                    "https://mcp.example.com/mcp",
                    "--header",
                    "Authorization:${AUTH}",
                    "--header",
                    "X-Team: ${TEAM}",
                ],
                "env": {"AUTH": f"Bearer {SECRET}"},
            }
        )
    )
    assert entry.headers[0][1].filled({}) == f"Bearer {SECRET}"
    assert [one.name for one in entry.missing] == ["TEAM"]


def test_no_representation_of_an_entry_holds_its_secret() -> None:
    entry = only(of({"url": "https://mcp.example.com/mcp", "headers": {"Authorization": f"Bearer {SECRET}"}}))
    (line,) = plan([entry], slugs=(), present={})
    assert SECRET not in f"{entry!r} {line!r} {entry.headers[0][1]!r}"


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (
            {"command": "npx", "args": ["-y", "@example/server"], "env": {"KEY": SECRET}},
            "program that the client starts",
        ),
        ({"command": "docker", "args": ["run", "x"]}, "(docker)"),
        ({"command": "npx", "args": ["mcp-remote"]}, "without a URL"),
        ({"url": "https://mcp.example.com/sse"}, "older transport"),
        ({"type": "sse", "url": "https://mcp.example.com/sse"}, "older transport"),
        ({"url": "ftp://mcp.example.com/"}, "http"),
        ({"url": "javascript:alert(1)"}, "http"),
        ({"url": "https://${HOST}/mcp"}, "yours to fill in"),
        ({"url": 3}, "no URL"),
        ({}, "neither a url nor a command"),
        ("https://mcp.example.com/mcp", "not an object"),
        ({"url": "https://e.example/mcp", "headers": [1]}, "headers are not an object"),
        ({"url": "https://e.example/mcp", "headers": {"X-A": {"b": 1}}}, "not a text"),
        ({"url": "https://e.example/mcp", "headers": {"X A": SECRET}}, "name that no request can carry"),
        ({"url": "https://e.example/mcp", "headers": {"X-A": f"{SECRET}\nX-B: c"}}, "one line"),
        ({"url": "https://e.example/mcp", "headers": {"X-A": "secret://default:x:y"}}, "names a stored secret"),
    ],
    ids=lambda value: "",
)
def test_an_entry_that_cannot_be_used_says_why_and_not_what_it_holds(entry: Any, words: str) -> None:
    why = refused({"mcpServers": {"tracker": entry}})
    assert words in why
    assert SECRET not in why


def test_a_local_program_of_a_known_provider_leads_to_its_preset() -> None:
    document = {"mcpServers": {name: {"command": "npx", "args": ["x"]} for name in ("GitHub", "files")}}
    github, files = read(document)
    assert isinstance(github, Unusable)
    assert isinstance(files, Unusable)
    assert github.why.endswith("remote server: GitHub.")
    assert "preset" not in files.why


def test_headers_that_the_gateway_sets_itself_are_left_out_and_said() -> None:
    entry = only(of({"url": "https://e.example/mcp", "headers": {"Accept": "application/json", "X-A": "b"}}))
    assert [name for name, _ in entry.headers] == ["X-A"]
    assert any("Accept" in note for note in entry.notes)


def test_the_old_transport_of_a_preset_becomes_its_newer_url() -> None:
    entry = only(of({"url": "https://mcp.deepwiki.com/sse"}))
    assert entry.url == "https://mcp.deepwiki.com/mcp"
    assert entry.preset is not None


def test_a_query_is_not_shown_because_it_may_hold_a_key() -> None:
    entry = only(of({"url": f"https://e.example/mcp?key={SECRET}"}))
    assert SECRET not in entry.shown_url
    assert any("query" in note for note in entry.notes)


# --- the registry

SERVER = {
    "$schema": "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json",
    "name": "com.example/tracker",
    "description": "Tickets",
    "version": "1.0.0",
    "remotes": [
        {"type": "sse", "url": "https://mcp.example.com/sse"},
        {
            "type": "streamable-http",
            "url": "https://mcp.example.com/mcp",
            "headers": [
                {"name": "X-Key", "description": "Your key", "isRequired": True, "isSecret": True},
                {"name": "Authorization", "value": "Bearer {token}", "isRequired": True,
                 "variables": {"token": {"description": "A token", "isSecret": True}}},
                {"name": "X-Extra", "description": "Not needed"},
            ],
        },
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    "document",
    [
        SERVER,
        [SERVER],
        {"servers": [{"server": SERVER, "_meta": {"io.modelcontextprotocol.registry/official": {"isLatest": True}}}]},
        {"servers": [SERVER], "metadata": {"count": 1}},
    ],
    ids=["alone", "list", "api", "older api"],
)
def test_a_registry_entry_gives_its_streamable_remote(document: Any) -> None:
    entry = only(document)
    assert (entry.name, entry.url, entry.description) == ("tracker", "https://mcp.example.com/mcp", "Tickets")
    assert [(one.name, one.label) for one in entry.missing] == [("X-Key", "Your key"), ("token", "A token")]
    assert any("X-Extra is optional" in note for note in entry.notes)


def test_of_several_versions_the_newest_counts() -> None:
    def version(number: str, *, latest: bool) -> dict[str, Any]:
        remotes = [{"type": "streamable-http", "url": f"https://mcp.example.com/{number}"}]
        meta = {"io.modelcontextprotocol.registry/official": {"isLatest": latest, "status": "active"}}
        return {"server": {**SERVER, "version": number, "remotes": remotes}, "_meta": meta}

    found = only({"servers": [version("2", latest=True), version("1", latest=False)]})
    assert found.url == "https://mcp.example.com/2"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"remotes": [], "packages": [{"registryType": "npm"}]}, "runs on one's own machine"),
        ({"remotes": [{"type": "sse", "url": "https://e.example/sse"}]}, "older transport"),
        (
            {
                "remotes": [
                    {"type": "streamable-http", "url": "https://{site}.e.example/mcp", "variables": {"site": {}}}
                ]
            },
            "parts of your own (site)",
        ),
    ],
    ids=["package", "sse", "parts"],
)
def test_a_registry_entry_that_cannot_be_used_says_why(change: dict[str, Any], words: str) -> None:
    assert words in refused({**SERVER, **change})


def test_variables_with_a_default_are_filled_in() -> None:
    remote = {
        "type": "streamable-http",
        "url": "https://{region}.e.example/mcp",
        "variables": {"region": {"default": "eu"}},
    }
    assert only({**SERVER, "remotes": [remote]}).url == "https://eu.e.example/mcp"


# --- texts that are no such file


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "Paste"),
        ('{\n  "mcpServers": {"a" 1}\n}', "Line 2, column 22"),
        ('{"mcpServers": {"a": {"url": "https://e.example/mcp"}}', "Line 1"),
        ("[" * 100_000, "nested too deeply"),
        ('"' + '\\"' * 100_000, "Line 1"),
        ("/*" * 100_000, "not JSON"),
        ('{"a": NaN}', "number"),
        ("[1, 2]", "neither a client's configuration"),
        ('"text"', "neither a client's configuration"),
        ('{"mcpServers": {}}', "no server in it"),
        ("x" * (MOST_CHARACTERS + 1), "longer than"),
        (json.dumps(of({}) | {"mcpServers": {str(n): {} for n in range(MOST_ENTRIES + 1)}}), "at most 100"),
    ],
    ids=[
        "empty",
        "comma",
        "cut off",
        "deep",
        "open string",
        "open comment",
        "nan",
        "list",
        "text",
        "nothing",
        "long",
        "many",
    ],
)
def test_a_text_that_cannot_be_read_says_where_and_why(text: str, words: str) -> None:
    with pytest.raises(BadDocument) as bad:
        entries_of(text)
    assert words in str(bad.value)


# --- the plan


def test_the_plan_says_what_becomes_of_each_entry() -> None:
    document = {
        "mcpServers": {
            "New one": {"url": "https://new.example/mcp"},
            "With key": {"url": "https://key.example/mcp", "headers": {"X-Key": SECRET}},
            "Open": {"url": "https://open.example/mcp", "headers": {"X-Key": "${KEY}"}},
            "Here": {"url": "https://HERE.example/mcp/"},
            "Twice": {"url": "https://new.example/mcp"},
            "Local": {"command": "uvx", "args": ["x"]},
            "GitHub": {"url": "https://api.githubcopilot.com/mcp/"},
        }
    }
    lines = plan(read(document), slugs={"new-one"}, present={"https://here.example/mcp?": "Ours"})
    assert [line.outcome for line in lines] == [
        Outcome.NEW, Outcome.NEW, Outcome.NEEDS, Outcome.EXISTS, Outcome.EXISTS, Outcome.UNUSABLE, Outcome.NEW,
    ]  # fmt: skip
    assert lines[0].slug == "new-one-2"
    assert "Ours" in lines[3].sentence
    assert "New one" in lines[4].sentence
    assert [line.enabled for line in (lines[0], lines[6])] == [True, False]
    assert lines[6].preset is not None


@pytest.mark.parametrize(
    ("name", "slug"), [("My Server!", "my-server"), ("日本", "server"), ("-", "server"), ("x" * 90, "x" * 63)]
)
def test_a_slug_is_made_from_any_name(name: str, slug: str) -> None:
    assert free_slug(name, ()) == slug
    again = free_slug(name, {slug})
    assert again != slug
    assert len(again) <= 63


@pytest.mark.parametrize("default", ["plain", "with $ign", '{"json": 1', "a$"])
def test_a_value_with_a_default_of_the_file_takes_it(default: str) -> None:
    (header,) = only(of({"url": "https://a.example/mcp", "headers": {"X-Key": f"${{KEY:-{default}}}"}})).headers
    assert header[1].filled({}) == default


@pytest.mark.parametrize("piece", ["${A:-", "${A:-$", "{{ ", "<a ", "${env:A", "YOUR_"])
def test_a_header_of_openings_that_never_close_is_read_in_one_pass(piece: str) -> None:
    # Read in as many passes as there are openings, this would take minutes, and hold everybody up.
    value = piece * (200_000 // len(piece))
    assert "more than 8,192 characters" in refused(of({"url": "https://a.example/mcp", "headers": {"X-Key": value}}))


def test_a_value_does_not_grow_by_being_named_again_and_again() -> None:
    entry = {"url": "https://a.example/mcp", "env": {"AB": "x" * 1000}, "headers": {"X-Key": "${AB}" * 9}}
    assert "more than 8,192 characters" in refused(of(entry))
    header = {"name": "X-Key", "value": "{a}" * 9, "variables": {"a": {"value": "x" * 1000}}}
    remotes = [{"type": "http", "url": "https://a.example/mcp", "headers": [header]}]
    assert "more than 8,192 characters" in refused({"name": "a/b", "remotes": remotes})
