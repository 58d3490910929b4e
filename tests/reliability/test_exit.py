"""Backends that do not answer: the exit is bounded, and no instrumented call waits for them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from tests.kit.exits import exit_seconds
from tests.kit.processes import answer, free_port, run, silent_server
from tests.reliability.exits import BOUND, GENEROUS, TIMED
from tests.reliability.trials import Trials

Backend = Callable[[], AbstractContextManager[str]]


@contextmanager
def refused() -> Iterator[str]:
    yield f"127.0.0.1:{free_port()}"


@contextmanager
def silent() -> Iterator[str]:
    with silent_server() as port:
        yield f"127.0.0.1:{port}"


@contextmanager
def unresolvable() -> Iterator[str]:
    yield "no-such-backend.invalid:4318"


@contextmanager
def slow() -> Iterator[str]:
    """Answers byte by byte, and never comes to an end."""
    ended = threading.Event()

    def trickle(connection: socket.socket) -> None:
        with connection:
            for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 10_000:
                try:
                    connection.sendall(bytes([byte]))
                except OSError:
                    return
                if ended.wait(0.05):
                    return

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=trickle, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        ended.set()
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_no_backend_delays_the_exit_beyond_the_bound(protocol: str, trials: Trials) -> None:
    """Also in the middle of a push that hangs, which `silent` has begun by then."""
    backends: dict[str, tuple[Backend, float]] = {
        "refused": (refused, 0),
        "silent": (silent, 0),
        "slow": (slow, 0),
        "unresolvable": (unresolvable, 0),
        "silent while work goes on": (silent, 0.5),
    }
    took: dict[str, float] = {}
    for name, (backend, working) in backends.items():
        with backend() as address:
            done = run(
                TIMED,
                str(working),
                OTEL_EXPORTER_OTLP_ENDPOINT=f"http://{address}",
                OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
                OTEL_METRIC_EXPORT_INTERVAL="100" if working else "60000",
                VICTOR_OTEL_EXIT_TIMEOUT=str(BOUND),
            )
        took[name] = exit_seconds(done.stderr)
        assert done.stderr.count("could not deliver") == 2, name  # metrics, spans
        assert "Traceback" not in done.stderr, name
    assert max(took.values()) < BOUND + GENEROUS, took
    seen = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in took.items())
    trials.row(
        f"exit with a backend that is gone, by {protocol}, {BOUND} s allowed",
        times=len(took),
        seen=seen,
    )


LATENCIES = """
import asyncio, gzip, json, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

hanging = threading.Event()
release = threading.Event()
waiting = threading.Event()
answered = threading.Event()

class Backend(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        if hanging.is_set():
            waiting.set()
            release.wait(60)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
        answered.set()

    def log_message(self, *args): ...

backend = ThreadingHTTPServer(("127.0.0.1", 0), Backend)
threading.Thread(target=backend.serve_forever, daemon=True).start()
import os
os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{backend.server_port}"

import victor_otel
from tests.kit.agents import model
from tests.kit.providers import ask, openai
from tests.kit.tools import Bench, double, own_tool
from victor_otel.demo.script import Step

victor_otel.start()
rounds, tools, calls = map(int, sys.argv[1:])
found = {True: {"tool": [], "model": []}, False: {"tool": [], "model": []}}

async def timed(into, what):
    began = time.perf_counter()
    await what
    into.append(time.perf_counter() - began)

async def play(registry, provider):
    for number in range(2 * rounds):
        hangs = bool(number % 2)
        waiting.clear(), answered.clear(), release.clear()
        (hanging.set if hangs else hanging.clear)()
        assert await asyncio.to_thread((waiting if hangs else answered).wait, 60)
        for _ in range(tools):
            await timed(found[hangs]["tool"], registry.execute("own_tool", {}, number=1))
        for _ in range(calls):
            await timed(found[hangs]["model"], ask(provider, "m"))
        hanging.clear()
        release.set()

with model(m=[Step("Hi.")]) as served:
    asyncio.run(play(Bench(own_tool(double)).registry, openai(served.url)))

def at(share, values):
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]

print(json.dumps({
    kind: {
        "hanging": [at(0.5, found[True][kind]), at(0.999, found[True][kind]), max(found[True][kind])],
        "answering": [at(0.5, found[False][kind]), at(0.999, found[False][kind]), max(found[False][kind])],
    }
    for kind in ("tool", "model")
}))
"""
TIMEOUT = 10
"""Seconds that the exporter waits for a backend by default."""


def test_no_call_waits_for_an_exporter_that_hangs(trials: Trials) -> None:
    rounds = trials.times(4, 40)
    tools, calls = trials.times(500, 2500), trials.times(100, 250)
    found = answer(
        LATENCIES,
        *map(str, (rounds, tools, calls)),
        timeout=1200,
        OTEL_METRIC_EXPORT_INTERVAL="20",
    )
    for kind, times in (("tool", tools), ("model", calls)):
        slow, fast = found[kind]["hanging"], found[kind]["answering"]
        assert slow[2] < TIMEOUT, kind
        trials.row(
            f"{kind} calls while the backend hangs, and as many while it answers",
            times=rounds * times,
            seen=f"99.9th percentile {slow[1] * 1e3:.2f} ms, {slow[1] / fast[1]:.2f} times that "
            f"while it answers; median {slow[0] / fast[0]:.2f} times",
        )
