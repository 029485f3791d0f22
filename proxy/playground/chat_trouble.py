"""What can go wrong between gateway and model, in sentences that hold nothing of the endpoint's own words."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import Final

from django.utils import timezone

from servers.errors import GatewayError

_LONGEST_WAIT: Final = 24 * 3600
_TELL_ADMIN: Final = "Try again in a moment; if it stays, tell an admin."
SENTENCES: Final = {
    "model_address": "The gateway may not call this model's address. An admin has to look at its endpoint.",
    "model_key_missing": "The gateway has no usable key for this model. An admin has to set it again.",
    "model_key_refused": "The model's endpoint refuses the gateway's key. An admin has to renew it.",
    "model_unreachable": f"The model cannot be reached. {_TELL_ADMIN}",
    "model_slow": f"The model has said nothing for too long. {_TELL_ADMIN}",
    "model_busy": "The model's endpoint takes no more requests now (429).",
    "model_not_there": "The model's endpoint does not know this model or address. An admin has to look at it.",
    "model_not_accepted": (
        "The model's endpoint did not accept the request. The conversation may be too long for it, or it cannot use "
        "tools. Begin a new chat, choose fewer tools or another model."
    ),
    "model_failed": f"The model's endpoint failed. {_TELL_ADMIN}",
    "model_garbage": f"The model's endpoint answered something that is no chat. {_TELL_ADMIN}",
    "model_too_long": "The model's answer is longer than the gateway takes, so it was stopped.",
    "model_cut_off": "The model's answer broke off before its end. Send your message again.",
}


class Trouble(GatewayError):
    """A chat that could not go on. `code` is one of SENTENCES."""

    def __init__(self, code: str, log_detail: str = "", *, retry_after: int | None = None) -> None:
        wait = "" if code != "model_busy" else _wait_sentence(retry_after)
        super().__init__(f"{SENTENCES[code]}{wait}", log_detail)
        self.code = code
        self.retry_after = retry_after


def trouble(code: str, log_detail: str = "") -> Trouble:
    """The failure with this code; `log_detail` is ours, never the endpoint's."""
    return Trouble(code, log_detail)


def of_status(status: int, retry_after: str = "") -> Trouble | None:
    """What an answer's status says was wrong; None for 200."""
    detail = f"HTTP {status}"
    match status:
        case 200:
            return None
        case 401 | 403:
            return Trouble("model_key_refused", detail)
        case 404 | 405 | 410:
            return Trouble("model_not_there", detail)
        case 429:
            return Trouble("model_busy", detail, retry_after=_seconds(retry_after))
        case 400 | 413 | 422:
            return Trouble("model_not_accepted", detail)
        case 408 | 504:
            return Trouble("model_slow", detail)
        case _ if 300 <= status < 400:
            return Trouble("model_not_there", f"{detail}: redirects are not followed")
    return Trouble("model_failed", detail)


def _seconds(value: str) -> int | None:
    """Retry-After, which is a number of seconds or a date; None where it is neither."""
    if value.isascii() and value.isdigit() and len(value) < 9:
        return min(int(value), _LONGEST_WAIT)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    if at.tzinfo is None:
        return None
    return max(0, min(round((at - timezone.now()).total_seconds()), _LONGEST_WAIT))


def _wait_sentence(seconds: int | None) -> str:
    if not seconds:
        return " Wait a moment and send again."
    return f" It asks to wait {seconds} second{'' if seconds == 1 else 's'}."
