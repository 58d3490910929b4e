"""The address that Prometheus scrapes, bounded in threads, connections, memory and time.

Connections wait on one thread; pages are made on another, one after the other, as prometheus_client
makes them. A slow connection is replaced by a new one: see `Endpoint.room`.
"""

from __future__ import annotations

import asyncio
import re
import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from io import BytesIO
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any
from wsgiref.simple_server import ServerHandler, WSGIRequestHandler

from prometheus_client import CollectorRegistry, exposition

from victor_otel.engine import failsafe
from victor_otel.engine.health import Health
from victor_otel.signals.settings import metrics_url
from victor_otel.signals.webconfig import REALM, Passwords, Watched

CONNECTIONS = 32
"""How many there are at once; further ones wait in the system's queue."""

HEAD_SECONDS = 5.0
"""Until a request has arrived, with the handshake before it."""

HEAD_BYTES = 16 * 1024
PAGE_SECONDS = 10.0
"""Until a page has been read."""

_BACKLOG = 1024
"""How many wait in the system's queue. Whom it has no place for tries again, ever more rarely."""

_SEND_BYTES = 128 * 1024
"""What the system may hold of a page that somebody does not read; by itself it takes megabytes."""

_PATIENCE = 0.001
"""Seconds between two connections, about as many as one takes: half of the time is Victor's."""

_CHECKS = 4
"""How many passwords may wait for bcrypt; whose password is known does not."""

_REST = 1.0
"""The longest rest in seconds."""

_READING, _WRITING, _WAITING = range(3)
"""What a connection does: send its request, read its page, wait for us. In the order of going."""

_END = re.compile(rb"\r?\n\r?\n")


class Registry(CollectorRegistry):
    """Answers `name[]` for OpenTelemetry's reader, which names nothing before."""

    def restricted_registry(self, names: Iterable[str]) -> Any:
        return SimpleNamespace(collect=partial(self._chosen, frozenset(names)))

    def _chosen(self, names: frozenset[str]) -> Iterator[Any]:
        """The families, or series, of these names."""
        for family in self.collect():
            samples = [s for s in family.samples if not names.isdisjoint((s.name, family.name))]
            if samples:
                family.samples = samples
                yield family


class Endpoint:
    """Serves a registry on a host and a port, 0 being any that is free.

    Raises:
        OSError: for an address that cannot be had.
        WebConfigError: for a web configuration that is not understood.
    """

    def __init__(
        self, host: str, port: int, registry: CollectorRegistry, health: Health, web_config: str
    ) -> None:
        self._web = Watched(Path(web_config)) if web_config else None
        library: Any = exposition
        self._app = _guarded(library.make_wsgi_app(registry), health)
        self._health = health
        self.socket = _listening(host, port)
        self.port: int = self.socket.getsockname()[1]
        web = self._web and self._web.current()
        self.url = metrics_url(host, self.port, "https" if web and web.tls else "http")
        self._environ = {"SERVER_NAME": host, "SERVER_PORT": str(self.port)}
        self._connections: dict[_Connection, None] = {}
        self._wanted: dict[tuple[str | None, ...], asyncio.Future[bytes]] = {}
        self._moved = asyncio.Event()
        self._passwords = Passwords()
        self._selector = selectors.DefaultSelector()
        self._loop = asyncio.SelectorEventLoop(self._selector)
        self._loop.set_exception_handler(self._caught)
        self._pages = _Worker("victor-otel-pages")
        self._checks = _Worker("victor-otel-passwords") if self._web else None
        self._thread = threading.Thread(target=self._run, name="victor-otel-endpoint", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends everything; a page that is being made is made."""
        self._loop.call_soon_threadsafe(
            lambda: [task.cancel() for task in asyncio.all_tasks(self._loop)]
        )
        self._thread.join()
        self.socket.close()
        for worker in (self._pages, self._checks):
            if worker is not None:
                worker.end()

    def abandon(self) -> None:
        """In a forked child: what the parent has open must not stay open behind its back."""
        self.socket.close()
        self._selector.close()
        for connection in self._connections:
            connection.socket.close()

    def _run(self) -> None:
        with (
            suppress(asyncio.CancelledError),
            asyncio.Runner(loop_factory=lambda: self._loop, debug=False) as runner,
        ):
            runner.run(self._accept())

    def _caught(self, _loop: Any, context: dict[str, Any]) -> None:
        """What asyncio would log: whatever is sent to us is no error of anybody's here."""
        error = context.get("exception")
        if isinstance(error, Exception) and not isinstance(error, OSError):
            failsafe.caught(self._health, "endpoint", error)

    async def _accept(self) -> None:
        while True:
            try:
                accepted, peer = await self._loop.sock_accept(self.socket)
            except OSError:  # no files left, mostly
                await asyncio.sleep(1)
                continue
            await self._room()
            connection = _Connection(accepted, peer)
            self._connections[connection] = None
            connection.task = self._loop.create_task(self._attend(connection))
            # Not in the task itself: one that is cancelled before its first step takes none.
            connection.task.add_done_callback(lambda _, one=connection: self._ended(one))
            await asyncio.sleep(_PATIENCE)

    async def _room(self) -> None:
        """Returns once there is room for one more.

        Full, the one that has been sending its request for longest goes, else the one that has
        been reading its page for longest. All waiting for pages, the new one waits as well.
        """
        while len(self._connections) >= CONNECTIONS:
            slowest = min(self._connections, key=lambda one: one.does)
            self._moved.clear()
            if slowest.does == _WAITING:
                await self._moved.wait()
            else:
                slowest.task.cancel()
                await asyncio.wait([slowest.task])

    async def _attend(self, connection: _Connection) -> None:
        try:
            async with asyncio.timeout(HEAD_SECONDS):
                reader, writer = await self._opened(connection)
                head = await _head(reader)
            self._now(connection, _WAITING)
            page = await self._answer(head, connection.peer)
            self._now(connection, _WRITING)
            async with asyncio.timeout(PAGE_SECONDS):
                writer.write(page)
                writer.close()
                await writer.wait_closed()
        except (OSError, asyncio.CancelledError):
            # Also of TLS, of time, and of `_room`, after which nothing comes that could go wrong.
            pass
        except Exception as error:
            failsafe.caught(self._health, "endpoint", error)

    def _ended(self, connection: _Connection) -> None:
        del self._connections[connection]
        self._moved.set()
        if connection.transport is not None:
            connection.transport.abort()
        else:
            connection.socket.close()

    def _now(self, connection: _Connection, does: int) -> None:
        connection.does = does
        self._moved.set()

    async def _opened(
        self, connection: _Connection
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        tls = self._web.current().tls if self._web else None
        reader = asyncio.StreamReader(limit=HEAD_BYTES)
        protocol = _Protocol(reader, connection)
        patience = {} if tls is None else {"ssl_handshake_timeout": HEAD_SECONDS}
        transport, _ = await self._loop.connect_accepted_socket(
            lambda: protocol, connection.socket, ssl=tls, **patience
        )
        connection.transport = transport
        return reader, asyncio.StreamWriter(transport, protocol, reader, self._loop)

    async def _answer(self, head: bytes, peer: Any) -> bytes:
        request = _Request(head, peer, self._environ)
        if not request.understood:
            return request.answer
        if self._web and self._checks and (users := self._web.current().users):
            right = self._passwords.check(users, request.headers.get("Authorization"))
            if not isinstance(right, bool):
                if self._checks.waiting >= _CHECKS:
                    return request.run(partial(_plain, HTTPStatus.SERVICE_UNAVAILABLE))
                right = await self._checks.do(right)
            if not right:
                return request.run(_unauthorized)
        return await self._page(request)

    async def _page(self, request: _Request) -> bytes:
        """One page for all who wait for the same one; who comes once it is begun gets the next."""
        asked = request.headers.get("Accept"), request.headers.get("Accept-Encoding")
        key = (request.requestline, *asked)

        def make() -> bytes:
            del self._wanted[key]
            return request.run(self._app)

        page = self._wanted.get(key)
        if page is None:
            page = self._wanted[key] = asyncio.ensure_future(self._pages.do(make))
        return await asyncio.shield(page)


@dataclass(eq=False)
class _Connection:
    socket: socket.socket
    peer: Any
    does: int = _READING
    task: asyncio.Task[None] = field(init=False)
    transport: asyncio.Transport | None = None


class _Protocol(asyncio.StreamReaderProtocol):
    """Knows when there is nothing left to abort: asyncio's transports do not bear it then."""

    def __init__(self, reader: asyncio.StreamReader, connection: _Connection) -> None:
        super().__init__(reader)
        self._connection = connection

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.transport = None
        super().connection_lost(exc)


class _Worker:
    """Does one thing at a time, on a thread of its own, and rests for as long as that took.

    So those who ask again and again get half of one thread, and Victor's work the rest.
    """

    def __init__(self, name: str) -> None:
        self._asked: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    async def do(self, work: Callable[[], Any]) -> Any:
        done: Future[Any] = Future()
        self._asked.put((done, work))
        return await asyncio.wrap_future(done)

    @property
    def waiting(self) -> int:
        return self._asked.qsize()

    def end(self) -> None:
        self._asked.put(None)
        self._thread.join()

    def _serve(self) -> None:
        while (asked := self._asked.get()) is not None:
            done, work = asked
            if not done.set_running_or_notify_cancel():
                continue
            began = time.perf_counter()
            try:
                done.set_result(work())
            except Exception as error:
                done.set_exception(error)
            time.sleep(min(time.perf_counter() - began, _REST))


class _Request(WSGIRequestHandler):
    """A request that has been read: what prometheus_client's own server does, with bytes."""

    understood = False

    def __init__(self, head: bytes, peer: Any, environ: dict[str, str]) -> None:
        self._head, self._answer = head, BytesIO()
        # Not this object itself: pages would stay until the garbage collector comes.
        server: Any = SimpleNamespace(base_environ=environ)
        super().__init__(server, peer, server)

    def setup(self) -> None:
        self.rfile, self.wfile = BytesIO(self._head), self._answer

    def handle(self) -> None:
        self.raw_requestline = self.rfile.readline()
        if len(self._head) > HEAD_BYTES:
            self.requestline = self.request_version = self.command = ""
            self.send_error(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        else:
            self.understood = self.parse_request()

    def finish(self) -> None: ...

    def run(self, app: Any) -> bytes:
        """What a WSGI application answers."""
        environ = self.get_environ()
        handler: Any = ServerHandler(
            BytesIO(), self._answer, sys.stderr, environ, multithread=False
        )
        handler.request_handler = self
        handler.run(app)
        return self.answer

    @property
    def answer(self) -> bytes:
        return self._answer.getvalue()

    def log_message(self, format: str, *_: object) -> None:  # noqa: A002
        """Nothing: whoever comes could fill the log."""


async def _head(reader: asyncio.StreamReader) -> bytes:
    """A request without its body, which nobody reads; no more than a byte above the bound."""
    head = b""
    while len(head) <= HEAD_BYTES:
        more = await reader.read(HEAD_BYTES + 1 - len(head))
        if not more:
            raise ConnectionAbortedError
        known = len(head)
        head += more
        # What ends it may have begun in what was there.
        if _END.search(head, max(0, known - 3)):
            break
    return head


def _guarded(app: Any, health: Health) -> Any:
    """prometheus_client's application, where a collector may raise and a header be nonsense."""

    def answer(environ: dict[str, Any], start_response: Any) -> Any:
        try:
            exposition.choose_encoder(environ.get("HTTP_ACCEPT", ""))
        except Exception:
            del environ["HTTP_ACCEPT"]
        try:
            return app(environ, start_response)
        except Exception as error:
            failsafe.caught(health, "endpoint", error)
        return _plain(HTTPStatus.INTERNAL_SERVER_ERROR, environ, start_response)

    return answer


def _unauthorized(environ: Any, start_response: Any) -> Any:
    asked = ("WWW-Authenticate", f'Basic realm="{REALM}"')
    return _plain(HTTPStatus.UNAUTHORIZED, environ, start_response, asked)


def _plain(
    status: HTTPStatus, _environ: Any, start_response: Any, *headers: tuple[str, str]
) -> list[bytes]:
    start_response(f"{status.value} {status.phrase}", [("Content-Type", "text/plain"), *headers])
    return [f"{status.phrase}\n".encode()]


def _listening(host: str, port: int) -> socket.socket:
    family, _, _, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listening = socket.socket(family)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # What is accepted has it from here.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BYTES)
        listening.bind(address)
        listening.listen(_BACKLOG)
    except OSError:
        listening.close()
        raise
    listening.setblocking(False)
    return listening
