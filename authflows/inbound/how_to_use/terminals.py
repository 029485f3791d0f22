"""Guides for clients in a terminal."""

from __future__ import annotations

import json

from authflows.inbound.how_to_use.parts import KEY_VARIABLE, Guide, Step, Target, bearer, export_step, pretty

_RUN = "Run in a shell"
_GEMINI_TRUST = "Gemini uses servers only in folders that you told it to trust."
_HEADER = f"Authorization: Bearer ${KEY_VARIABLE}"


def claude_code_sign_in(target: Target) -> Guide:
    """Claude Code, by the URL alone."""
    return Guide(
        "claude-code",
        "Claude Code",
        (
            Step(_RUN, f"claude mcp add --transport http {target.name} {target.url}"),
            Step(
                "Sign in: the browser opens. (In a session, the command /mcp does the same.)",
                f"claude mcp login {target.name}",
            ),
        ),
        note="Add “--scope user” for all your projects, “--scope project” for everybody who works on this one.",
    )


def claude_code_key(target: Target, key: str | None) -> Guide:
    """Claude Code with a header."""
    shared = {"type": "http", "url": target.url, "headers": bearer(f"${{{KEY_VARIABLE}}}")}
    return Guide(
        "claude-code",
        "Claude Code",
        (
            export_step(key),
            Step(_RUN, f'claude mcp add --transport http {target.name} {target.url} \\\n  --header "{_HEADER}"'),
            Step(
                "Or, for a project that you share, put this into .mcp.json: the variable stays a variable",
                pretty({"mcpServers": {target.name: shared}}),
            ),
        ),
    )


def codex_sign_in(target: Target) -> Guide:
    """Codex, by the URL alone."""
    return Guide(
        "codex",
        "Codex",
        (
            Step("Run in a shell: the browser opens. Approve there", f"codex mcp add {target.name} --url {target.url}"),
            Step("To sign in again later", f"codex mcp login {target.name}"),
        ),
    )


def codex_key(target: Target, key: str | None) -> Guide:
    """Codex with a key from the environment."""
    table = [
        f"[mcp_servers.{target.name}]",
        f"url = {json.dumps(target.url)}",
        f'bearer_token_env_var = "{KEY_VARIABLE}"',
    ]
    return Guide(
        "codex",
        "Codex",
        (
            export_step(key),
            Step(_RUN, f"codex mcp add {target.name} --url {target.url} \\\n  --bearer-token-env-var {KEY_VARIABLE}"),
            Step("Or put this into ~/.codex/config.toml", "\n".join(table)),
        ),
        note=f"Codex reads {KEY_VARIABLE} each time that it starts.",
    )


def gemini_sign_in(target: Target) -> Guide:
    """Gemini CLI, by the URL alone."""
    return Guide(
        "gemini-cli",
        "Gemini CLI",
        (
            Step(_RUN, f"gemini mcp add -s user -t http {target.name} {target.url}"),
            Step("Then, in Gemini: the browser opens. Approve there", f"/mcp auth {target.name}"),
        ),
        note=_GEMINI_TRUST,
    )


def gemini_key(target: Target, key: str | None) -> Guide:
    """Gemini CLI with a header."""
    return Guide(
        "gemini-cli",
        "Gemini CLI",
        (
            export_step(key),
            Step(_RUN, f'gemini mcp add -s user -t http {target.name} {target.url} \\\n  -H "{_HEADER}"'),
        ),
        note=f"The key is then written into ~/.gemini/settings.json. {_GEMINI_TRUST}",
    )


def opencode_sign_in(target: Target) -> Guide:
    """opencode, by the URL alone."""
    entry = {"type": "remote", "url": target.url, "enabled": True}
    return Guide(
        "opencode",
        "opencode",
        (
            Step("Put this into ~/.config/opencode/opencode.json", pretty({"mcp": {target.name: entry}})),
            Step("Sign in: the browser opens. Approve there", f"opencode mcp auth {target.name}"),
        ),
    )


def opencode_key(target: Target, key: str | None) -> Guide:
    """opencode with a header."""
    headers = bearer(f"{{env:{KEY_VARIABLE}}}")
    entry = {"type": "remote", "url": target.url, "oauth": False, "headers": headers}
    return Guide(
        "opencode",
        "opencode",
        (
            export_step(key),
            Step("Put this into ~/.config/opencode/opencode.json", pretty({"mcp": {target.name: entry}})),
        ),
    )


def copilot_sign_in(target: Target) -> Guide:
    """GitHub Copilot CLI, by the URL alone."""
    return Guide(
        "copilot-cli",
        "Copilot CLI",
        (
            Step(_RUN, f"copilot mcp add --transport http {target.name} {target.url}"),
            Step("Then, in Copilot: the browser opens. Approve there", f"/mcp auth {target.name}"),
        ),
    )


def copilot_key(target: Target, key: str | None) -> Guide:
    """GitHub Copilot CLI with a header."""
    return Guide(
        "copilot-cli",
        "Copilot CLI",
        (
            export_step(key),
            Step(_RUN, f'copilot mcp add --transport http {target.name} {target.url} \\\n  --header "{_HEADER}"'),
        ),
        note="The key is then written into ~/.copilot/mcp-config.json.",
    )
