"""The lifetime of a sandbox: in the running event loop, or in a thread of its own."""

import asyncio
import contextlib
import secrets
import socket
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from hinow_async.sandbox.app import Service
from hinow_async.sandbox.behaviour import Behaviour
from hinow_async.sandbox.billing import Billing, RequestLog

_LARGEST_BODY = 64 * 1024 * 1024  # bytes: reference images travel in requests
_CLOSING = 5.0  # seconds that handlers get to end
_LINGERING = 0.5  # seconds for clients to take the answers that were being written


class Sandbox:
    """The HInow service in small, on loopback, with a key of its own.

    Entered with ``async with`` (or ``start`` and ``aclose``) it runs in the caller's event loop; with
    ``in_thread`` in a loop and a thread of its own, for synchronous code. A sandbox that was closed can be
    started again: same address, same key, same accounts.

    Args:
        behaviour: How it behaves; None: fast, unlimited, without faults.
        port: Where it listens on 127.0.0.1; 0: a free one.
    """

    def __init__(self, behaviour: Behaviour | None = None, *, port: int = 0) -> None:
        self.api_key = f"hi_{secrets.token_urlsafe(24)}"
        self._service = Service(behaviour or Behaviour(), self.api_key)
        self._port = port
        self._listener: asyncio.Server | None = None
        self._server: web.Server | None = None
        self._handlers: set[asyncio.Task[Any]] = set()

    def __repr__(self) -> str:
        return f"<Sandbox {self.origin}>" if self._port else "<Sandbox, not started>"

    @property
    def origin(self) -> str:
        """``http://127.0.0.1:<port>``."""
        if not self._port:
            raise RuntimeError("the sandbox has no address before it is started")
        return f"http://127.0.0.1:{self._port}"

    @property
    def base_url(self) -> str:
        """The root of the API: ``http://127.0.0.1:<port>/v1``."""
        return f"{self.origin}/v1"

    @property
    def billing(self) -> Billing:
        """What it did and charged for."""
        return self._service.account.billing

    @property
    def log(self) -> RequestLog:
        """The last 10,000 requests."""
        return self._service.log

    @property
    def behaviour(self) -> Behaviour:
        """How it behaves now."""
        return self._service.behaviour

    def change(self, **changes: Any) -> None:
        """Behave differently from the next request on: any options of ``Behaviour``, from any thread.

        Limits per minute and faults start anew when they are among *changes*, else they go on counting.
        """
        self._service.change(**changes)

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the port is taken.
        """
        if self._listener is not None:
            raise RuntimeError("the sandbox is already running")
        self._server = web.Server(self._handle, request_factory=_make_request, access_log=None)
        listener = await asyncio.get_running_loop().create_server(
            self._server, "127.0.0.1", self._port, family=socket.AF_INET, backlog=1024
        )
        self._listener = listener
        self._port = listener.sockets[0].getsockname()[1]
        self._service.bind(self._port)

    async def aclose(self) -> None:
        """Stop at once: no new connections, what is being worked on is cancelled (and stays billed)."""
        listener, server = self._listener, self._server
        self._listener = self._server = None
        if listener is None or server is None:
            return
        listener.close()
        await self._cancel_handlers()
        transports = [connection.transport for connection in server.connections]
        server.pre_shutdown()
        await server.shutdown(_LINGERING)
        for transport in transports:
            if transport is not None:
                transport.abort()  # else one whose client does not read would wait for ever
        await self._service.files.aclose()
        async with asyncio.timeout(_CLOSING):
            await listener.wait_closed()

    async def _cancel_handlers(self) -> None:
        handlers = list(self._handlers)
        for handler in handlers:
            handler.cancel()
        if handlers:
            await asyncio.wait(handlers, timeout=_CLOSING)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    @classmethod
    @contextlib.contextmanager
    def in_thread(cls, behaviour: Behaviour | None = None, *, port: int = 0) -> Iterator[Self]:
        """The same in a thread of its own: ``with Sandbox.in_thread() as sandbox:``."""
        sandbox = cls(behaviour, port=port)
        keeper = _Keeper(sandbox)
        keeper.start()
        try:
            yield sandbox
        finally:
            keeper.stop()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        handler = asyncio.current_task()
        if handler is None:  # pragma: no cover - aiohttp runs handlers in tasks
            return await self._service.handle(request)
        self._handlers.add(handler)
        try:
            return await self._service.handle(request)
        finally:
            self._handlers.discard(handler)


def _make_request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=_LARGEST_BODY)


class _Keeper:
    """Keeps a sandbox running in a thread."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._thread = threading.Thread(target=self._run, name="hinow-sandbox", daemon=True)
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None

    def start(self) -> None:
        """Return when the sandbox listens."""
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure

    def stop(self) -> None:
        """Return when nothing of it is left."""
        if self._loop is not None and self._stopping is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # handed to the thread that starts or stops it
            self._failure = error
        finally:
            self._started.set()

    async def _serve(self) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        async with self._sandbox:
            self._started.set()
            await self._stopping.wait()
