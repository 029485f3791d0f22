"""What each path of the Gateway API takes and answers, said once: views check and render by it, the document is made
from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NoReturn
from urllib.parse import urlencode

from django.conf import settings
from rest_framework import serializers
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import BasePermission, IsAuthenticated
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView

from authflows.inbound.api_callers import ApiCaller
from proxy.api import problems
from proxy.api.authentication import BearerAuthentication, SessionAuthentication
from proxy.api.parsing import StrictJson
from proxy.api.throttles import PerPerson

Shape = type[serializers.Serializer[Any]]


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. `problems` are the codes that it may answer besides those of every path."""

    name: str
    summary: str
    tag: str
    answer: Shape | None
    takes: Shape | None = None
    query: Shape | None = None
    status: int = 200
    paged: bool = False
    problems: Sequence[str] = ()
    text: str = ""


class Taken(serializers.Serializer[Any]):
    """A request body. A name that means nothing is refused, since it is a slip of the pen."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping) and (unknown := [str(name) for name in data if name not in self.fields]):
            raise serializers.ValidationError({name[:100]: ["There is no such field."] for name in unknown[:20]})
        return super().to_internal_value(data)


class PageQuery(serializers.Serializer[Any]):
    """Which part of a list."""

    limit = serializers.IntegerField(min_value=1, max_value=1000, default=100, help_text="At most so many items.")
    offset = serializers.IntegerField(min_value=0, default=0, help_text="How many items to leave out at the start.")


class ApiView(APIView):
    """The base of all views: who may knock, in which form, and how failures look."""

    authentication_classes: Sequence[type[BaseAuthentication]] = (BearerAuthentication, SessionAuthentication)
    permission_classes: Sequence[type[BasePermission]] = (IsAuthenticated,)
    throttle_classes: Sequence[type[BaseThrottle]] = (PerPerson,)
    renderer_classes = (JSONRenderer,)
    parser_classes = (StrictJson,)
    http_method_names = ["get", "head", "post", "put", "delete"]
    operations: ClassVar[Mapping[str, Operation]] = {}

    def get_exception_handler(self) -> Any:
        return problems.answer

    def throttled(self, request: Request, wait: float) -> NoReturn:
        raise problems.Problem("throttled", retry_after=wait)

    @property
    def caller(self) -> ApiCaller:
        """Who calls; for views that let nobody else in."""
        found = self.request.auth
        assert isinstance(found, ApiCaller)  # noqa: S101
        return found

    @property
    def operation(self) -> Operation:
        """What this request is."""
        method = str(self.request.method).lower()
        return self.operations["get" if method == "head" else method]

    def taken(self) -> dict[str, Any]:
        """The body, checked; raises ValidationError."""
        assert self.operation.takes is not None  # noqa: S101
        shape = self.operation.takes(data=self.request.data)
        shape.is_valid(raise_exception=True)
        return dict(shape.validated_data)

    def asked(self) -> dict[str, Any]:
        """The parameters of the query string, checked; raises ValidationError."""
        assert self.operation.query is not None  # noqa: S101
        shape = self.operation.query(data=self.request.query_params)
        shape.is_valid(raise_exception=True)
        return dict(shape.validated_data)

    def answer(self, value: Any) -> Response:
        """The answer in the shape of the operation."""
        assert self.operation.answer is not None  # noqa: S101
        return Response(self.operation.answer(value).data, status=self.operation.status)

    def page(self, found: Sequence[Any], asked: Mapping[str, Any], render: Any = None) -> Response:
        """A part of a list, and where the next one is. `render` makes a value of each item that is shown."""
        assert self.operation.answer is not None  # noqa: S101
        limit, offset = asked["limit"], asked["offset"]
        shown = found[offset : offset + limit]
        items = [render(one) for one in shown] if render is not None else shown
        following = None
        if offset + limit < len(found):
            kept = {**self.request.query_params.dict(), "limit": limit, "offset": offset + limit}
            following = f"{settings.PUBLIC_URL}{self.request.path}?{urlencode(kept)}"
        body = {"items": self.operation.answer(items, many=True).data, "total": len(found)}
        return Response({**body, "limit": limit, "offset": offset, "next": following})
