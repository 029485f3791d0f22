"""JSON log lines with request ids, and the filter that keeps secrets out of them (T56)."""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime
from typing import Any

from servers.request_id import current_request_id

# Our keys, bearer and basic credentials, and tokens in a query string, wherever they turn up.
_SECRET_SHAPES = re.compile(
    r"ghk_[A-Za-z0-9_-]{8}_[A-Za-z0-9_-]{10,}"
    r"|(?i:(?<=bearer )|(?<=basic ))[A-Za-z0-9._~+/=-]{8,}"
    r"|(?i:(?<=access_token=)|(?<=client_secret=)|(?<=refresh_token=)|(?<=code=))[^&\s\"']+"
)
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def redact(text: str) -> str:
    """The text with everything that has the shape of a secret replaced."""
    return _SECRET_SHAPES.sub("[redacted]", text)


class RedactSecrets(logging.Filter):
    """Renders the message once and redacts it, so that no later handler sees the arguments."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg = redact(record.getMessage())
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
        line |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info:
            line["exception"] = redact(self.formatException(record.exc_info))
        return json.dumps(line, default=str, ensure_ascii=False)
