"""A command in a real pseudo-terminal, and the screen that a person would see."""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import pyte


@dataclass(kw_only=True)
class Terminal:
    """What a process has drawn so far; `raw` is every byte of it."""

    process: subprocess.Popen[bytes]
    screen: pyte.Screen
    raw: bytearray = field(default_factory=bytearray)
    _drawn: threading.Condition = field(default_factory=threading.Condition)

    @property
    def lines(self) -> list[str]:
        with self._drawn:
            return [line.rstrip() for line in self.screen.display]

    def until(self, seen: Callable[[Sequence[str]], bool], timeout: float = 90) -> list[str]:
        """The screen as soon as it is as `seen` wants.

        Raises:
            AssertionError: it never was; the last screen is shown.
        """
        deadline = time.monotonic() + timeout
        while True:
            lines = self.lines
            if seen(lines):
                return lines
            with self._drawn:
                waited = self._drawn.wait(max(0, deadline - time.monotonic()))
            assert waited, "\n".join(["not seen; the screen is:", *lines])

    def press(self, keys: bytes) -> None:
        os.write(self._keyboard, keys)

    def follow(self, terminal: int) -> None:
        """Draws what the process writes until it has closed its terminal."""
        self._keyboard = terminal
        stream = pyte.ByteStream(self.screen)
        while data := _read(terminal):
            with self._drawn:
                self.raw += data
                stream.feed(data)
                self._drawn.notify_all()


@contextmanager
def terminal(
    command: Sequence[str], environment: Mapping[str, str], *, rows: int = 24, columns: int = 80
) -> Iterator[Terminal]:
    """Runs a command in a terminal of a size; Ctrl-C ends it, with all that it has started."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    sized = {name: v for name, v in environment.items() if name not in {"COLUMNS", "LINES"}}
    process = subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**sized, "TERM": "xterm-256color"},
        start_new_session=True,
        # A shell's background jobs ignore Ctrl-C, and so would whatever they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    os.close(theirs)
    shown = Terminal(process=process, screen=pyte.Screen(columns, rows))
    reader = threading.Thread(target=shown.follow, args=(ours,))
    reader.start()
    try:
        yield shown
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(30)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            reader.join()
            os.close(ours)


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError as error:
        if error.errno == errno.EIO:  # nobody writes to it any more
            return b""
        raise
