"""What the form of a new server begins with when it is opened from a preset. Pure."""

from __future__ import annotations

from typing import Any

from servers.header_fields import HeaderRow
from servers.presets.preset import Method, Preset, Way


def initial_values(preset: Preset, way: Way) -> dict[str, Any]:
    """Initial values by the name of the form's field. Nothing in them is secret."""
    values: dict[str, Any] = {
        "name": preset.name,
        "slug": preset.slug,
        "description": preset.summary,
        "url": way.url or preset.url,
        "method": way.method,
    }
    if way.method == Method.OAUTH2:
        values |= _oauth(way)
    elif way.method == Method.OWN_HEADER:
        values |= {"own_headers": way.headers, "own_labels": tuple(way.labels.items())}
    elif way.method == Method.SHARED_HEADER:
        values["headers"] = [HeaderRow(name=name) for name, _ in way.headers]
    return values


def _oauth(way: Way) -> dict[str, Any]:
    values = dict(way.oauth)
    if "pkce" in values:
        values["no_pkce"] = not values.pop("pkce")
    if "send_resource" in values:
        values["no_resource"] = not values.pop("send_resource")
    return values | {"scopes": way.scopes}
