"""Writes docs/ides.md from the guides that the portal shows under How to use it: `python -m scripts.ide_guides`.

A test compares the page with what this makes, so that the two never say different things.
"""

from __future__ import annotations

from pathlib import Path

from authflows.inbound.how_to_use import Guide, Method, Target, methods

PAGE = Path(__file__).resolve().parent.parent / "docs" / "ides.md"
BASE = "https://gw.example.com/default/mcp/calculator"
INTRODUCTION = """\
# Your IDE

How each client is set up, by signing in and with a key. The server's page in the portal has the same with its own URL
filled in, buttons that set the client up with one click where the client knows such links, and a key made on the spot:
copy from there. Here the server is `calculator` at `https://gw.example.com`.

**Sign in** is the way for people: the client gets the URL alone, the browser opens, you press Approve
([what happens then](sign-in-from-the-ide.md)). **With a key** is for clients and programs that cannot open a browser
([connecting clients](clients.md)); make one under **My access**, and keep it in the variable `GATEHOUSE_KEY`.

```{image} _static/screenshots/portal-server-desktop.png
:alt: How to use it on the page of a server, with a tab for each client
```
"""


def page() -> str:
    """The whole page."""
    by_client: dict[str, list[tuple[Method, Guide]]] = {}
    for method in methods(Target("calculator", f"{BASE}/server", f"{BASE}/key")):
        for guide in method.guides:
            by_client.setdefault(guide.client, []).append((method, guide))
    parts = [INTRODUCTION]
    for client, ways in by_client.items():
        parts.append(f"## {client}\n")
        for method, guide in ways:
            parts.append(_guide(method, guide))
    return "\n".join(parts)


def _guide(method: Method, guide: Guide) -> str:
    heading = "Sign in" if method.id == "sign-in" else "With a key"
    lines = [f"**{heading}.**"]
    one_click = [link.label for link in guide.links if not link.through]
    if one_click:
        lines[0] += f" One click in the portal: *{'*, *'.join(one_click)}*."
    for step in guide.steps:
        # What stands in angle brackets is to be replaced, and is no HTML.
        place = step.place.replace("<", "\\<").rstrip(".:")
        lines.append(f"\n{place}{':' if step.text else '.'}")
        if step.text:
            lines.append(f"\n```text\n{step.text}\n```")
    if guide.note:
        lines.append(f"\n{guide.note}".replace("<", "\\<"))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
