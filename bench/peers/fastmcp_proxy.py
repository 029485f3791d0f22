"""fastmcp's own proxy, in its fastest settings: stateless, JSON replies, one static token.

python fastmcp_proxy.py PORT UPSTREAM_URL
"""

from __future__ import annotations

import sys

from fastmcp.client.transports import StreamableHttpTransport
from fastmcp.server import create_proxy
from fastmcp.server.auth.providers.jwt import StaticTokenVerifier

upstream = StreamableHttpTransport(sys.argv[2], headers={"Authorization": "Bearer bench-upstream-token"})
tokens = StaticTokenVerifier({"bench-client-token": {"client_id": "bench", "scopes": []}})
create_proxy(upstream, name="bench", auth=tokens).run(
    transport="http",
    host="127.0.0.1",
    port=int(sys.argv[1]),
    path="/mcp",
    stateless_http=True,
    json_response=True,
    show_banner=False,
    log_level="error",
    uvicorn_config={"access_log": False},
)
