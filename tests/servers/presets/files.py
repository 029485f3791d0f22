"""A preset file for tests."""

from __future__ import annotations

FILE = """
name = "Example Tracker"
provider = "Example"
category = "Projects"
summary = "Tickets of an example."
url = "https://mcp.example.com/mcp"
checked = 2026-01-02
quirks = ["It is slow on Mondays."]

[[way]]
key = "connect"
title = "Each person connects"
method = "oauth2"
discover = true
scopes = ["read", "write"]
steps = ["Make an app and enter {callback_url}"]
oauth = { registration = "pre_registered", send_resource = false }

[[way]]
key = "keys"
title = "Own keys"
method = "own_header"
headers = { X-Key = "{{KEY}}" }

[[source]]
url = "https://docs.example.com/mcp"
says = "Everything."
"""
