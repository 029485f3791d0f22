"""What the API says about itself: its OpenAPI document, and what its problem codes mean. For everybody."""

from __future__ import annotations

from functools import cache
from typing import Final

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe
from rest_framework.request import Request
from rest_framework.response import Response

from proxy.api.operations import ApiView, Operation
from proxy.api.problems import TYPES, Problem
from proxy.api.shapes import ProblemTypeShape

DOCUMENT: Final = "docs/openapi.yaml"
"""Written by scripts/openapi.py, which a check compares with the code."""


@cache
def _document() -> bytes:
    found: bytes = (settings.BASE_DIR / DOCUMENT).read_bytes()
    return found


@require_safe
@login_not_required
def openapi(request: HttpRequest) -> HttpResponse:
    """The OpenAPI 3 document, from the file that is kept with the code."""
    return HttpResponse(_document(), content_type="application/yaml; charset=utf-8")


class OneProblem(ApiView):
    """Where the `type` of a problem leads."""

    authentication_classes = ()
    permission_classes = ()
    operations = {
        "get": Operation("get_problem", "What a problem code means", "About", ProblemTypeShape, text="For everybody.")
    }

    def get(self, request: Request, code: str) -> Response:
        found = TYPES.get(code)
        if found is None:
            raise Problem("not_found")
        return self.answer({"code": code, "status": found.status, "title": found.title, "meaning": found.meaning})


class Nothing(ApiView):
    """Every path that is none of the API's."""

    def initial(self, request: Request, *args: object, **kwargs: object) -> None:
        super().initial(request, *args, **kwargs)
        raise Problem("not_found")
