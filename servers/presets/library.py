"""All presets there are: one file each, read once per process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from servers.presets.preset import Preset, read

FOLDER: Final = Path(__file__).parent / "data"


@lru_cache(maxsize=1)
def presets() -> Mapping[str, Preset]:
    """By slug, in the order of their names. Raises BadPreset for a file that breaks a rule."""
    found = [read(path.stem, path.read_text("utf-8")) for path in FOLDER.glob("*.toml")]
    return {one.slug: one for one in sorted(found, key=lambda one: one.name.lower())}


def find(slug: str) -> Preset | None:
    """The preset of this slug, if there is one."""
    return presets().get(slug)


def search(text: str, *, category: str = "") -> list[Preset]:
    """Presets whose name, provider, summary or URL hold every word of `text`, of one category if it is given."""
    words = text.lower().split()
    return [
        one
        for one in presets().values()
        if (not category or one.category == category) and all(word in one.words for word in words)
    ]


def of_url(url: str) -> Preset | None:
    """The preset whose endpoint this is, up to case of the host and a slash at the end."""
    return _by_url().get(_plain(url))


@lru_cache(maxsize=1)
def _by_url() -> Mapping[str, Preset]:
    return dict(_addresses())


def _addresses() -> Iterator[tuple[str, Preset]]:
    for one in presets().values():
        if not one.parts:
            yield _plain(one.url), one


def _plain(url: str) -> str:
    parts = urlsplit(url.strip())
    return f"{parts.scheme.lower()}://{parts.netloc.lower()}{parts.path.rstrip('/')}?{parts.query}"
