"""A person who has accounts at the provider of a server too."""

from __future__ import annotations

from functools import partial

from playwright.sync_api import Browser, expect

from tests.e2e.test_portal_pages import sign_in
from tests.interop.sign_in.person import Person
from tests.support.oidc_provider import PASSWORD, OidcProvider


class ConnectingPerson(Person):
    """Signs in at the gateway and at the provider, each with its own page and password."""

    def __init__(self, browser: Browser, name: str, *, origin: str, provider: OidcProvider) -> None:
        super().__init__(browser, name, origin=origin)
        self._provider = provider
        self._signed_in_there = ""

    @property
    def origins(self) -> tuple[str, str]:
        """Of the gateway and of the provider: where the person is before they come back to a client."""
        return self.origin, self._provider.issuer

    def approve_and_connect(self, url: str, account: str) -> None:
        """Open a URL that a client opened, approve, allow it at the provider, and come back to the client."""
        self.decide(url, "Approve")
        self.allow(account)
        self.page.wait_for_url(lambda reached: not reached.startswith(self.origins))

    def as_account(self, account: str) -> partial[None]:
        """What a client's browser does when the person says yes everywhere."""
        return partial(self.approve_and_connect, account=account)

    def connect_by_link(self, url: str, account: str) -> None:
        """Open the link of an answer and do what the page says."""
        self.page.goto(url)
        self.read.append(self.page.locator("main").inner_text())
        self.page.get_by_role("button", name="Connect Now").click()
        self.allow(account)
        self.page.get_by_role("heading", name="is connected").wait_for()

    def sign_in(self) -> None:
        """At the gateway, without a client."""
        sign_in(self.page, self.origin, self.name)

    def connect_in_portal(self, server: str, account: str) -> None:
        """Connect Now in the list of connections."""
        self.page.goto(f"{self.origin}/portal/connections/")
        self.page.get_by_role("button", name=f"Connect Now {server}").click()
        self.allow(account)
        self.page.wait_for_url(f"{self.origin}/portal/connections/")

    def use_another_account(self, server: str, account: str) -> None:
        """In the portal, and at the provider."""
        self.page.goto(f"{self.origin}/portal/connections/")
        self.page.get_by_role("button", name=f"Use another account for {server}").click()
        self.page.get_by_role("button", name="Another account").click()
        self._signed_in_there = ""
        self.allow(account)
        self.page.wait_for_url(f"{self.origin}/portal/connections/")

    def revoke(self, server: str) -> None:
        """In the portal."""
        self.page.goto(f"{self.origin}/portal/connections/")
        self.page.get_by_role("link", name=f"Revoke the connection to {server}").click()
        self.page.get_by_role("button", name="Revoke the connection").click()
        expect(self.page.get_by_role("status").first).to_contain_text("the provider ended the authorization too")

    def allow(self, account: str) -> None:
        """On the pages of the provider, which remembers who signed in there."""
        if self._signed_in_there != account:
            self.page.get_by_label("Account name").fill(account)
            self.page.get_by_label("Password").fill(PASSWORD)
            self.page.get_by_role("button", name="Sign in").click()
            self._signed_in_there = account
        self.page.get_by_role("button", name="Allow").click()
