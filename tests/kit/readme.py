"""The READMEs of the examples as programs: their `sh` blocks typed into one terminal.

What a block must show is the `text` block after it, line by line. Ports are the only thing
that is replaced.
"""

from __future__ import annotations

import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Self

from tests.kit.processes import environment
from tools import markdown
from tools.paths import ROOT

EXAMPLES = ROOT / "examples"
PATIENCE = 240
"""Seconds for one block; Victor starts slowly on a busy machine."""

SETTLED = 20
"""Seconds within which a scrape shows what has happened."""

_END = "--- end of block ---"


@dataclass(frozen=True)
class Block:
    """Commands, and the lines that they must show."""

    commands: str
    shows: list[str] = field(default_factory=list)

    @property
    def is_scrape(self) -> bool:
        """Prometheus asks again and again, so a test may."""
        return self.commands.startswith("curl") and "/metrics" in self.commands


def blocks(readme: str) -> list[Block]:
    """What a README says to type, in its order."""
    found: list[Block] = []
    for block in markdown.blocks(readme, "sh", "text"):
        if block.language == "sh":
            found.append(Block(block.text))
        else:
            found[-1].shows.extend(_lines(block.text))
    return found


def follow(example: str, folder: Path, ports: Mapping[str, int], **variables: str) -> None:
    """Does what the README of an example says, in a copy of it; `ports` replace the README's."""
    readme = (EXAMPLES / example / "README.md").read_text(encoding="utf-8")
    for written, free in ports.items():
        readme, count = re.subn(rf"\b{written}\b", str(free), readme)
        assert count, f"{example}/README.md names no port {written}"
    with Terminal(copy(folder) / example, **variables) as terminal:
        for block in blocks(readme):
            terminal.do(block)


def copy(folder: Path) -> Path:
    """The examples where they may write, beside what their READMEs refer to."""
    for neighbour in ("collector", "deploy", "scripts"):
        (folder / neighbour).symlink_to(ROOT / neighbour)
    ignored = shutil.ignore_patterns("__pycache__")
    return Path(shutil.copytree(EXAMPLES, folder / "examples", ignore=ignored))


class Terminal:
    """A shell that is given one block after the other, as a user would."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self._folder = folder
        self._variables = {
            **environment(PYTHONUNBUFFERED="1", NO_PROXY="127.0.0.1", **variables),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        del self._variables["PYTHONPATH"]
        self._lines: queue.Queue[str] = queue.Queue()

    def __enter__(self) -> Self:
        self._errors: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8")
        self._shell = subprocess.Popen(
            ["bash"],
            cwd=self._folder,
            env=self._variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            start_new_session=True,
        )
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Leaves nothing running; a README that has left something is wrong."""
        assert self._shell.stdin is not None
        try:
            if kind is None:
                self._shell.stdin.write("wait\n")
                self._shell.stdin.close()
                self._shell.wait(PATIENCE)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(self._shell.pid, signal.SIGTERM)
            self._shell.wait(PATIENCE)
            self._errors.close()

    def do(self, block: Block) -> None:
        """Types a block and awaits what it must show; a scrape is repeated for that."""
        shown = self._type(block)
        deadline = time.monotonic() + SETTLED
        while block.is_scrape and not _same(shown, block.shows) and time.monotonic() < deadline:
            time.sleep(0.1)
            shown = self._type(block)
        if not _same(shown, block.shows):
            self._errors.seek(0)
            raise AssertionError(
                f"{block.commands}\nmust show\n{_text(block.shows)}\nand showed\n{_text(shown)}\n"
                f"standard error:\n{self._errors.read()[-4000:]}"
            )

    def _type(self, block: Block) -> list[str]:
        """What appears until the commands end, and what the jobs they start are to show."""
        assert self._shell.stdin is not None
        self._shell.stdin.write(f"{{\n{block.commands}}} < /dev/null\necho; echo {_END}\n")
        self._shell.stdin.flush()
        deadline = time.monotonic() + PATIENCE
        shown: list[str] = []
        ended = False
        while not ended or (not block.is_scrape and len(shown) < len(block.shows)):
            try:
                line = self._lines.get(timeout=max(0, deadline - time.monotonic()))
            except queue.Empty:
                return [*shown, f"and nothing more within {PATIENCE} s"]
            ended = ended or line == _END
            shown += [] if line == _END else [line]
        return shown

    def _listen(self) -> None:
        assert self._shell.stdout is not None
        for line in self._shell.stdout:
            if kept := line.rstrip():
                self._lines.put(kept)


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def _same(shown: list[str], expected: list[str]) -> bool:
    """Nobody promises an order of series."""
    return sorted(shown) == sorted(expected)


def _text(lines: list[str]) -> str:
    return "\n".join(f"  {line}" for line in lines) or "  nothing"
