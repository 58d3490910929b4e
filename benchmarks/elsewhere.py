"""Servers that a benchmark needs, in processes of their own: their CPU time is not measured."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection

from victor_otel.demo.model import ScriptedModel
from victor_otel.demo.script import Script, Step, ToolCall

Server = Callable[[], AbstractContextManager[str]]


@contextmanager
def elsewhere(server: Server) -> Iterator[str]:
    """Runs a server in a process of its own and says where it is."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=_serve, args=(server, there), daemon=True
    )
    process.start()
    try:
        yield here.recv()
    finally:
        here.send("enough")
        process.join()


def _serve(server: Server, there: Connection) -> None:
    with server() as url:
        there.send(url)
        there.recv()


@contextmanager
def sink() -> Iterator[str]:
    """An OTLP backend that accepts everything."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", "0")))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{served.server_port}"
        served.shutdown()


TURNS = 6
"""Of a session; in each the model asks for one tool, and then answers."""
_SESSIONS = 10_000


@contextmanager
def model() -> Iterator[str]:
    """A model that asks for `own_tool` and answers, again and again."""
    turn = (
        Step(calls=[ToolCall("own_tool", {"number": 1})]),
        Step("That is all. Task complete."),
    )
    with ScriptedModel({"m": Script(turn * TURNS * _SESSIONS)}) as served:
        yield served.url
