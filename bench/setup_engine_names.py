"""What `setup_engine.py` and those who call its servers agree on; without Django."""

from __future__ import annotations

ALIAS = "member"
TOOLS = 10_000
HIDDEN_EVERY = 50
"""One tool of so many is hidden from the person."""
