"""Bodies of requests: one strict JSON object, as on the path of a call."""

from __future__ import annotations

from typing import IO, Any

from jiter import from_json
from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser


class StrictJson(BaseParser):
    """JSON without repeated names, NaN, or more nesting than anybody needs."""

    media_type = "application/json"

    def parse(self, stream: IO[Any], media_type: str | None = None, parser_context: Any = None) -> Any:
        try:
            return from_json(stream.read(), allow_inf_nan=False, catch_duplicate_keys=True)
        except ValueError as error:
            raise ParseError from error
