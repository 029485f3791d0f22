"""JSON log lines with request ids, and the filter that keeps secrets out of them (T56)."""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime
from typing import Any

from servers.request_id import current_request_id

# Our keys and tokens, one-time links, bearer and basic credentials, tokens in a query string, and JWTs,
# wherever they turn up.
_SECRET_SHAPES = re.compile(
    r"ghk_[A-Za-z0-9_-]{8}_[A-Za-z0-9_-]{10,}"
    r"|gh[or]_[A-Za-z0-9_-]{10,}"
    r"|(?<=/setup/)[A-Za-z0-9_-]{20,}"
    r"|(?i:(?<=bearer )|(?<=basic ))[A-Za-z0-9._~+/=-]{8,}"
    r"|(?i:(?<=access_token=)|(?<=client_secret=)|(?<=refresh_token=)|(?<=password=)|(?<=code=))[^&\s\"']+"
    r"|\beyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"
)
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def redact(text: str) -> str:
    """The text with everything that has the shape of a secret replaced."""
    return _SECRET_SHAPES.sub("[redacted]", text)


def _redacted(value: Any) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {str(key): _redacted(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float) else redact(str(value))


class RedactSecrets(logging.Filter):
    """Renders the message once and redacts it, so that no later handler sees the arguments."""

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            message = record.getMessage()
        except (TypeError, ValueError, KeyError):
            message = f"{record.msg} (its arguments do not fit)"
        record.msg = redact(message)
        record.args = ()
        return True


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, request id, extras, and a traceback if any."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id := current_request_id():
            line["request_id"] = request_id
        line |= {key: _redacted(value) for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info:
            line["exception"] = redact(self.formatException(record.exc_info))
        return json.dumps(line, default=str, ensure_ascii=False)
