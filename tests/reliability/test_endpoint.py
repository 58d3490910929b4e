"""The endpoint among scrapers that are slow, broken, hostile or many."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import Gauge
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families

from tests.kit.agents import agent, model, sandboxed
from tests.reliability.scrapers import (
    GET,
    PATIENCE,
    Served,
    Visitor,
    crowd,
    files,
    page_of_one_series,
    serving,
    settled,
    threads,
    until,
)
from tests.reliability.trials import Trials
from victor_otel.demo.script import Step
from victor_otel.runtime import RUNTIME
from victor_otel.signals.endpoint import (
    _WAITING,
    _WRITING,
    CONNECTIONS,
    HEAD_BYTES,
    HEAD_SECONDS,
    Registry,
)

THREADS = ["victor-otel-endpoint", "victor-otel-pages"]
WITHIN = HEAD_SECONDS - 1
"""Seconds for one scrape. Nobody who is slow is waited for: that would take HEAD_SECONDS."""

HALF_OPEN = [b"", b"G", b"GET /metrics HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nAccept: text/plain\r\n"]


def timed(served: Served) -> float:
    """How long a good scraper waits for its page."""
    began = time.perf_counter()
    assert served.scrape() == served.page
    return time.perf_counter() - began


@pytest.fixture
def served() -> Iterator[Served]:
    with serving() as one:
        yield one


def test_half_open_scrapers_hold_no_thread_and_stop_nobody(served: Served, trials: Trials) -> None:
    count = trials.times(300, 3000)
    before = files()
    assert served.scrape() == served.page
    with ExitStack() as attack:
        for sent in HALF_OPEN:
            attack.enter_context(crowd(served, count // len(HALF_OPEN), sent))
        waited = [timed(served) for _ in range(3)]
        assert served.threads == THREADS
        ours = files() - before - count
        assert ours <= CONNECTIONS + 1  # one may have come and wait for another to go
    assert max(waited) < WITHIN
    assert settled(before) <= before
    trials.row(
        "half-open scrapers, and a good one among them",
        times=count,
        seen=f"{len(THREADS)} threads, {ours} connections, a page in {max(waited):.2f} s at most",
    )


def test_who_sends_no_request_is_dropped_though_nobody_else_comes(served: Served) -> None:
    with served.connect() as silent, served.connect() as dripping:
        began = time.perf_counter()
        with pytest.raises(ConnectionError):
            while time.perf_counter() - began < 10 * HEAD_SECONDS:
                dripping.sendall(b"a")
                time.sleep(0.1)
        assert silent.recv(1) == b""
        assert time.perf_counter() - began > HEAD_SECONDS - 1


def test_slow_readers_hold_no_thread_and_little_memory(trials: Trials) -> None:
    count = trials.times(300, 1000)
    registry = Registry()
    Gauge("acme_large", "a large page " * 50_000, registry=registry)
    with serving(None, registry) as served:
        before, page = files(), len(served.page)
        timed(served)
        tracemalloc.start()
        try:
            with crowd(served, count, GET, buffer=4096):
                waited = [timed(served) for _ in range(3)]
                assert served.threads == THREADS
                assert files() <= before + count + CONNECTIONS + 1
                _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert settled(before) <= before
    # A few are being made, or compared here; before 3.12 asyncio copies what it has yet to send.
    copies = 1 if sys.version_info >= (3, 12) else 2
    assert most < (copies * CONNECTIONS + 8) * page
    assert max(waited) < WITHIN
    trials.row(
        f"scrapers that read nothing of a page of {page / 1e6:.1f} MB, and a good one among them",
        times=count,
        seen=f"{len(THREADS)} threads, {most / page:.0f} times the page in memory at most, a page "
        f"in {max(waited):.2f} s at most",
    )


def test_a_reader_that_takes_its_time_gets_the_exact_page() -> None:
    registry = Registry()
    Gauge("acme_large", "a large page " * 50_000, registry=registry)
    with serving(None, registry) as served, served.connect(buffer=4096) as slow:
        slow.sendall(GET)
        until(lambda: served.does() == [_WRITING])
        received = b"".join(iter(lambda: slow.recv(65536), b""))
        assert received.partition(b"\r\n\r\n")[2] == served.page


CALLS_A_TURN = 20
TLS_HELLO = bytes.fromhex("16030100c8010000c403034ff5")
MALFORMED: dict[str, tuple[bytes, bytes]] = {
    "no request": (b"\r\n\r\n", b""),
    "one word": (b"metrics\r\n\r\n", b" 400 "),
    "no version": (b"GET /metrics\r\n\r\n", b"acme_answer 42"),
    "a version that is none": (b"GET / HTTP/x\r\n\r\n", b"400"),
    "a version to come": (b"GET / HTTP/3.0\r\n\r\n", b"505"),
    "a method that is none": (b"BREW /metrics HTTP/1.1\r\n\r\n", b" 405 "),
    "HEAD": (b"HEAD /metrics HTTP/1.1\r\n\r\n", b" 405 "),
    "a header without a colon": (b"GET / HTTP/1.1\r\nnonsense\r\n\r\n", b" 200 "),
    "an Accept that is none": (
        b"GET / HTTP/1.1\r\nAccept: application/openmetrics-text;version=x\r\n\r\n",
        b" 200 ",
    ),
    "bytes beyond ASCII": (b"GET /\xff\xfe HTTP/1.1\r\nA: \xff\r\n\r\n", b" 200 "),
    "zeros": (b"\0" * 100 + b"\r\n\r\n", b"400"),
    "lines that end as on Unix": (b"GET / HTTP/1.1\n\n", b" 200 "),
    "a body that is announced": (
        b"POST / HTTP/1.1\r\nContent-Length: 1000000000\r\n\r\n",
        b" 405 ",
    ),
    "more headers than http.client takes": (
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n",
        b" 431 ",
    ),
    "two requests at once": (GET + GET, b" 200 "),
}


@pytest.mark.parametrize(("sent", "answered"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_request_is_answered_once_and_harms_nobody(
    served: Served, sent: bytes, answered: bytes
) -> None:
    found = served.ask(sent)
    assert answered in found
    assert found.count(b"HTTP/1.0 ") <= 1
    assert served.scrape() == served.page
    assert served.health.errors == {}


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /" + b"a" * HEAD_BYTES * 4 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: " + b"a" * HEAD_BYTES * 4,
        b"POST / HTTP/1.1\r\n\r\n" + b"a" * 10_000_000,
        TLS_HELLO * HEAD_BYTES,
    ],
    ids=["line", "header", "body", "TLS"],
)
def test_an_oversized_request_is_not_read(served: Served, sent: bytes) -> None:
    memory = psutil.Process().memory_info().rss
    served.ask(sent)
    assert psutil.Process().memory_info().rss - memory < 50_000_000
    assert served.scrape() == served.page
    assert served.health.errors == {}


def test_a_request_of_the_largest_size_is_answered(served: Served) -> None:
    fill = b"a" * (HEAD_BYTES - len(b"GET / HTTP/1.1\r\nA: \r\n\r\n"))
    assert b" 200 " in served.ask(b"GET / HTTP/1.1\r\nA: " + fill + b"\r\n\r\n")
    # One byte more, and nobody waits for the end.
    assert b" 431 " in served.ask(b"GET / HTTP/1.1\r\nA: aaaaa" + fill)


def test_bytes_of_any_kind_are_no_error_of_ours(served: Served, trials: Trials) -> None:
    count = trials.times(100, 5000)
    word = st.binary(max_size=40) | st.sampled_from(
        [
            b"GET",
            b"/metrics?name[]=",
            b"HTTP/1.1",
            b"Accept:",
            b";version=",
            b"Expect: 100-continue",
        ]
    )
    heads = st.lists(st.lists(word, max_size=5).map(b" ".join), max_size=6).map(b"\r\n".join)

    @settings(max_examples=count, deadline=None, database=None)
    @given(heads)
    def attack(head: bytes) -> None:
        served.ask(head + b"\r\n\r\n")
        assert served.health.errors == {}

    attack()
    assert served.scrape() == served.page
    trials.row("requests of any bytes", times=count, seen="no error of ours")


def test_tls_to_a_plain_port_is_closed(served: Served) -> None:
    # A hello that ends like a request would: nobody waits for more.
    assert b"HTTP/1.0" not in served.ask(TLS_HELLO + b"\r\n\r\n")
    assert served.scrape() == served.page


def test_many_good_scrapers_at_once_all_get_the_exact_page(trials: Trials) -> None:
    count = trials.times(300, 3000)
    registry = page_of_one_series()
    at_once: list[int] = []
    inside = threading.Semaphore(0)

    class Slow:
        """Says how many collect at once, itself included."""

        def collect(self) -> Iterator[Any]:
            inside.release()
            at_once.append(inside._value)
            time.sleep(0.01)
            inside.acquire()
            yield from ()

    with serving(None, registry) as served, ThreadPoolExecutor(64) as pool:
        page = served.page
        registry.register(Slow())
        began = time.perf_counter()
        pages = list(pool.map(lambda _: served.scrape(), range(count)))
        took = time.perf_counter() - began
        assert served.threads == THREADS
    assert set(pages) == {page}
    assert set(at_once) == {1}
    assert len(at_once) < count
    trials.row(
        "good scrapers, 64 at once",
        times=count,
        seen=f"all got the exact page in {took:.1f} s, of {len(at_once)} collections",
    )


def test_a_page_is_never_older_than_its_request(served: Served) -> None:
    value, begun, go_on = [1], threading.Event(), threading.Event()

    class Slow:
        def collect(self) -> Iterator[Any]:
            family = GaugeMetricFamily("acme_now", "As it was", value=value[0])
            begun.set()
            assert go_on.wait(PATIENCE)
            yield family

        def describe(self) -> list[Any]:
            return []

    served.registry.register(Slow())
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(served.scrape)
        assert begun.wait(PATIENCE)
        value[0] = 2
        second = pool.submit(served.scrape)
        until(lambda: served.does().count(_WAITING) == 2)
        go_on.set()
        assert b"acme_now 1.0" in first.result()
        assert b"acme_now 2.0" in second.result()


def test_a_collector_that_raises_is_an_error_of_500_and_counted(
    served: Served, capfd: pytest.CaptureFixture[str]
) -> None:
    class Broken:
        def collect(self) -> Iterator[Any]:
            raise RuntimeError("torn")
            yield

        def describe(self) -> list[Any]:
            return []

    served.registry.register(Broken())
    assert b" 500 " in served.ask(GET)
    assert b" 500 " in served.ask(GET)
    assert served.health.errors.pop("endpoint") == 2
    assert "Traceback" not in capfd.readouterr().err


ATTACK = """
import socket, sys, threading

def connect(sent, buffer=0):
    made = socket.socket()
    if buffer:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    made.connect(("127.0.0.1", int(sys.argv[1])))
    made.sendall(sent)
    return made

def ceaseless():
    global pages
    while not over.is_set():
        try:
            with connect(GET) as one:
                page = b"".join(iter(lambda: one.recv(65536), b""))
        except ConnectionError:
            continue
        pages += page.endswith(b"\\n") and b"victor_otel_build_info" in page

GET = b"GET /metrics HTTP/1.1\\r\\nHost: victor\\r\\n\\r\\n"
pages, over = 0, threading.Event()
crowd = [connect(GET[:20]) for _ in range(300)] + [connect(GET, 4096) for _ in range(300)]
threads = [threading.Thread(target=ceaseless) for _ in range(8)]
for one in threads:
    one.start()
print("here", flush=True)
sys.stdin.read()
over.set()
for one in threads:
    one.join()
print(pages)
"""


def test_the_agent_goes_on_and_counts_exactly_while_the_endpoint_is_attacked(
    monkeypatch: pytest.MonkeyPatch, trials: Trials
) -> None:
    calls = trials.times(100, 5000)
    monkeypatch.setenv("VICTOR_PROMETHEUS_ENABLED", "true")
    monkeypatch.setenv("VICTOR_PROMETHEUS_PORT", "0")
    monkeypatch.setattr(RUNTIME, "_private", None)
    monkeypatch.setattr(RUNTIME, "health", type(RUNTIME.health)())
    with sandboxed():
        calm, attacked, page = asyncio.run(_worked(calls))
    samples = [each for one in text_string_to_metric_families(page) for each in one.samples]
    counts = {
        name: [one.value for one in samples if one.name == name and one.value]
        for name in ("victor_tool_executions_total", "victor_requests_total")
    }
    assert attacked < WITHIN
    turns = 2 * calls // CALLS_A_TURN
    assert counts == {
        "victor_tool_executions_total": [2 * calls],
        "victor_requests_total": [turns],
    }
    trials.row(
        "tool calls of an agent, half of them while 300 half-open, 300 slow and 8 ceaseless "
        "scrapers are at its endpoint",
        times=2 * calls,
        seen=f"{turns} turns; 99% of calls within {calm * 1e3:.1f} ms without them, "
        f"{attacked * 1e3:.1f} with",
    )


async def _worked(calls: int) -> tuple[float, float, str]:
    """The 99th percentile of tool calls without an attack and with one, and the last page."""
    on = RUNTIME.activate()
    with model(m=[Step("Hi.")]) as served:
        async with agent(served, "m") as created:
            return await _attacked(on, created, calls)


async def _attacked(on: Any, created: Any, calls: int) -> tuple[float, float, str]:
    pipeline = created.get_orchestrator()._tool_pipeline
    different = itertools.count(1000)  # Victor remembers what a call with the same arguments gave

    async def work() -> float:
        took: list[float] = []
        for number in range(calls):
            if number % CALLS_A_TURN == 0:
                await created.run("Say hi.")
            began = time.perf_counter()
            listing = {"name": "ls", "arguments": {"path": ".", "limit": next(different)}}
            await pipeline.execute_tool_calls([listing], {})
            took.append(time.perf_counter() - began)
        return sorted(took)[int(calls * 0.99)]

    calm = await work()
    visitor = Visitor(on.pipeline.server)
    attack = subprocess.Popen(
        [sys.executable, "-c", ATTACK, str(visitor.endpoint.port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert attack.stdout is not None
    assert attack.stdout.readline() == "here\n"
    attacked = await work()
    pages, _ = await asyncio.to_thread(attack.communicate, "", PATIENCE)
    assert int(pages) > 0
    assert {"victor-otel-endpoint", "victor-otel-pages"} <= set(threads())
    last = await asyncio.to_thread(visitor.scrape)
    on.pipeline.server.close()
    return calm, attacked, last.decode()
