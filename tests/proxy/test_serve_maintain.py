"""`serve --maintain`: the other process lives and ends with the gateway."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.process_gateway import ProcessGateway


@pytest.mark.django_db(transaction=True)
@pytest.mark.requirement("F-306")
def test_maintain_runs_beside_the_gateway_and_ends_with_it() -> None:
    with ProcessGateway("serve", "--maintain") as gateway:
        (child,) = Path(f"/proc/{gateway.pid}/task/{gateway.pid}/children").read_text().split()
        command = Path(f"/proc/{child}/cmdline")
        assert b"\0maintain\0" in command.read_bytes()
    assert not command.exists()
