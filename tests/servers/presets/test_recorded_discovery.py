"""Discover for presets whose providers' metadata is on record: it leads to settings that can be saved."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from authflows.outbound.discovery import Discovered, discover
from servers.presets.library import find
from tests.conftest import allow_private
from tests.support.described_server import DescribedServer

pytestmark = [pytest.mark.django_db, pytest.mark.requirement("F-105", "F-104")]
RECORDED = sorted((Path(__file__).parents[1] / "data" / "metadata").glob("*.json"), key=lambda path: path.name)


class StandIns:
    """A server on loopback for each public host of a record, with its documents under their own paths."""

    def __init__(self, recorded: dict[str, Any], stack: ExitStack) -> None:
        endpoint = urlsplit(recorded["endpoint"])
        hosts = {urlsplit(url).netloc for url in (recorded["endpoint"], *recorded["documents"])}
        self.by_host = {
            host: stack.enter_context(DescribedServer((endpoint.path or "/") if host == endpoint.netloc else "/none"))
            for host in hosts
        }
        for server in self.by_host.values():
            allow_private(server.url)
        self.url = self.here(recorded["endpoint"])
        self.by_host[endpoint.netloc].challenge = self.here(recorded["challenge"] or "Bearer")
        for url, document in recorded["documents"].items():
            parts, body = urlsplit(url), self.here(json.dumps(document)).encode()
            self.by_host[parts.netloc].documents[parts.path] = (200, {"Content-Type": "application/json"}, body)

    def here(self, text: str) -> str:
        """The text with the public hosts replaced by their stand-ins."""
        for host, server in self.by_host.items():
            text = text.replace(f"https://{host}", server.origin)
        return text


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_what_a_provider_published_leads_from_its_preset_to_settings(path: Path) -> None:
    recorded = json.loads(path.read_text("utf-8"))
    preset = find(path.stem)
    assert preset is not None
    assert preset.url == recorded["endpoint"]
    way = preset.ways[0]
    assert way.discover
    with ExitStack() as stack:
        stand_ins = StandIns(recorded, stack)
        outcome = discover(stand_ins.url, has_app=way.needs_app)
    assert isinstance(outcome, Discovered), outcome
    published = next(one for one in recorded["documents"].values() if "issuer" in one)
    settings = outcome.settings
    assert settings.issuer == stand_ins.here(published["issuer"])
    for name in ("authorization_endpoint", "token_endpoint", "registration_endpoint"):
        assert getattr(settings, name) == stand_ins.here(published.get(name, ""))
        assert getattr(settings, name) == stand_ins.here(way.oauth.get(name, published.get(name, "")))
    # Whether somebody has to make an app at the provider is what the preset's page says first.
    assert settings.registration == ("pre_registered" if way.needs_app else "dynamic")
    assert way.needs_app == ("registration_endpoint" not in published)
