"""Replicas of Victor's API server, each a process, and the users who call them.

`python -m tests.stack.replica PORT MODEL_URL [PROVIDER]` serves until it is ended, observed as its
environment says. With a provider that Victor does not know it cannot make an agent, and
answers 500.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.error import HTTPError
from urllib.request import Request

from tests.kit.processes import environment
from tests.stack.processes import DIRECT, free_ports, stop, wait_until
from victor_otel.demo import sandbox

# Asked so, the scripted model may answer at once: no tool is expected.
_BODY = json.dumps({"messages": [{"role": "user", "content": "What is the answer?"}]}).encode()


@dataclass(frozen=True)
class Replica:
    """A server that answers at `url`; `process` may be killed."""

    url: str
    process: subprocess.Popen[bytes]

    def chat(self, timeout: float = 120) -> int:
        """One chat turn of one user; the HTTP status that came back."""
        request = Request(f"{self.url}/chat", _BODY, {"Content-Type": "application/json"})
        return _status(request, timeout)

    def modes(self) -> int:
        """The cheapest request of a user that runs no chat turn."""
        return _status(Request(f"{self.url}/modes"), 30)


@contextmanager
def replica(model_url: str, *provider: str, **variables: str) -> Generator[Replica]:
    """Run Victor's API server on a scripted model; `variables` say where its numbers go."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "tests.stack.replica", str(port), model_url, *provider]
    # The failures that are wanted here write tracebacks.
    with subprocess.Popen(
        command, env=environment(**variables), stderr=subprocess.DEVNULL
    ) as process:
        try:
            wait_until(lambda: _status(Request(f"{url}/health"), 5) == 200, 120)
            yield Replica(url, process)
        finally:
            stop(process)


@contextmanager
def users(served: Replica, count: int, *, pause: float) -> Generator[None]:
    """So many users, each of whom asks again `pause` seconds after the answer."""
    leaving = threading.Event()

    def use() -> None:
        while not leaving.is_set():
            try:
                served.chat()
                served.modes()
            except OSError:  # The server is ended before its users leave.
                leaving.wait(0.1)
            leaving.wait(pause)

    threads = [threading.Thread(target=use, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        leaving.set()


def _status(request: Request, timeout: float) -> int:
    try:
        with DIRECT.open(request, timeout=timeout) as answer:
            return answer.status
    except HTTPError as error:
        return error.code


def main(port: str, model_url: str, provider: str = "openai") -> None:
    with sandbox():
        import uvicorn
        from victor.framework.session_config import ProviderOverrideConfig, SessionConfig
        from victor.integrations.api.fastapi_server import VictorFastAPIServer

        override = ProviderOverrideConfig(provider=provider, model="m", endpoint=model_url)
        server = VictorFastAPIServer(
            session_config=SessionConfig(provider_override=override), enable_graphql=False
        )
        uvicorn.run(server.app, host="127.0.0.1", port=int(port), log_level="warning")


if __name__ == "__main__":
    main(*sys.argv[1:])
