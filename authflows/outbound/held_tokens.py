"""Tokens that the gateway asked for by itself: kept until shortly before their end, in this process only."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from authflows.outbound.credential_results import Credential, Kind, NotObtained, RefreshDue
from authflows.outbound.token_endpoint import Kind as FailureKind
from authflows.outbound.token_endpoint import TokenFailure
from servers import changes

_SOON_SECONDS: Final = 60.0
# For as long a provider that refused is not asked again.
_FAILURE_SECONDS: Final = 5.0
_MOST_FAILURES: Final = 10_000


@dataclass(frozen=True, slots=True)
class Obtained:
    """A token and its lifetime in seconds."""

    token: str = field(repr=False)
    lifetime: int


class _Failed(Exception):
    def __init__(self, failure: NotObtained) -> None:
        super().__init__(failure.code)
        self.failure = failure


class HeldTokens:
    """Credentials by key; one that runs out or was refused is asked for anew, once for all who wait."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._held: changes.Cache[Hashable, Credential] = changes.Cache(limit=20_000)
        self._failures: dict[Hashable, tuple[float, NotObtained]] = {}

    def find(
        self, key: Hashable, *, url: str, epoch: str, now: float, ask: Callable[[], Obtained | TokenFailure]
    ) -> Credential | RefreshDue:
        """The credential if it is there, else how to get one. `now` in Unix seconds."""
        found = self._held.peek(key)
        if found is not None and found.url == url and (found.until is None or now < found.until):
            return found
        obtain = partial(self._obtain, key, found, url, epoch, ask)
        return RefreshDue(key=(self._kind, key), epoch=epoch, obtain=obtain)

    def forget(self, part: Hashable) -> None:
        """Something changed that stands in the keys of these tokens."""
        self._failures.clear()
        self._held.evict_where(lambda key, _: part == key or (isinstance(key, tuple) and part in key))

    def clear(self) -> None:
        """Forget everything."""
        self._failures.clear()
        self._held.clear()

    def _obtain(
        self,
        key: Hashable,
        seen: Credential | None,
        url: str,
        epoch: str,
        ask: Callable[[], Obtained | TokenFailure],
    ) -> NotObtained | None:
        held = self._held.peek(key)
        if held is not None and held is not seen:
            return None  # somebody was faster
        failed_until, failure = self._failures.get(key, (0.0, None))
        if failure is not None and time.monotonic() < failed_until:
            return failure
        self._held.evict(key)
        try:
            self._held.get(key, partial(self._ask, key, url, epoch, ask))
        except _Failed as failed:
            if len(self._failures) >= _MOST_FAILURES:
                self._failures.clear()
            self._failures[key] = (time.monotonic() + _FAILURE_SECONDS, failed.failure)
            return failed.failure
        self._failures.pop(key, None)
        return None

    def _ask(self, key: Hashable, url: str, epoch: str, ask: Callable[[], Obtained | TokenFailure]) -> Credential:
        began = time.time()
        answer = ask()
        if isinstance(answer, TokenFailure):
            raise _Failed(NotObtained(answer.kind is not FailureKind.TEMPORARY, answer.code, answer.sentence))

        def renew() -> NotObtained | None:
            return self._obtain(key, credential, url, epoch, ask)

        credential = Credential(
            headers=(("Authorization", f"Bearer {answer.token}"),),
            epoch=epoch,
            shared=self._kind is Kind.CLIENT_CREDENTIALS,
            kind=self._kind,
            url=url,
            until=began + answer.lifetime - min(_SOON_SECONDS, answer.lifetime / 4),
            renew=renew,
        )
        return credential
