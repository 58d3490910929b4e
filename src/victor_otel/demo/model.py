"""A model provider on this machine whose every answer is known in advance and written down.

It speaks the OpenAI chat protocol, with JSON and server-sent events, so that a real Victor talks
to it through its real transport. What it answered is the provider side of the demo's ledger.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from victor_otel.demo.script import Script, Step, Usage

NOT_SCRIPTED = Step(status=404)


@dataclass(frozen=True)
class Answer:
    """One request and what became of it, seen from the provider."""

    model: str
    stream: bool
    side: bool
    """The request offered no tools."""
    status: int
    """The HTTP status sent; 0 for a request left without an answer."""
    tool_calls: bool
    content: bool
    usage: Usage | None
    """None when there was no good answer: nothing is billed then."""


class ScriptedModel:
    """The server, as a context manager. Each model name follows its own script."""

    def __init__(self, scripts: Mapping[str, Script]) -> None:
        self._scripts = dict(scripts)
        self._positions = dict.fromkeys(scripts, 0)
        self._requests: Counter[str] = Counter()
        self._answers: list[Answer] = []
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._server = _Server(self)

    @property
    def url(self) -> str:
        """The base URL that an OpenAI client wants."""
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    @property
    def answers(self) -> tuple[Answer, ...]:
        """Everything decided so far. A request still waiting for its delay is not in it."""
        with self._changed:
            return tuple(self._answers)

    def requests(self, model: str) -> int:
        """How many requests for this model have arrived, answered or not."""
        with self._changed:
            return self._requests[model]

    def wait_for_request(self, model: str, count: int, timeout: float = 30.0) -> bool:
        """Block until `count` requests have arrived: a caller can then act in the middle of one."""
        with self._changed:
            return self._changed.wait_for(lambda: self._requests[model] >= count, timeout)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    def accept(self, model: str, *, stream: bool, side: bool) -> Step | None:
        """Take the next step of the script for a request and write its answer down.

        It is written down before it is sent: whoever has received an answer finds it here.
        None means that there is none.
        """
        with self._changed:
            self._requests[model] += 1
            step = self._next(model, side=side)
            if step.silent:
                unanswered = replace(step, status=0)
                self._answers.append(_answer(model, unanswered, stream=stream, side=side))
            self._changed.notify_all()
        if step.silent:
            self._closing.wait()
            return None
        if step.delay and self._closing.wait(step.delay):
            return None
        with self._changed:
            self._answers.append(_answer(model, step, stream=stream, side=side))
        return step

    def _next(self, model: str, *, side: bool) -> Step:
        script = self._scripts.get(model)
        if script is None:
            return NOT_SCRIPTED
        if side:
            return script.side
        position = min(self._positions[model], len(script.steps) - 1)
        self._positions[model] += 1
        return script.steps[position]


class _Server(ThreadingHTTPServer):
    """Daemon threads: a client that never hangs up must not keep the process alive."""

    daemon_threads = True
    request_queue_size = 128
    """The default of 5 makes many agents that connect at once wait for a second."""

    def __init__(self, model: ScriptedModel) -> None:
        self.model = model
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients hang up on purpose here; the default would print a traceback for each."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Silent: the output belongs to whoever runs the demo."""

    def do_POST(self) -> None:
        """Answer one chat completion."""
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        request: dict[str, Any] = json.loads(body)
        model, stream = str(request["model"]), bool(request.get("stream"))
        step = self.server.model.accept(model, stream=stream, side=not request.get("tools"))
        if step is None:
            self.close_connection = True
        elif step.status != HTTPStatus.OK:
            self._send(step.status, "application/json", _error(step.status))
        elif stream:
            self._send(step.status, "text/event-stream", b"".join(_events(model, step)))
        else:
            self._send(step.status, "application/json", _completion(model, step))

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        # An idle connection would keep its thread here for as long as the client keeps it.
        self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(body)


def _answer(model: str, step: Step, *, stream: bool, side: bool) -> Answer:
    good = step.status == HTTPStatus.OK
    return Answer(
        model=model,
        stream=stream,
        side=side,
        status=step.status,
        tool_calls=good and bool(step.calls),
        content=good and bool(step.text),
        usage=step.usage if good else None,
    )


def _message(step: Step) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": step.text or None}
    if step.calls:
        message["tool_calls"] = [
            {
                "index": index,
                "id": f"call_{index}",
                "type": "function",
                "function": {"name": call.name, "arguments": json.dumps(call.arguments)},
            }
            for index, call in enumerate(step.calls)
        ]
    return message


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.prompt + usage.completion,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
    }


def _finish(step: Step) -> str:
    return "tool_calls" if step.calls else "stop"


def _completion(model: str, step: Step) -> bytes:
    choice = {"index": 0, "message": _message(step), "finish_reason": _finish(step)}
    return json.dumps(
        {
            "id": "demo",
            "object": "chat.completion",
            "created": 0,
            "model": model,
            "choices": [choice],
            "usage": _usage(step.usage),
        },
    ).encode()


def _events(model: str, step: Step) -> Iterable[bytes]:
    base = {"id": "demo", "object": "chat.completion.chunk", "created": 0, "model": model}
    nothing: dict[str, Any] = {}
    said = {"index": 0, "delta": _message(step), "finish_reason": None}
    done = {"index": 0, "delta": nothing, "finish_reason": _finish(step)}
    events: tuple[dict[str, Any], ...] = (
        {"choices": [said]},
        {"choices": [done]},
        {"choices": [], "usage": _usage(step.usage)},
    )
    for event in events:
        yield b"data: " + json.dumps({**base, **event}).encode() + b"\n\n"
    yield b"data: [DONE]\n\n"


def _error(status: int) -> bytes:
    return json.dumps({"error": {"message": f"scripted {status}", "type": "scripted"}}).encode()
