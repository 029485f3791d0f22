"""The official suite for authorization servers finds no fault in ours."""

from __future__ import annotations

import re
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
import requests

from servers.models import Server
from tests.interop import conformance
from tests.interop.sign_in.wire import TIMEOUT, HttpBrowser, WireClient
from tests.support.gateway import LiveGateway
from tests.support.node import clean_environment
from tests.support.processes import free_port

pytestmark = [pytest.mark.node, pytest.mark.slow]

_AUTHORIZATION_URL = re.compile(r"http\S+response_type=code[^\s\x1b]*")


@pytest.mark.requirement("F-703", "AZ-1", "AZ-2")
def test_the_authorization_suite_finds_no_fault(
    gateway: LiveGateway, sample: Server, mcp_url: str, npm: tuple[str, Path], tmp_path: Path
) -> None:
    node, modules = npm
    port = free_port()
    client = WireClient(gateway.origin, mcp_url)
    assert client.register(redirect_uris=[f"http://127.0.0.1:{port}/callback"]).status_code == 201
    program = modules / "@modelcontextprotocol" / "conformance-next" / "dist" / "index.js"
    command = [node, str(program), "authorization", "--url", gateway.origin, "--client-id", client.client_id]
    command += ["--resource", mcp_url, "-p", str(port), "-o", str(tmp_path / "results")]
    output = tmp_path / "output"
    with output.open("w") as written:
        suite = subprocess.Popen(
            command, env=clean_environment(), stdin=subprocess.DEVNULL, stdout=written, stderr=subprocess.STDOUT
        )
    try:
        with HttpBrowser(gateway.origin) as person:
            _approve_what_it_prints(output, suite, person)
        assert suite.wait(30) == 0, output.read_text()
    finally:
        suite.kill()
        suite.wait()

    checks = sum(conformance.outcome(tmp_path).values(), Counter())
    expected = ("authorization-server-metadata", "authorization-server-metadata-cimd", "authorization-code-grant")
    assert set(checks) == {(check, "SUCCESS") for check in expected}, output.read_text()


def _approve_what_it_prints(output: Path, suite: subprocess.Popen[bytes], person: HttpBrowser) -> None:
    done: set[str] = set()
    ends = time.monotonic() + 60
    while suite.poll() is None and time.monotonic() < ends:
        for url in set(_AUTHORIZATION_URL.findall(output.read_text())) - done:
            done.add(url)
            requests.get(person.decide(url), timeout=TIMEOUT)
        time.sleep(0.05)  # it says only in its output that it wants a browser
