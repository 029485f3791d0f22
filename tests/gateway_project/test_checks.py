"""Our own system checks find what they are for (whole starts with them: test_settings.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway_project import checks
from gateway_project.keys import write_missing_keys

pytestmark = pytest.mark.requirement("F-805")


def ids(messages: list[Any]) -> list[str]:
    return [message.id for message in messages]


def test_plain_http_is_a_warning_and_https_is_not(settings: Any) -> None:
    settings.HTTPS = False
    assert ids(checks.public_url_is_https(None)) == ["gateway.W001"]
    settings.HTTPS = True
    assert ids(checks.public_url_is_https(None)) == []


@pytest.mark.parametrize(("mode", "found"), [(0o600, 0), (0o400, 0), (0o604, 1), (0o640, 1), (0o620, 1)])
def test_only_the_owner_may_reach_key_files(settings: Any, tmp_path: Path, mode: int, found: int) -> None:
    write_missing_keys(tmp_path)
    (tmp_path / "key_ring").chmod(mode)
    settings.DATA_DIR = tmp_path

    assert ids(checks.key_files_are_private(None)) == ["gateway.E001"] * found


def test_every_message_says_what_to_do(settings: Any, tmp_path: Path) -> None:
    settings.HTTPS = False
    settings.DATA_DIR = tmp_path
    write_missing_keys(tmp_path)
    (tmp_path / "key_ring").chmod(0o644)

    for message in (*checks.public_url_is_https(None), *checks.key_files_are_private(None)):
        assert message.hint
