"""An endpoint of ours, with scrapers of every kind that come to it."""

from __future__ import annotations

import socket
import ssl
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import psutil
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from victor_otel.engine import failsafe
from victor_otel.engine.health import Health
from victor_otel.signals.endpoint import Endpoint, Registry

GET = b"GET /metrics HTTP/1.1\r\nHost: victor\r\n\r\n"
PATIENCE = 60
"""Seconds for what takes none; a machine may be busy."""


class Visitor:
    """Whoever comes to an endpoint."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint

    def scrape(self, context: ssl.SSLContext | None = None, **headers: str) -> bytes:
        request = urllib.request.Request(self.endpoint.url, headers=headers)
        with urllib.request.urlopen(request, timeout=PATIENCE, context=context) as answer:
            return answer.read()

    def connect(self, *, buffer: int = 0) -> socket.socket:
        """A connection; `buffer` is how many bytes it takes before they are read."""
        made = socket.socket()
        if buffer:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        made.settimeout(PATIENCE)
        made.connect(("127.0.0.1", self.endpoint.port))
        return made

    def does(self) -> list[int]:
        """What its connections do."""
        return [one.does for one in list(self.endpoint._connections)]

    def ask(self, sent: bytes) -> bytes:
        """All that is answered to bytes, until the connection is closed or reset."""
        with self.connect() as connection:
            received = b""
            try:
                connection.sendall(sent)
                while more := connection.recv(65536):
                    received += more
            except ConnectionError:
                pass
            return received


class Served(Visitor):
    """An endpoint of a registry's, and what it should answer."""

    def __init__(self, web_config: Path | None = None, registry: CollectorRegistry | None = None):
        self._before = Counter(threads())
        self.registry = registry or page_of_one_series()
        self.health = Health()
        config = str(web_config) if web_config else ""
        super().__init__(Endpoint("127.0.0.1", 0, self.registry, self.health, config))

    @property
    def page(self) -> bytes:
        return generate_latest(self.registry)

    @property
    def threads(self) -> list[str]:
        """Those that it began."""
        return sorted((Counter(threads()) - self._before).elements())


@contextmanager
def serving(*arguments: Any) -> Iterator[Served]:
    """An endpoint that makes no error. Its threads could not fail a test, so errors are counted."""
    served = Served(*arguments)
    with mock.patch.object(failsafe, "STRICT", new=False):
        try:
            yield served
        finally:
            served.endpoint.close()
    assert served.health.errors == {}


@contextmanager
def crowd(visitor: Visitor, count: int, sent: bytes = b"", *, buffer: int = 0) -> Iterator[None]:
    """Connections that say `sent` and nothing further."""
    with ExitStack() as stack:
        for _ in range(count):
            connection = stack.enter_context(visitor.connect(buffer=buffer))
            try:
                connection.sendall(sent)
            except ConnectionError:  # gave way to a newer one already
                continue
        yield


def page_of_one_series() -> Registry:
    registry = Registry()
    Gauge("acme_answer", "One series", registry=registry).set(42)
    return registry


def threads() -> list[str]:
    """The names of ours."""
    return sorted(one.name for one in threading.enumerate() if one.name.startswith("victor-otel"))


def files() -> int:
    """How many this process has open."""
    return psutil.Process().num_fds()


def until(condition: Callable[[], bool]) -> None:
    """Waits for what happens on another thread."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def settled(expected: int, seconds: float = PATIENCE) -> int:
    """How many files are open once no more than `expected` are, or as many as still are."""
    deadline = time.monotonic() + seconds
    while files() > expected and time.monotonic() < deadline:
        time.sleep(0.01)
    return files()
