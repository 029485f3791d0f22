"""The rules of preset files, and that every file keeps them."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from servers.presets.filling import initial_values
from servers.presets.library import FOLDER, find, of_url, presets, search
from servers.presets.preset import BadPreset, Method, read
from tests.servers.presets.files import FILE

pytestmark = pytest.mark.requirement("F-105")
FILES = sorted(FOLDER.glob("*.toml"), key=lambda path: path.name)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_preset_keeps_the_rules_and_names_its_sources(path: Path) -> None:
    preset = read(path.stem, path.read_text("utf-8"))
    assert preset.sources
    assert date(2025, 1, 1) < preset.checked
    for way in preset.ways:
        assert initial_values(preset, way)["method"] == way.method


def test_no_two_presets_have_the_same_name_or_endpoint() -> None:
    everything = list(presets().values())
    assert len({one.name for one in everything}) == len(everything)
    assert len({one.url.rstrip("/") for one in everything}) == len(everything)


def test_a_preset_is_found_by_what_people_know_of_it() -> None:
    assert [one.slug for one in search("issues github")] == ["github"]
    assert search("nothing of the kind") == []
    assert {one.category for one in search("", category="Code")} == {"Code"}
    found = of_url("https://API.githubcopilot.com/mcp")
    assert found is not None
    assert found.slug == "github"
    assert of_url("https://api.githubcopilot.com/other") is None
    assert find("no-such-preset") is None


def test_a_preset_reads_as_its_file_says() -> None:
    preset = read("example", FILE)
    assert (preset.name, preset.monogram, preset.ways[0].method) == ("Example Tracker", "ET", Method.OAUTH2)
    assert preset.way("keys").headers == (("X-Key", "{{KEY}}"),)
    assert preset.way("no such way") is preset.ways[0]
    filled = initial_values(preset, preset.ways[0])
    assert filled["no_resource"] is True
    assert filled["scopes"] == ("read", "write")
    assert "send_resource" not in filled


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ('name = "Example Tracker"', "", "name is missing"),
        ('name = "Example Tracker"', "name = 3", "name has to be a str"),
        ('name = "Example Tracker"', 'name = "Example Tracker"\ncolour = "red"', "colour is not known"),
        ('category = "Projects"', 'category = "Toys"', "category has to be one of"),
        ("https://mcp.example.com/mcp", "http://mcp.example.com/mcp", "https"),
        ("https://mcp.example.com/mcp", "https://mcp.<region>.example.com/mcp", "parts"),
        ('method = "oauth2"', 'method = "magic"', "method has to be one of"),
        ("send_resource = false", "send_resources = false", "send_resources is not known"),
        ("send_resource = false", 'send_resource = "no"', "send_resource has to be a bool"),
        ("send_resource = false", 'client_secret = "x"', "client_secret is not known"),
        (' {callback_url}"', '"', "callback_url"),
        ('X-Key = "{{KEY}}"', 'X-Key = "fixed"', "placeholder"),
        ('X-Key = "{{KEY}}"', 'Host = "{{KEY}}"', "set by the gateway"),
        ('key = "keys"', 'key = "connect"', "same key"),
        ("checked = 2026-01-02", 'checked = "yesterday"', "checked has to be a date"),
        ('url = "https://docs.example.com/mcp"', 'url = "javascript:alert(1)"', "https address"),
        ("[[source]]", "[source]", "source has to be a list"),
        ("[[source]]", "[[source", "not TOML"),
    ],
)
def test_a_file_that_breaks_a_rule_is_refused_with_its_name_and_the_rule(before: str, after: str, words: str) -> None:
    assert before in FILE
    with pytest.raises(BadPreset, match="example") as refused:
        read("example", FILE.replace(before, after))
    assert words in str(refused.value)
