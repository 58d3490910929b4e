"""The demo as a user runs it: its numbers are true, its endings clean."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from tests.kit.processes import environment, free_port
from victor_otel.demo.scenario import Scenario
from victor_otel.victor.supported import INSTALL

COMMAND = Path(sys.executable).with_name("victor-otel")


class Demo:
    """A demo that runs. Its state folder's name is known, its temporary folder its own."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        suffix = secrets.token_hex(4)
        self.state = f".victor-otel-demo-{suffix}"
        self.temporary = folder / "tmp"
        self.temporary.mkdir(parents=True)
        (folder / "sitecustomize.py").write_text(
            "import secrets\n"
            "real = secrets.token_hex\n"
            f"secrets.token_hex = lambda n=None: {suffix!r} if n == 4 else real(n)\n",
            encoding="utf-8",
        )
        variables = environment(TMPDIR=str(self.temporary), COLUMNS="200")
        # Victor behaves otherwise under pytest.
        variables = {name: v for name, v in variables.items() if not name.startswith("PYTEST_")}
        variables["PYTHONPATH"] = f"{folder}{os.pathsep}{variables['PYTHONPATH']}"
        self.process = subprocess.Popen(
            [str(COMMAND), "demo", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=variables,
            start_new_session=True,
            # A shell's background jobs ignore Ctrl-C, and so would whatever they start.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
        )
        self.existed = False

    def end(self, timeout: float = 150) -> tuple[int, str, str]:
        """Waits for the end: exit code, standard output and error."""
        try:
            out, err = self.process.communicate(timeout=timeout)
        finally:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)
        return self.process.returncode, out, err

    def interrupt(self) -> None:
        """Ctrl-C in a terminal reaches the whole group."""
        self.existed = self.exists()
        os.killpg(self.process.pid, signal.SIGINT)

    def kill(self) -> None:
        """`kill` reaches the process that was started, and no other."""
        self.existed = self.exists()
        self.process.terminate()

    @property
    def left_behind(self) -> list[Path]:
        """What it has not cleaned up, after a moment for processes that end behind it."""
        deadline = time.monotonic() + 2
        while (left := self._left()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return left

    def _left(self) -> list[Path]:
        users = Path.home() / self.state
        return [*([users] if users.exists() else []), *self.temporary.iterdir()]

    def exists(self) -> bool:
        """Whether Victor has made its state folder, in the home that it was given."""
        return any(self.temporary.glob(f"*/{self.state}"))


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Demo]]:
    """Whole sessions, which take their time, side by side."""
    refusing = f"http://127.0.0.1:{free_port()}"
    wanted = {
        "table": ("--once", "--port", "0"),
        "json": ("--json", "--port", "0"),
        "otlp": ("--once", "--otlp", refusing),
        "traces": ("--once", "--port", "0", "--traces", f"{refusing}/v1/traces"),
    }
    running = {
        name: Demo(tmp_path_factory.mktemp(name), *arguments, "--agents", "1")
        for name, arguments in wanted.items()
    }
    yield running
    for demo in running.values():
        if demo.process.poll() is None:
            os.killpg(demo.process.pid, signal.SIGKILL)
            demo.process.communicate()


def test_a_session_ends_with_a_table_of_true_numbers(sessions: dict[str, Demo]) -> None:
    code, out, err = sessions["table"].end()
    assert (code, err) == (0, "")
    assert "tool executions" in out
    assert "series equal the independent count" in out
    assert sessions["table"].left_behind == []


def test_json_holds_the_numbers_and_an_equal_count_and_stays_until_interrupted(
    sessions: dict[str, Demo],
) -> None:
    demo = sessions["json"]
    assert demo.process.stdout is not None
    report: dict[str, Any] = json.loads(demo.process.stdout.readline())
    time.sleep(0.5)  # It waits only after it has printed.
    assert demo.process.poll() is None
    demo.interrupt()
    code, out, err = demo.end()
    assert (code, out, err) == (0, "", "")
    assert report["problems"] == []
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/metrics", report["where"])
    observed = {
        (name, *sorted(labels.items())): value for name, labels, value in report["observed"]
    }
    expected = {
        (name, *sorted(labels.items())): value for name, labels, value in report["expected"]
    }
    assert len(expected) > 50
    assert {key: observed.get(key, 0) for key in expected} == expected
    assert demo.existed
    assert demo.left_behind == []


def test_repeated_sessions_go_on_in_one_process_until_interrupted(tmp_path: Path) -> None:
    port = free_port()
    demo = Demo(tmp_path, "--repeat", "--port", str(port), "--agents", "1")
    try:
        played = wait_for_sessions(f"http://127.0.0.1:{port}/metrics", 2 * len(Scenario(1).parts))
        demo.interrupt()
    finally:
        code, out, err = demo.end()
    assert played
    assert (code, err) == (0, "")
    assert "until Ctrl-C" in out
    assert demo.left_behind == []


def test_a_fresh_process_goes_on_after_some_sessions(tmp_path: Path) -> None:
    """Victor keeps what it used in each session; this one is fresh after the first."""
    program = (
        "import typer, victor_otel.demo.__main__ as demo\ndemo.SESSIONS = 1\ntyper.run(demo.main)\n"
    )
    options = ("--repeat", "--port=0", "--agents=1")
    with subprocess.Popen(
        [sys.executable, "-c", program, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment(TMPDIR=str(tmp_path), COLUMNS="200"),
    ) as demo:
        assert demo.stdout is not None
        first, second = demo.stdout.readline(), demo.stdout.readline()
        demo.terminate()
    assert "Sessions are played" in first
    assert "Sessions are played" in second
    assert demo.returncode == 0
    assert list(tmp_path.glob("victor-otel-*")) == []


def wait_for_sessions(url: str, count: int, timeout: float = 150) -> bool:
    """Whether a /metrics page shows more than so many sessions in time."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), urlopen(url, timeout=5) as page:
            found = re.search(
                r'^victor_user_sessions_total\{interface="sdk"\} (.+)$',
                page.read().decode(),
                re.MULTILINE,
            )
            if found and float(found[1]) > count:
                return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("option", ["otlp", "traces"])
def test_a_receiver_that_refuses_ends_badly_and_says_so(
    sessions: dict[str, Demo], option: str
) -> None:
    code, out, err = sessions[option].end()
    assert code != 0
    assert "tool executions" in out
    assert re.search(r"victor-otel demo: http://\S+ did not take everything", err)
    assert sessions[option].left_behind == []


@pytest.mark.parametrize("ending", ["Ctrl-C", "kill"])
def test_a_session_that_is_ended_is_cleaned_up_as_well(tmp_path: Path, ending: str) -> None:
    demo = Demo(tmp_path, "--once", "--port", "0")
    deadline = time.monotonic() + 60
    while not demo.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    if ending == "Ctrl-C":
        demo.interrupt()
    else:
        demo.kill()
    code, out, err = demo.end()
    assert (code, out, err) == (130 if ending == "Ctrl-C" else 0, "", "")
    assert demo.existed
    assert demo.left_behind == []


def test_a_taken_port_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        demo = Demo(tmp_path, "--once", "--port", str(port))
        code, out, err = demo.end()
    assert (code, out) == (2, "")
    assert err == (
        f"victor-otel demo: port {port} is taken; choose another with --port, 0 picks one\n"
    )
    assert demo.left_behind == []


@pytest.mark.parametrize("option", ["--otlp", "--traces"])
@pytest.mark.parametrize("value", ["localhost:4318", "grpc://localhost:4317", "4318"])
def test_an_otlp_endpoint_that_is_no_url_is_one_line_and_exit_code_2(
    tmp_path: Path, option: str, value: str
) -> None:
    code, out, err = Demo(tmp_path, option, value).end()
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert repr(value) in err


@pytest.mark.parametrize(
    "arguments", [("--no-such-flag",), ("--agents", "0"), ("--port", "70000"), ("--port", "x")]
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    code, out, err = Demo(tmp_path, *arguments).end()
    assert code == 2
    assert out == ""
    assert "Traceback" not in err


def test_without_victor_it_says_what_to_install() -> None:
    program = "import sys; sys.modules['victor'] = None; from victor_otel.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "demo", "--once"],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"victor-otel demo: victor-ai is not installed: {INSTALL}\n"
