"""The whole pipeline on this machine, without containers: look at it, change it, break it.

    python scripts/demo_stack.py            # Ctrl-C ends everything

Runs Collector, Prometheus and Alertmanager on the files in collector/, unchanged and on their
usual ports, and `victor-otel demo --repeat` as the Victor that they observe. Logs and data are in
a temporary folder that ends with it. Needs victor-otel[instruments] in this Python, and Go for
programs that are not on PATH (scripts/stack.py).
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import stack

HOST = "127.0.0.1"
SHIPPED = Path(__file__).resolve().parent.parent / "collector"
PAGES = """
  Prometheus     http://127.0.0.1:9090/alerts     rules, targets, queries
  Alertmanager   http://127.0.0.1:9093            what would be sent, and to whom
  Collector      http://127.0.0.1:8888/metrics    its own numbers
  OTLP           http://127.0.0.1:4318            send yours as well
"""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One process of the pipeline, and the ports that it listens on."""

    name: str
    command: list[str]
    ports: tuple[int, ...] = ()
    folder: Path | None = None  # where it must be started, if that matters
    environment: Mapping[str, str] = field(default_factory=dict[str, str])


def parts(folder: Path) -> list[Part]:
    """All processes, in the order in which they start; `folder` takes their data."""
    otlp = f"http://{HOST}:4318"
    return [
        Part(
            name="collector",
            command=[str(stack.obtain("collector")), f"--config={SHIPPED / 'config.yaml'}"],
            ports=(4317, 4318, 8888, 8889, 8890, 13133),
            environment={"VICTOR_COLLECTOR_QUEUE": str(folder / "queue")},
        ),
        Part(
            name="alertmanager",
            command=[
                str(stack.obtain("alertmanager")),
                f"--config.file={SHIPPED / 'alertmanager' / 'alertmanager.yml'}",
                f"--storage.path={folder / 'alertmanager'}",
                f"--web.listen-address={HOST}:9093",
                # Alone, not one of a cluster.
                "--cluster.listen-address=",
            ],
            ports=(9093,),
            # It looks for secrets/ there.
            folder=SHIPPED / "alertmanager",
        ),
        Part(
            name="prometheus",
            command=[
                str(stack.obtain("prometheus")),
                f"--config.file={SHIPPED / 'prometheus' / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'prometheus'}",
                f"--web.listen-address={HOST}:9090",
                "--web.enable-otlp-receiver",
            ],
            ports=(9090,),
        ),
        Part(
            name="demo",
            command=[sys.executable, "-m", "victor_otel.demo", "--repeat", f"--otlp={otlp}"],
        ),
    ]


def run(wanted: list[Part], folder: Path) -> str:
    """Run all of them until one ends, or Ctrl-C, and say which."""
    with ExitStack() as running:
        processes: dict[str, subprocess.Popen[bytes]] = {}
        for part in wanted:
            log = running.enter_context(_log(folder, part).open("wb"))
            process = subprocess.Popen(
                part.command,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=part.folder or folder,
                env={**os.environ, **part.environment},
            )
            running.callback(_stop, process)
            processes[part.name] = process
            _wait_for(part, process)
        print(PAGES, flush=True)
        with suppress(KeyboardInterrupt):
            while True:
                for name, process in processes.items():
                    if process.poll() is not None:
                        return name
                time.sleep(0.2)
    return ""


def _log(folder: Path, part: Part) -> Path:
    return folder / f"{part.name}.log"


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
    """Check the ports, run everything, and show the log of what ended by itself."""
    # Whoever ends us ends the others too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with tempfile.TemporaryDirectory(prefix="victor-otel-stack-") as temporary:
        folder = Path(temporary)
        try:
            wanted = parts(folder)
        except stack.StackError as error:
            print(error, file=sys.stderr)
            return 1
        taken = [str(port) for part in wanted for port in part.ports if _listens(port)]
        if taken:
            print(f"stop what listens on {HOST}:{', :'.join(taken)} first", file=sys.stderr)
            return 1
        ended = run(wanted, folder)
        if not ended:
            return 0
        log = (folder / f"{ended}.log").read_text(encoding="utf-8", errors="replace")
        print(f"{ended} ended by itself; its last lines:", *log.splitlines()[-20:], sep="\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
