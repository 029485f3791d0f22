"""What to paste where, so that a client calls a server through the gateway (F-601).

Two methods: signing in, which needs the URL alone, and a key in the header. One guide per client and method.
"""

from __future__ import annotations

from dataclasses import dataclass

from authflows.inbound.how_to_use import editors, programs, terminals
from authflows.inbound.how_to_use.parts import KEY_VARIABLE, Guide, Link, Step, Target, export_line

__all__ = ["KEY_VARIABLE", "Guide", "Link", "Method", "Step", "Target", "export_line", "methods"]


@dataclass(frozen=True, slots=True)
class Method:
    """One way in, with a guide for each client that knows it."""

    id: str
    title: str
    guides: list[Guide]


def methods(target: Target, *, key: str | None = None) -> list[Method]:
    """How to use a server. With `key`, the guides for a key hold its text; links never do."""
    sign_in = [
        editors.cursor_sign_in(target),
        terminals.claude_code_sign_in(target),
        editors.vs_code_sign_in(target),
        editors.claude_desktop_sign_in(target),
        terminals.codex_sign_in(target),
        terminals.gemini_sign_in(target),
        editors.windsurf_sign_in(target),
        editors.zed_sign_in(target),
        editors.jetbrains_sign_in(target),
        terminals.opencode_sign_in(target),
        terminals.copilot_sign_in(target),
        programs.python_sign_in(target),
        programs.typescript_sign_in(target),
    ]
    with_key = [
        editors.cursor_key(target, key),
        terminals.claude_code_key(target, key),
        editors.vs_code_key(target, key),
        editors.claude_desktop_key(target, key),
        terminals.codex_key(target, key),
        terminals.gemini_key(target, key),
        editors.windsurf_key(target, key),
        editors.zed_key(target, key),
        editors.jetbrains_key(target, key),
        terminals.opencode_key(target, key),
        terminals.copilot_key(target, key),
        programs.python_key(target, key),
        programs.typescript_key(target, key),
        programs.curl_key(target, key),
    ]
    return [Method("sign-in", "Sign in (recommended)", sign_in), Method("key", "With a key", with_key)]
