from __future__ import annotations

import pytest
from django.test import Client

from tests.conftest import Cast

WELL_KNOWN = "/.well-known/oauth-protected-resource"


@pytest.mark.requirement("RS-1", "RS-2", "RS-4")
@pytest.mark.parametrize("endpoint", ["server", "mcp"])
def test_each_mcp_url_has_a_document_that_names_it_byte_for_byte(endpoint: str, cast: Cast, settings: object) -> None:
    answer = Client().get(f"{WELL_KNOWN}/default/mcp/calculator/{endpoint}")
    assert answer.status_code == 200
    assert answer.json()["resource"] == f"http://127.0.0.1:8000/default/mcp/calculator/{endpoint}"
    assert answer.json()["bearer_methods_supported"] == ["header"]
    assert answer["Access-Control-Allow-Origin"] == "*"


@pytest.mark.requirement("RS-13")
def test_the_document_does_not_tell_whether_a_server_exists(cast: Cast) -> None:
    there = Client().get(f"{WELL_KNOWN}/default/mcp/calculator/server")
    not_there = Client().get(f"{WELL_KNOWN}/default/mcp/nothing/server")
    assert there.status_code == not_there.status_code == 200
    assert there.content.replace(b"calculator", b"nothing") == not_there.content


@pytest.mark.requirement("RS-4")
@pytest.mark.parametrize(
    "path", ["", "/", "/default/mcp/calculator/key", "/default/mcp/calculator/server/", "/portal/"]
)
def test_no_other_path_has_one(path: str, cast: Cast) -> None:
    assert Client().get(f"{WELL_KNOWN}{path}").status_code == 404
