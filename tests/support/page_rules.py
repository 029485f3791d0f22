"""What holds for every page: no serious finding of axe-core, no sideways scroll, nothing that jumps, few bytes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from django.urls import Resolver404, resolve
from playwright.sync_api import Page

from tests.support.node import packages

WIDTHS = {"phone": (360, 740), "tablet": (768, 1024), "desktop": (1280, 860)}
MOST_BYTES = 100 * 1024
MOST_SHIFT = 0.1
"""What the web calls good; lists of choices that Django's scripts dress up stay below."""

# From the first byte on; what a click or a key moves is no jump.
WATCH_SHIFTS = """
window.shifted = [];
new PerformanceObserver((list) => {
  for (const entry of list.getEntries())
    if (!entry.hadRecentInput)
      window.shifted.push([entry.value, entry.sources.map(({node}) =>
        node?.nodeType === 1 ? node.outerHTML.slice(0, 80) : String(node?.nodeName)).join(" | ")]);
}).observe({type: "layout-shift", buffered: true});
"""
_RUN = """async (only) => {
  // Django's admin lets colours glide from one theme to the other.
  await new Promise(requestAnimationFrame);
  await Promise.all(document.getAnimations().map((animation) => animation.finished.catch(() => null)));
  // Without preloading, which would add inline styles that our pages refuse.
  const options = {resultTypes: ["violations"], preload: false};
  if (only.length) options.runOnly = {type: "rule", values: only};
  const {violations} = await axe.run(document, options);
  return violations.filter(({impact}) => impact === "serious" || impact === "critical")
    .map(({id, nodes}) => `${id}: ${nodes.slice(0, 3).map((node) => node.html.slice(0, 140)).join(" | ")}`);
}"""
_LINKS = """() => [...document.querySelectorAll("a[href]")].filter((link) => !link.download).map((link) => link.href)"""
_OVERHANG = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@cache
def _axe() -> str:
    _, folder = packages(Path(__file__).resolve().parents[1] / "e2e" / "axe")
    return (folder / "axe-core" / "axe.min.js").read_text()


def size_of(document: str) -> int:
    """Bytes of a page, without the empty space that the templates of Django's forms leave between tags."""
    return len(re.sub(r"\s*\n\s*", "\n", document).encode())


def findings(page: Page, *, only: tuple[str, ...] = ()) -> list[str]:
    """What axe-core finds on the page as it is now that is serious or worse; `only` these rules if given."""
    if not page.evaluate("Boolean(window.axe)"):
        page.evaluate(_axe())
    found: list[str] = page.evaluate(_RUN, list(only))
    return found


def wider_than(page: Page) -> list[str]:
    """The widths at which the page has to be pushed sideways."""
    size, found = page.viewport_size, []
    for name, (width, height) in WIDTHS.items():
        page.set_viewport_size({"width": width, "height": height})
        if (pixels := page.evaluate(_OVERHANG)) > 0:
            found.append(f"{pixels} pixels wider than a {name} ({width})")
    if size:
        page.set_viewport_size(size)
    return found


def shifts(page: Page) -> list[str]:
    """What moved while the page came, if it was more than a trifle."""
    moved: list[tuple[float, str]] = page.evaluate("window.shifted ?? []")
    return [f"{value:.3f}: {what}" for value, what in moved] if sum(v for v, _ in moved) > MOST_SHIFT else []


def judged(page: Page) -> list[str]:
    """Everything that is wrong with the page that is open, in both themes and all widths."""
    found = shifts(page)
    page.emulate_media(color_scheme="light")
    found += findings(page)
    found += wider_than(page)
    page.emulate_media(color_scheme="dark")
    found += [f"dark: {finding}" for finding in findings(page, only=("color-contrast",))]
    page.emulate_media(color_scheme="light")
    return found


def view_of(url: str) -> str | None:
    """The name of the view at a URL; None for what is no page of ours."""
    try:
        match = resolve(urlsplit(url).path)
    except Resolver404:
        return None
    return match.view_name or match.route


def linked_pages(page: Page, *, origin: str, below: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """The (view, URL) of each link on the page that leads to a path below one of these."""
    for url in page.evaluate(_LINKS):
        parts = urlsplit(url)
        if (
            f"{parts.scheme}://{parts.netloc}" == origin
            and "_popup" not in parts.query
            and parts.path.startswith(below)
            and (view := view_of(url))
        ):
            yield view, url.partition("#")[0]
