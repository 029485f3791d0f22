"""What a caller is told whose way is not free, and who cannot open it by connecting something."""

from __future__ import annotations

from proxy import errors
from proxy.pipeline import NoCredential, NotAllowed, NoToken, Outcome


def failure_of(outcome: Outcome) -> errors.Failure:
    """The failure for the outcome of `prepare_call` that is none of Prepared, NotConnected, Unauthenticated."""
    if isinstance(outcome, NotAllowed):
        return errors.denied(outcome.decision, outcome.server.name)
    if isinstance(outcome, NoCredential):
        return errors.secret_unavailable(outcome.server.name)
    if isinstance(outcome, NoToken):
        return errors.no_token(outcome.server.name, outcome.failure.sentence)
    return errors.UNKNOWN_SERVER
