"""Headless Chromium, watched: a page that logs an error or breaks its content security policy fails the test."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, Response, sync_playwright

SCREENSHOTS = Path(__file__).resolve().parent.parent / "screenshots"
FIELDS_OFF_SCREEN = """() => [...document.querySelectorAll(".form-row :is(input, select, textarea)")]
    .filter((field) => field.getClientRects().length && field.type !== "hidden"
        && !field.classList.contains("select2-hidden-accessible")
        && field.getBoundingClientRect().right > document.documentElement.clientWidth)
    .map((field) => field.name)"""
DESKTOP = {"width": 1280, "height": 860}
PHONE = {"width": 390, "height": 844}
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def chromium_path() -> str:
    """Where Chromium is; without it the test is skipped, or fails in CI, where nothing is left out."""
    for name in _NAMES:
        if found := shutil.which(name):
            return found
    reason = f"no Chromium found (looked for {', '.join(_NAMES)}); on Debian: apt-get install chromium"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One Chromium for all browser tests; while it runs, this thread has an event loop running."""
    path = chromium_path()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path,
            args=[
                "--no-sandbox",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
            ],
        )
        yield browser
        browser.close()


@dataclass
class Window:
    """One browser window and what went wrong in it."""

    page: Page
    trouble: list[str] = field(default_factory=list)
    expected_status: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.trouble.append(f"script error: {error}"))
        self.page.on("response", self._response)
        self.page.on("requestfailed", self._failed)

    def _console(self, message: ConsoleMessage) -> None:
        # What Chromium says about an answer's status is judged by _response.
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            self.trouble.append(f"{message.type} on {self.page.url}: {message.text}")

    def _failed(self, request: Request) -> None:
        # A page that is left while it loads is not trouble.
        if request.failure != "net::ERR_ABORTED":
            self.trouble.append(f"{request.failure} for {request.url}")

    def _response(self, response: Response) -> None:
        if response.status >= 400 and response.status not in self.expected_status:
            self.trouble.append(f"{response.status} for {response.url}")

    def shoot(self, name: str, *, full_page: bool = True) -> None:
        """Keep pictures of the page as it is, on a desktop and on a phone.

        Nothing may stick out sideways, and no field of a form may lie where one has to push the page aside.
        """
        SCREENSHOTS.mkdir(exist_ok=True)
        for label, size in (("desktop", DESKTOP), ("phone", PHONE)):
            self.page.set_viewport_size(size)  # type: ignore[arg-type]
            self.page.screenshot(path=SCREENSHOTS / f"{name}-{label}.png", full_page=full_page)
            overhang = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            if overhang > 0:
                self.trouble.append(f"{name}: {overhang} pixels wider than a {label} screen")
            if fields := self.page.evaluate(FIELDS_OFF_SCREEN):
                self.trouble.append(f"{name}: off a {label} screen: {', '.join(fields)}")
        self.page.set_viewport_size(DESKTOP)  # type: ignore[arg-type]


def open_window(browser: Browser, *, dark: bool = False) -> tuple[BrowserContext, Window]:
    """A fresh window with its own cookies."""
    context = browser.new_context(
        viewport=DESKTOP,  # type: ignore[arg-type]
        color_scheme="dark" if dark else "light",
        reduced_motion="reduce",
        service_workers="block",
    )
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    context.set_default_timeout(15_000)
    return context, Window(context.new_page())


@pytest.fixture
def window(browser: Browser) -> Iterator[Window]:
    """A window with its own cookies; at the end there must have been no trouble in it."""
    context, window = open_window(browser)
    yield window
    context.close()
    assert window.trouble == []


@pytest.fixture
def dark_window(browser: Browser) -> Iterator[Window]:
    """The same, for a person who prefers dark pages."""
    context, window = open_window(browser, dark=True)
    yield window
    context.close()
    assert window.trouble == []
