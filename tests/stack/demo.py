"""The one command that runs everything on this machine, as it is and in a hurry."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.kit.processes import environment
from tests.stack.processes import query
from tools.paths import COLLECTOR, DEPLOY, ROOT

PROMETHEUS = "http://127.0.0.1:9090"
ALERTMANAGER = "http://127.0.0.1:9093"


@dataclass(frozen=True)
class Demo:
    """The running command and what it has printed."""

    process: subprocess.Popen[bytes]
    output: Path

    @property
    def said(self) -> str:
        return self.output.read_text(encoding="utf-8")

    def interrupt(self) -> int:
        """Ctrl-C; the exit code."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(60)


@contextmanager
def demo(output: Path, root: Path = ROOT) -> Generator[Demo]:
    """Run it from a clone, until Ctrl-C at the latest."""
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, str(root / "scripts" / "demo_stack.py")],
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment(VICTOR_STACK_CACHE=os.environ.get("VICTOR_STACK_CACHE", "")),
            start_new_session=True,
            # A shell's background jobs ignore Ctrl-C, and so would whatever they start.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
        )
    running = Demo(process, output)
    try:
        yield running
    finally:
        if process.poll() is None:
            running.interrupt()


def hurried(folder: Path) -> Path:
    """A clone in which nothing waits: to scrape, to evaluate, to fire or to send."""
    shutil.copytree(ROOT / "scripts", folder / "scripts")
    shutil.copytree(COLLECTOR, folder / "collector")
    shutil.copytree(DEPLOY, folder / "deploy")
    for pattern, changed in {
        "prometheus/prometheus.yml": r"(: )1[05]s$",
        "prometheus/rules/*.yml": r"(for: )\w+$",
        "alertmanager/alertmanager.yml": r"(group_(?:wait|interval): ).*$",
    }.items():
        for file in (folder / "deploy").glob(pattern):
            shipped = file.read_text("utf-8")
            text, found = re.subn(changed, r"\g<1>1s", shipped, flags=re.MULTILINE)
            assert found, file
            file.write_text(text, "utf-8")
    return folder


def demo_is_counted() -> bool:
    return bool(query(PROMETHEUS, 'sum(victor_total_requests{interface="sdk"}) > 0'))
