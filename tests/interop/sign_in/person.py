"""A person at a browser who signs in at the gateway and says yes or no."""

from __future__ import annotations

import re
from functools import partial

from playwright.sync_api import Browser

from tests.conftest import PASSWORD
from tests.e2e.conftest import open_window


class Person:
    """One person with one browser, which stays signed in; close it with `close`."""

    def __init__(self, browser: Browser, name: str, *, origin: str) -> None:
        self.name = name
        self.origin = origin
        self._context, self._window = open_window(browser)
        self.page = self._window.page
        # What the approval pages said, one after the other.
        self.read: list[str] = []

    def close(self) -> None:
        """Leave. There must have been no trouble in the browser with pages of the gateway."""
        self._context.close()
        of_clients = re.compile(rf"(?:for|on) (?!{re.escape(self.origin)})http")
        ours = [trouble for trouble in self._window.trouble if not of_clients.search(trouble)]
        assert not ours, "\n".join(ours)

    def decide(self, url: str, button: str) -> None:
        """Open a URL that a client opened, sign in where asked to, press a button, and come back to the client."""
        self.press(url, button)
        self.page.wait_for_url(lambda reached: not reached.startswith(self.origin))

    def press(self, url: str, button: str) -> None:
        """The same, up to the button."""
        page = self.page
        page.goto(url)
        if page.get_by_label("Password", exact=True).is_visible():
            page.get_by_label("Username").fill(self.name)
            page.get_by_label("Password", exact=True).fill(PASSWORD)
            page.get_by_role("button", name="Sign in", exact=True).click()
        decision = page.get_by_role("button", name=button, exact=True)
        decision.wait_for()
        self.read.append(page.locator("main").inner_text())
        decision.click()

    @property
    def approves(self) -> partial[None]:
        """What a client's browser does when the person says yes."""
        return partial(self.decide, button="Approve")

    @property
    def denies(self) -> partial[None]:
        """What a client's browser does when the person says no."""
        return partial(self.decide, button="Deny")
