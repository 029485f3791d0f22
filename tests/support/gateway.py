"""The gateway under test: the real application on uvicorn, in a thread of this process."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from types import TracebackType

import uvicorn
from django.conf import settings

from proxy.http_server import LeanHttpProtocol
from servers.models import Server


def listening_socket() -> socket.socket:
    """A socket on a free loopback port."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 0))
    return listener


class _PromptServer(uvicorn.Server):
    """Uvicorn that ends as soon as it can: its own loops look ten times a second whether they may go on."""

    async def main_loop(self) -> None:
        self._loop, self._woken, ticks = asyncio.get_running_loop(), asyncio.Event(), 0
        while not await self.on_tick(ticks):
            ticks += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), 0.1)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        try:
            async with asyncio.timeout(self.config.timeout_graceful_shutdown):
                while self.server_state.connections or self.server_state.tasks:
                    await asyncio.sleep(0.002)
        except TimeoutError:
            for task in list(self.server_state.tasks):
                task.cancel()
        await self.lifespan.shutdown()

    def end(self) -> None:
        """Ask it from another thread to end."""
        self.should_exit = True
        with contextlib.suppress(AttributeError, RuntimeError):  # it has not begun, or has ended by itself
            self._loop.call_soon_threadsafe(self._woken.set)


class UvicornThread:
    """Any ASGI application on uvicorn in a thread; a context manager. `origin` is its base URL."""

    def __init__(self, application: object, **options: object) -> None:
        self._socket = listening_socket()
        self.port: int = self._socket.getsockname()[1]
        self.origin = f"http://127.0.0.1:{self.port}"
        config = uvicorn.Config(
            application,  # type: ignore[arg-type]
            loop="uvloop",
            http=LeanHttpProtocol,
            ws="none",
            interface="asgi3",
            access_log=False,
            log_config=None,
            timeout_graceful_shutdown=2,
            **options,  # type: ignore[arg-type]
        )
        self._server = _PromptServer(config)
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="uvicorn", daemon=True)

    def _run(self) -> None:
        async def serve() -> None:
            task = asyncio.ensure_future(self._server.serve(sockets=[self._socket]))
            while not self._server.started and not task.done():
                await asyncio.sleep(0.005)
            self._ready.set()
            await task

        runner = asyncio.Runner(loop_factory=self._loop_factory())
        with runner:
            runner.run(serve())

    @staticmethod
    def _loop_factory() -> object:
        import uvloop

        return uvloop.new_event_loop

    def __enter__(self) -> UvicornThread:
        self._thread.start()
        if not self._ready.wait(30) or not self._server.started:
            raise RuntimeError("the server did not start")
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._server.end()
        self._thread.join(30)


class LiveGateway(UvicornThread):
    """The gateway on the test database; use with `transactional_db`.

    Its public URL is the one it listens on, for as long as it runs.
    """

    def __init__(self) -> None:
        from gateway_project.asgi import application

        super().__init__(application, lifespan="on")
        self._public_url = settings.PUBLIC_URL

    def __enter__(self) -> LiveGateway:
        settings.PUBLIC_URL = self.origin
        settings.ALLOWED_ORIGINS = [self.origin]
        settings.CSRF_TRUSTED_ORIGINS = [self.origin]
        super().__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        super().__exit__(kind, value, tb)
        settings.PUBLIC_URL = self._public_url
        settings.ALLOWED_ORIGINS = [self._public_url]
        settings.CSRF_TRUSTED_ORIGINS = [self._public_url]

    def mcp_url(self, server: Server, endpoint: str = "server") -> str:
        """The MCP URL of a server on this gateway."""
        return f"{self.origin}/{server.tenant.slug}/mcp/{server.slug}/{endpoint}"
