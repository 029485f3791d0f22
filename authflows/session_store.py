"""Sessions of browsers in our own table (settings.SESSION_ENGINE): listed for their owner, and stored by digest."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any, Final

from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.backends.base import CreateError, SessionBase, UpdateError
from django.db import IntegrityError, transaction
from django.utils import timezone

SIGNED_IN: Final = "signed_in"
"""Key of the session's own note of who signed in from where and when; it survives a change of the cookie."""
STAMP_EVERY: Final = timedelta(minutes=5)


def digest_of(session_key: str) -> str:
    """SHA-256 of a cookie in hex. Cookies are random, so a plain hash is enough."""
    return hashlib.sha256(session_key.encode()).hexdigest()


class SessionStore(SessionBase):
    """What Django's database sessions do, in `SignInSession`."""

    def load(self) -> dict[str, Any]:
        now = timezone.now()
        rows = _rows().filter(digest=digest_of(self.session_key or ""))
        row = rows.filter(expires_at__gt=now).first()
        if row is None:
            self._session_key = None  # the name that the base class gives it
            return {}
        if now - row.last_seen_at > STAMP_EVERY:
            rows.update(last_seen_at=now)
        return self.decode(row.data)

    def exists(self, session_key: str) -> bool:
        return bool(_rows().filter(digest=digest_of(session_key)).exists())

    def create(self) -> None:
        while True:
            self._session_key = self._get_new_session_key()  # type: ignore[attr-defined]
            try:
                self.save(must_create=True)
            except CreateError:
                continue
            self.modified = True
            return

    def save(self, must_create: bool = False) -> None:
        if self.session_key is None:
            self.create()
            return
        data = self._get_session(no_load=must_create)  # type: ignore[attr-defined]
        note = data.get(SIGNED_IN, {}) if SESSION_KEY in data else {}
        values: dict[str, Any] = {
            "user_id": data.get(SESSION_KEY),
            "data": self.encode(data),
            "user_agent": note.get("user_agent", ""),
            "address": note.get("address", ""),
            "created_at": note.get("at", timezone.now()),
            "last_seen_at": timezone.now(),
            "expires_at": self.get_expiry_date(),
        }
        digest = digest_of(self.session_key)
        if not must_create:
            if not _rows().filter(digest=digest).update(**values):
                raise UpdateError  # ended while this request ran
            return
        try:
            with transaction.atomic():
                _rows().create(digest=digest, **values)
        except IntegrityError as error:
            if not self.exists(self.session_key):
                raise
            raise CreateError from error

    def delete(self, session_key: str | None = None) -> None:
        key = session_key or self.session_key
        if key is not None:
            _rows().filter(digest=digest_of(key)).delete()

    @classmethod
    def clear_expired(cls) -> None:
        _rows().filter(expires_at__lt=timezone.now()).delete()


def _rows() -> Any:
    # Imported late: settings name this module before the applications are ready.
    from authflows.models import SignInSession

    return SignInSession.objects
