"""What the documentation tells people to type works as it stands there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.contrib.auth import get_user_model

from authflows.inbound.api_keys import create_key
from gateway_project.management.commands.run_demo import welcome
from gateway_project.sample import register_sample, sample_url
from servers.models import AccessRule, Server, Tenant
from tests.support.gateway import LiveGateway
from tests.support.node import leave_out
from tests.support.processes import free_port, start_foreign

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.requirement("F-106")


@pytest.fixture(scope="module")
def calculator() -> Iterator[int]:
    """The port of a running sample server."""
    port = free_port()
    program = [sys.executable, str(ROOT / "examples/calculator/server.py"), f"--port={port}"]
    peer = start_foreign(program, url=sample_url(port))
    yield port
    peer.stop()


@pytest.fixture
def sample(gateway: LiveGateway, calculator: int) -> Server:
    """The registered sample."""
    # The tests that commit empty the tables, the default tenant included.
    Tenant.objects.get_or_create(slug="default", defaults={"name": "Default"})
    server = register_sample(port=calculator)
    assert server is not None
    return server


@pytest.fixture
def environment(gateway: LiveGateway, sample: Server) -> dict[str, str]:
    """What a person has in the shell: the server's URL and a key that may use it."""
    user = get_user_model().objects.create_user("ann")
    AccessRule.objects.create(server=sample, user=user)
    _, key = create_key(owner=user, name="laptop", actor="ann")
    return {"PATH": os.environ["PATH"], "GATEHOUSE_KEY": key, "URL": gateway.mcp_url(sample)}


def blocks(section: str, language: str) -> list[str]:
    """The code blocks of one section of docs/clients.md."""
    page = (ROOT / "docs/clients.md").read_text()
    body = page.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", body, re.DOTALL)


def typed(script: str, environment: dict[str, str]) -> str:
    """What a shell prints when this is typed."""
    if "curl" in script and shutil.which("curl") is None:
        leave_out("curl is not here (Debian: apt install curl)")
    done = subprocess.run(
        ["sh", "-euc", script], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_curl_line_of_the_documentation_calls_a_tool(environment: dict[str, str]) -> None:
    (script,) = blocks("curl", "")
    assert json.loads(typed(script, environment))["result"]["structuredContent"] == {"result": 5}


def test_the_curl_line_that_make_run_prints_lists_the_tools(sample: Server, environment: dict[str, str]) -> None:
    lines = welcome(sample).partition("List the sample's tools:\n")[2].partition("\n\n")[0]
    answer = json.loads(typed(lines, environment))
    assert [tool["name"] for tool in answer["result"]["tools"]] == ["add", "subtract", "multiply", "divide"]


def test_the_python_program_of_the_documentation_calls_a_tool(environment: dict[str, str], tmp_path: Path) -> None:
    (program,) = blocks("Python", "python")
    path = tmp_path / "call.py"
    path.write_text(program)
    assert typed(f"{sys.executable} {path}", environment) == "{'result': 5}\n"


def test_the_json_of_the_documentation_is_json() -> None:
    found = [block for section in ("Claude Code", "Cursor", "VS Code") for block in blocks(section, "json")]
    assert len(found) == 3
    for block in found:
        assert "calculator" in json.dumps(json.loads(block))


@pytest.mark.parametrize(
    ("tool", "arguments", "result"),
    [
        ("add", {"a": 2, "b": 0.5}, 2.5),
        ("subtract", {"a": 2, "b": 5}, -3),
        ("multiply", {"a": 6, "b": 7}, 42),
        ("divide", {"a": 1, "b": 4}, 0.25),
    ],
)
def test_the_sample_calculates(
    environment: dict[str, str], tool: str, arguments: dict[str, float], result: float
) -> None:
    answer = call(environment, tool, arguments)
    assert answer["structuredContent"] == {"result": result}


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        ("divide", {"a": 1, "b": 0}, "Division by zero"),
        ("multiply", {"a": 1e300, "b": 1e300}, "too large"),
        ("add", {"a": "one", "b": 1}, "valid"),
    ],
)
def test_the_sample_says_what_does_not_work(
    environment: dict[str, str], tool: str, arguments: dict[str, object], said: str
) -> None:
    answer = call(environment, tool, arguments)
    assert answer["isError"] is True
    assert said in answer["content"][0]["text"]


def call(environment: dict[str, str], tool: str, arguments: dict[str, object] | dict[str, float]) -> dict[str, object]:
    (script,) = blocks("curl", "")
    request = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}
    script = re.sub(r"-d '.*'", f"-d '{json.dumps(request)}'", script)
    result: dict[str, object] = json.loads(typed(script, environment))["result"]
    return result


def test_a_key_for_nothing_is_told_so(sample: Server, environment: dict[str, str]) -> None:
    AccessRule.objects.all().delete()
    (script,) = blocks("curl", "")
    assert json.loads(typed(script, environment))["error"]["code"] == 1404
