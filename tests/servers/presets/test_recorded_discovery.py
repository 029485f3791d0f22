"""Discover for presets whose providers' metadata is on record: what was published leads to settings that can be saved."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from authflows.outbound.discovery import Discovered, discover
from servers.presets.library import find
from tests.conftest import allow_private
from tests.support.described_server import DescribedServer

pytestmark = [pytest.mark.django_db, pytest.mark.requirement("F-105", "F-104")]
RECORDED = sorted((Path(__file__).parents[1] / "data" / "metadata").glob("*.json"), key=lambda path: path.name)


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_what_a_provider_published_leads_from_its_preset_to_settings(path: Path) -> None:
    recorded = json.loads(path.read_text("utf-8"))
    preset = find(path.stem)
    assert preset is not None
    assert preset.url == recorded["endpoint"]
    assert preset.ways[0].discover
    public = f"https://{urlsplit(preset.url).netloc}"
    with DescribedServer(urlsplit(preset.url).path) as stand_in:
        allow_private(stand_in.url)

        def here(text: str) -> str:
            return text.replace(public, stand_in.origin)

        stand_in.challenge = here(recorded["challenge"] or "Bearer")
        for url, document in recorded["documents"].items():
            assert url.startswith(public)
            body = here(json.dumps(document)).encode()
            stand_in.documents[urlsplit(url).path] = (200, {"Content-Type": "application/json"}, body)
        outcome = discover(stand_in.url)
        assert isinstance(outcome, Discovered), outcome
        published = next(one for one in recorded["documents"].values() if "issuer" in one)
        settings = outcome.settings
        assert settings.issuer == here(published["issuer"])
        for name in ("authorization_endpoint", "token_endpoint", "registration_endpoint"):
            assert getattr(settings, name) == here(published[name])
        assert not preset.ways[0].needs_app
        assert settings.registration == "dynamic", "the preset says that nothing has to be made at the provider"
        assert settings.pkce
        assert settings.scopes
