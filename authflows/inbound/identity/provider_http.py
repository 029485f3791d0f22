"""One exchange with an identity provider: through the one door, bounded in time and size, no redirects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import requests

from servers import egress

SECONDS: Final = 10
_MOST_BYTES: Final = 1024 * 1024


class TooLarge(Exception):
    """The answer is larger than any of these documents should be."""


def exchange(
    url: str, *, method: str = "GET", headers: Mapping[str, Any] | None = None, **options: Any
) -> requests.Response:
    """A `requests.Response` with its whole body. `options` are those of `requests` (data, json, auth, params).

    Raises DestinationRefused, TooLarge and requests.RequestException; also for every status but 2xx.
    """
    sent = {**(headers or {}), "Accept-Encoding": "identity"}
    with (
        egress.time_limit(SECONDS),
        egress.http_session("sign-in") as session,
        # Closed at once also when it is given up half-way, so that the provider need not wait for that.
        session.request(
            method, url, headers=sent, timeout=SECONDS, stream=True, allow_redirects=False, **options
        ) as response,
    ):
        body = bytearray()
        for chunk in response.iter_content(64 * 1024):
            body += chunk
            if len(body) > _MOST_BYTES:
                raise TooLarge(f"the answer is larger than {_MOST_BYTES} bytes")
        response._content = bytes(body)
    response.raise_for_status()
    if not 200 <= response.status_code < 300:
        raise requests.HTTPError(f"status {response.status_code}", response=response)
    return response
