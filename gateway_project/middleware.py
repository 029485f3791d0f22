"""Request ids and security headers for the Django side."""

from __future__ import annotations

import re
from collections.abc import Callable

from django.conf import settings
from django.http import FileResponse, HttpRequest, HttpResponse
from whitenoise.middleware import WhiteNoiseMiddleware
from whitenoise.responders import StaticFile

from servers.request_id import new_request_id, set_request_id

GetResponse = Callable[[HttpRequest], HttpResponse]


class RequestIdMiddleware:
    """Names each request; the id is in every log line and in the `X-Request-Id` answer header."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request_id = new_request_id()
        set_request_id(request_id)
        response = self.get_response(request)
        response["X-Request-Id"] = request_id
        return response


class SecurityHeadersMiddleware:
    """The strict Content-Security-Policy and its companions on every page (T13, T25)."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response
        self._policy = "; ".join(f"{name} {' '.join(values)}" for name, values in settings.SECURE_CSP.items())

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        response.headers.setdefault("Content-Security-Policy", self._policy)
        response.headers.setdefault("Permissions-Policy", "camera=(), microphone=(), geolocation=()")
        if not re.match(r"/static/", request.path):
            response.headers.setdefault("Cache-Control", "no-store")
        return response


class StaticFilesMiddleware(WhiteNoiseMiddleware):  # type: ignore[misc]
    """Static files whole instead of as a stream: all are small, and ASGI would read the stream through a thread."""

    @staticmethod
    def serve(static_file: StaticFile, request: HttpRequest) -> HttpResponse:
        stream: FileResponse = WhiteNoiseMiddleware.serve(static_file, request)
        try:
            response = HttpResponse(b"".join(stream), status=stream.status_code)
        finally:
            stream.close()
        for name in list(response.headers):
            del response.headers[name]
        for name, value in stream.headers.items():
            response.headers[name] = value
        return response
