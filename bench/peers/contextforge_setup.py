"""Register the fake upstream with a running ContextForge and publish its tool as a virtual server.

    python contextforge_setup.py BASE_URL UPSTREAM_URL   (ContextForge's interpreter and environment)

Prints JSON: the path to call, the token, the tool's name there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import httpx

base, upstream = sys.argv[1:3]
mint = [sys.executable, "-m", "mcpgateway.utils.create_jwt_token", "--exp", "600"]
mint += ["--username", os.environ["PLATFORM_ADMIN_EMAIL"], "--secret", os.environ["JWT_SECRET_KEY"]]
token = subprocess.run(mint, capture_output=True, text=True, check=True).stdout.split()[-1]
client = httpx.Client(base_url=base, headers={"Authorization": f"Bearer {token}"}, timeout=60)
deadline = time.monotonic() + 120
while time.monotonic() < deadline:
    try:
        if client.get("/health", timeout=2).is_success:
            break
    except httpx.HTTPError:
        pass
    time.sleep(0.5)
gateway = {"name": "bench", "url": upstream, "transport": "STREAMABLEHTTP", "visibility": "public"}
gateway |= {"auth_type": "bearer", "auth_token": "bench-upstream-token"}
client.post("/gateways", json=gateway).raise_for_status()
tools = client.get("/tools").json()
server = {"name": "bench", "visibility": "public", "associated_tools": [tool["id"] for tool in tools]}
client.post("/servers", json={"server": server, "visibility": "public"}).raise_for_status()
path = f"/servers/{client.get('/servers').json()[0]['id']}/mcp/"
print(json.dumps({"path": path, "token": token, "tool": tools[0]["name"]}))
