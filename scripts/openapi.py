"""Write docs/openapi.yaml from the code of the Gateway API, or see with `--check` that it is what the code says.

The generator is a development package: the gateway itself serves the file.
"""

# Django has to be set up before what is read of it.
# ruff: noqa: E402
from __future__ import annotations

import argparse
import os
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any, Final, Literal

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_project.settings")
django.setup()

from django.conf import settings
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.renderers import OpenApiYamlRenderer
from drf_spectacular.settings import patched_settings
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse
from drf_spectacular.validation import validate_schema
from rest_framework import serializers

from proxy.api.document import DOCUMENT
from proxy.api.operations import ApiView, Operation
from proxy.api.problems import CONTENT_TYPE, TYPES
from proxy.api.shapes import ProblemShape

_PATH_PARAMETERS: Final = {
    "tenant": "Slug of the tenant: the first part of the server's MCP URL.",
    "slug": "Slug of the server.",
    "tool": "Name of the tool; may hold slashes.",
    "code": "The `code` of a problem.",
    "server_id": "Id of the server.",
    "request_id": "Id of the request for access.",
}
_ALWAYS: Final = ("not_authenticated", "scope_insufficient", "throttled", "internal")
_DESCRIPTION: Final = """\
For scripts and programs: the servers that you may use, their tools, calls, connections and keys.

Send an API key, or an access token that was issued for the API, as `Authorization: Bearer …`. Every failure is a
problem (RFC 9457) with a stable `code`. Lists take `limit` and `offset`, and say in `next` where they go on. Paths and
fields may be added; nothing is taken away.
"""


class Schema(AutoSchema):
    """Reads the operations that views declare."""

    @property
    def operation(self) -> Operation | None:
        assert isinstance(self.view, ApiView)
        found: Operation | None = self.view.operations.get(self.method.lower())
        return found

    @property
    def declared(self) -> Operation:
        assert self.operation is not None
        return self.operation

    def is_excluded(self) -> bool:
        return self.operation is None

    def get_operation_id(self) -> str:
        return self.declared.name

    def get_summary(self) -> str:
        return self.declared.summary

    def get_description(self) -> str:  # type: ignore[override]
        return self.declared.text

    def get_tags(self) -> list[str]:
        return [self.declared.tag]

    def get_auth(self) -> list[dict[str, list[str]]]:
        return [{"key": []}, {"token": ["mcp"]}, {"session": []}] if self.view.authentication_classes else [{}]

    def get_override_parameters(self) -> list[Any]:
        named = [
            OpenApiParameter(name, str, OpenApiParameter.PATH, description=text)
            for name, text in _PATH_PARAMETERS.items()
            if f"{{{name}}}" in self.path
        ]
        return [*named, *([self.declared.query] if self.declared.query is not None else [])]

    def get_request_serializer(self) -> Any:
        return self.declared.takes

    def get_response_serializers(self) -> Any:
        declared = self.declared
        shape = _page_of(declared.answer) if declared.paged and declared.answer is not None else declared.answer
        good = OpenApiResponse(shape, description="Done." if shape is None else "")
        answers: dict[Any, OpenApiResponse] = {(declared.status, "application/json"): good}
        by_status: dict[int, list[str]] = defaultdict(list)
        for code in self._problems():
            by_status[TYPES[code].status].append(f"`{code}`: {TYPES[code].title}.")
        for status, lines in sorted(by_status.items()):
            answers[status, CONTENT_TYPE] = OpenApiResponse(ProblemShape, description=" ".join(lines))
        return answers

    def _problems(self) -> list[str]:
        declared, found = self.declared, list(_ALWAYS)
        if not self.view.authentication_classes:
            found = ["not_found", "internal"]
        if declared.takes is not None:
            found += ["invalid", "malformed", "unsupported_media_type"]
        elif declared.query is not None:
            found += ["invalid"]
        if self.method not in ("GET", "HEAD") and self.view.authentication_classes:
            found += ["csrf_failed"]
        return [*found, *declared.problems]

    def get_serializer_name(
        self, serializer: serializers.Serializer[Any], direction: Literal["request", "response"]
    ) -> str:
        return type(serializer).__name__.removesuffix("Shape")


def _page_of(shape: type[serializers.Serializer[Any]]) -> type[serializers.Serializer[Any]]:
    members = {
        "items": shape(many=True),
        "total": serializers.IntegerField(help_text="Of all items, shown or not."),
        "limit": serializers.IntegerField(),
        "offset": serializers.IntegerField(),
        "next": serializers.URLField(allow_null=True, help_text="Where the list goes on; null: here it ends."),
    }
    return type(f"{shape.__name__.removesuffix('Shape')}Page", (serializers.Serializer,), members)


def made() -> bytes:
    """The document as the code has it now. Raises SystemExit when something in the code cannot be described."""
    ApiView.schema = Schema()
    options = {
        "TITLE": "Gatehouse Gateway API",
        "VERSION": settings.VERSION,
        "DESCRIPTION": _DESCRIPTION,
        "OAS_VERSION": "3.1.0",
        "COMPONENT_SPLIT_REQUEST": True,
        "ENABLE_DJANGO_DEPLOY_CHECK": False,
        "SCHEMA_PATH_PREFIX": "/api/v1",
        # Choices stay where they are used.
        "POSTPROCESSING_HOOKS": [],
        "APPEND_COMPONENTS": {
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "An API key: portal, API keys."},
                "token": {
                    "type": "oauth2",
                    "description": "A token for `resource` = `<public URL>/api/v1` (RFC 8707), with PKCE. It opens no "
                    "MCP URL.",
                    "flows": {
                        "authorizationCode": {
                            "authorizationUrl": "/authorize",
                            "tokenUrl": "/token",
                            "refreshUrl": "/token",
                            "scopes": {"mcp": "Everything that the person may; there is no other."},
                        }
                    },
                },
                "session": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": "__Host-gatehouse",
                    "description": "For pages of the gateway; with `X-CSRFToken` for all but GET.",
                },
            }
        },
    }
    with patched_settings(options):
        GENERATOR_STATS.reset()
        generator: Any = SchemaGenerator
        found = generator(urlconf="proxy.api.urls").get_schema(request=None, public=True)
        if GENERATOR_STATS:
            GENERATOR_STATS.emit_summary()
            raise SystemExit("The API's code cannot be described as it is.")
        validate: Any = validate_schema
        validate(found)
        renderer: Any = OpenApiYamlRenderer()
        text: bytes = renderer.render(found, renderer_context={})
    return text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail when the file is not what it were")
    check = parser.parse_args().check
    path, text = Path(settings.BASE_DIR) / DOCUMENT, made()
    if check:
        if path.read_bytes() == text:
            return 0
        print(f"{DOCUMENT} is not what the code says: run `python -m scripts.openapi`.")
        return 1
    path.write_bytes(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
