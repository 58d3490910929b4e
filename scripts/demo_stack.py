"""The whole pipeline on this machine, without containers: look at it, change it, break it.

    python scripts/demo_stack.py            # Ctrl-C ends everything

Runs Collector, Prometheus and Alertmanager on the files in collector/ and deploy/ and on their
usual ports, and `victor-otel demo --repeat` as the Victor that they observe. Who would be paged is
printed: Alertmanager gets secrets that lead here, whatever deploy/alertmanager/secrets holds. The
data go with the end; the logs of the last run stay in $VICTOR_STACK_CACHE/logs
(~/.cache/victor-otel/stack/logs). Needs victor-otel[instruments] in this Python, and Go for
programs that are not on PATH (scripts/stack.py).
"""

from __future__ import annotations

import html
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import stack

HOST = "127.0.0.1"
_ROOT = Path(__file__).resolve().parent.parent
COLLECTOR, DEPLOY = _ROOT / "collector", _ROOT / "deploy"
PAGES = """
  Alerts         http://127.0.0.1:9090/alerts?state=firing
  Queries        http://127.0.0.1:9090/query
  Alertmanager   http://127.0.0.1:9093            what would be sent, and to whom
  Collector      http://127.0.0.1:8888/metrics    its own numbers
  OTLP           http://127.0.0.1:4318            send yours as well

Part of the work fails on purpose. Who would be paged for it is printed here, after some minutes.
"""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One process of the pipeline, and the ports that it listens on."""

    name: str
    command: list[str]
    ports: tuple[int, ...] = ()
    folder: Path | None = None  # where it must be started, if that matters
    environment: Mapping[str, str] = field(default_factory=dict[str, str])


def parts(folder: Path, inbox: int) -> list[Part]:
    """All processes, in the order in which they start; `folder` takes their data."""
    otlp = f"http://{HOST}:4318"
    notifying = notify(folder / "notifying", inbox)
    return [
        Part(
            name="collector",
            command=[
                str(stack.obtain("collector")),
                f"--config={COLLECTOR / 'config.yaml'}",
            ],
            ports=(4317, 4318, 8888, 8889, 8890, 13133),
            environment={"VICTOR_COLLECTOR_QUEUE": str(folder / "queue")},
        ),
        Part(
            name="alertmanager",
            command=[
                str(stack.obtain("alertmanager")),
                f"--config.file={notifying / 'alertmanager.yml'}",
                f"--storage.path={folder / 'alertmanager'}",
                f"--web.listen-address={HOST}:9093",
                # Alone, not one of a cluster.
                "--cluster.listen-address=",
            ],
            ports=(9093,),
            # It looks for secrets/ there.
            folder=notifying,
        ),
        Part(
            name="prometheus",
            command=[
                str(stack.obtain("prometheus")),
                f"--config.file={DEPLOY / 'prometheus' / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'prometheus'}",
                f"--web.listen-address={HOST}:9090",
                "--web.enable-otlp-receiver",
                "--enable-feature=exemplar-storage",
            ],
            ports=(9090,),
        ),
        Part(
            name="demo",
            command=[sys.executable, "-m", "victor_otel.demo", "--repeat", f"--otlp={otlp}"],
        ),
    ]


def notify(folder: Path, inbox: int) -> Path:
    """Alertmanager's shipped files in `folder`, with secrets that lead to a port of ours.

    PagerDuty's address is no secret: it is the one thing that is changed.
    """
    secrets = shutil.ignore_patterns("*_url", "*_key", "*_password")
    shutil.copytree(DEPLOY / "alertmanager", folder, ignore=secrets)
    url = f"http://{HOST}:{inbox}"
    for name in ("slack", "dead_mans_switch"):
        (folder / "secrets" / f"{name}_url").write_text(f"{url}/{name}", encoding="utf-8")
    (folder / "secrets" / "pagerduty_key").write_text("demo", encoding="utf-8")
    file = folder / "alertmanager.yml"
    shipped = file.read_text(encoding="utf-8")
    ours = shipped.replace("\nglobal:\n", f"\nglobal:\n  pagerduty_url: {url}/pagerduty\n")
    file.write_text(ours, encoding="utf-8")
    return folder


@contextmanager
def inbox() -> Generator[int]:
    """The port of a PagerDuty, a Slack and a dead man's switch that print what they are told."""
    with ThreadingHTTPServer((HOST, 0), Inbox) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


class Inbox(BaseHTTPRequestHandler):
    """The path tells the receiver."""

    def do_POST(self) -> None:
        """Prints a message, and answers as Slack does: the others read no answer."""
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if text := told(self.path, body):
            print(time.strftime("%H:%M:%S"), text, flush=True)
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        """Silent."""


def told(path: str, body: Mapping[str, Any]) -> str:
    """One line for a message to a person: its title, and the summary of the first alert in it."""
    if path == "/pagerduty":
        payload = body["payload"]
        return _line("PAGE ", payload["summary"], payload["custom_details"]["firing"])
    if path == "/slack":
        (message,) = body["attachments"]
        return _line("SLACK", message["title"], message["text"])
    return ""  # the dead man's switch hears all the time that all is well


def _line(receiver: str, title: str, text: str) -> str:
    first = "" if title.startswith("RESOLVED") else text.strip().partition("\n")[0].strip("*")
    return f"{receiver}  {html.unescape(title)}{first and ': '}{html.unescape(first)}"


def run(wanted: list[Part], folder: Path, logs: Path) -> str:
    """Run all of them until one ends, or Ctrl-C, and say which."""
    with ExitStack() as running:
        processes: dict[str, subprocess.Popen[bytes]] = {}
        try:
            for part in wanted:
                log = running.enter_context(_log(logs, part.name).open("wb"))
                process = subprocess.Popen(
                    part.command,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=part.folder or folder,
                    env={**os.environ, **part.environment},
                    # Ctrl-C must not reach it: the Collector outlives whoever pushes to it.
                    process_group=0,
                )
                running.callback(_stop, process)
                processes[part.name] = process
                _wait_for(part, process)
                if process.poll() is not None:
                    return part.name
            print(PAGES, flush=True)
            while True:
                for name, process in processes.items():
                    if process.poll() is not None:
                        return name
                time.sleep(0.2)
        except KeyboardInterrupt:
            print("\nending", flush=True)
            return ""


def _log(logs: Path, name: str) -> Path:
    return logs / f"{name}.log"


def _wait_for(part: Part, process: subprocess.Popen[bytes], timeout: float = 30) -> None:
    deadline = time.monotonic() + timeout
    for port in part.ports:
        while not _listens(port) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex((HOST, port)) == 0


def _stop(process: subprocess.Popen[bytes], patience: float = 20) -> None:
    process.terminate()
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def main() -> int:
    """Check the ports, run everything, and say what ended by itself and where the logs are."""
    # Whoever ends us ends the others too.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="victor-otel-stack-") as temporary, inbox() as port:
        folder = Path(temporary)
        try:
            wanted = parts(folder, port)
        except stack.StackError as error:
            print(error, file=sys.stderr)
            return 1
        taken = [str(port) for part in wanted for port in part.ports if _listens(port)]
        if taken:
            print(f"stop what listens on {HOST}:{', :'.join(taken)} first", file=sys.stderr)
            return 1
        # One folder, as there is one set of ports: the logs of the last run.
        logs = stack.cache() / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        ended = run(wanted, folder, logs)
    if ended:
        log = _log(logs, ended).read_text(encoding="utf-8", errors="replace")
        print(f"{ended} ended by itself; its last lines:", *log.splitlines()[-20:], sep="\n")
    print(f"The logs stay in {logs} until the next start.", flush=True)
    return 1 if ended else 0


if __name__ == "__main__":
    sys.exit(main())
