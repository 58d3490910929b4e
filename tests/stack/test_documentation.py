"""Every command in docs/ is run as it is written, beside the stack that the pages start.

A page is one folder that looks like a clone, with a home of its own: commands of a page see what
those before them have left there, as in a terminal.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.kit.documentation import PAGES, Block, blocks, missing
from tests.kit.processes import environment
from tests.stack.processes import DIRECT, program, query, wait_until
from tests.stack.queries import relaxed
from tools.paths import ROOT

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]

PROMETHEUS = "http://127.0.0.1:9090"
PATIENCE = 300
"""Seconds for one block; Victor starts slowly on a busy machine."""

SERVERS = {
    "python scripts/demo_stack.py": f"{PROMETHEUS}/-/ready",
    "VICTOR_PROMETHEUS_ENABLED=true victor serve": "http://127.0.0.1:8765/health",
    "$(python scripts/stack.py jaeger) --collector.otlp.http.host-port=127.0.0.1:4338"
    " --collector.otlp.grpc.host-port=127.0.0.1:4337": "http://127.0.0.1:16686",
    "PHOENIX_HOST=127.0.0.1 PHOENIX_GRPC_PORT=4347 $(python scripts/stack.py phoenix) serve": (
        "http://127.0.0.1:6006/healthz"
    ),
}
"""What runs until Ctrl-C, and where it says that it is ready."""

NOTHING = {
    'victor_otel_hooks{state="missing"} == 1': "every hook is bound",
    "victor_otel_errors_total": "the instrumentation made no error",
    "victor_provider_rate_limits_total": "no provider sent anybody away",
    "offset 1d": "the stack is younger than a day",
    "error_budget_remaining": "no day of it is over",
}
"""Queries that show nothing here, by a part of each, and why."""

TOOLS = {"amtool": "amtool", "promtool": "promtool", "otelcol-contrib": "collector"}
"""What comes with Prometheus and Alertmanager; and our Collector, which stands for the contrib one."""


def clone(folder: Path) -> Path:
    """A folder with everything of the repository that a page may name."""
    folder.mkdir()
    for path in ROOT.iterdir():
        if not path.name.startswith("."):
            (folder / path.name).symlink_to(path)
    return folder


def variables(home: Path) -> dict[str, str]:
    """A user's environment, who has installed victor-otel and Prometheus and never used Victor."""
    programs = home / "bin"
    programs.mkdir(parents=True, exist_ok=True)
    for name, ours in TOOLS.items():
        if not (programs / name).exists():
            (programs / name).symlink_to(program(ours))
    path = os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]])
    given = environment(PATH=path, HOME=str(home), NO_PROXY="127.0.0.1,localhost")
    # What scripts/stack.py has built is kept below the home, which is another one here.
    built = os.environ.get("VICTOR_STACK_CACHE") or "~/.cache/victor-otel/stack"
    given["VICTOR_STACK_CACHE"] = str(Path(built).expanduser())
    del given["PYTHONPATH"]
    return given


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, home: Path) -> Iterator[None]:
    """What the pages say to leave running, each once; ready when all that is asked has a number."""
    folder = clone(tmp_path_factory.mktemp("servers") / "clone")
    written = {block.text.strip() for page in PAGES for block in blocks(page, "sh") if block.stays}
    assert written == set(SERVERS)
    with ExitStack() as running:
        for command, ready in SERVERS.items():
            log = running.enter_context((folder.parent / "log.txt").open("a+"))
            process = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", command],
                cwd=folder,
                env=variables(home),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # A shell's background jobs ignore Ctrl-C, and so would whatever they start.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
            )
            running.callback(interrupt, process)
            wait_until(lambda url=ready, one=process: one.poll() is not None or answers(url), 240)
            log.seek(0)
            assert process.poll() is None, log.read()
        wait_until(warm, 240, interval=1)
        yield


def interrupt(process: subprocess.Popen[bytes], patience: float = 60) -> None:
    """Ctrl-C."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
    process.wait(patience)


def answers(url: str) -> bool:
    with DIRECT.open(url, timeout=5) as response:
        return response.status == 200


def warm() -> bool:
    """Everything is scraped, and failures of the demo are rates by now."""
    up = {labels["job"]: value for labels, value in query(PROMETHEUS, "min by (job) (up)")}
    assert set(up.values()) == {1}, up
    return bool(
        query(PROMETHEUS, "job:victor_requests:failure_ratio_5m > 0")
        and query(PROMETHEUS, "job_provider:victor_provider_requests:failure_ratio_5m > 0")
        and query(PROMETHEUS, "topk(1, victor_cpu_usage_percent)")
    )


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if blocks(page, "sh")],
    ids=lambda page: page.stem,
)
@pytest.mark.usefixtures("stack")
def test_the_commands_of_a_page_do_what_it_says(page: Path, home: Path, tmp_path: Path) -> None:
    folder = clone(tmp_path / "clone")
    for block in blocks(page, "sh"):
        if not block.needs and not block.stays:
            typed(block, folder, variables(home))


def typed(block: Block, folder: Path, given: dict[str, str]) -> None:
    """Runs a block, and ends what it has left running if it fails."""
    output = folder.parent / "output.txt"
    with output.open("w+") as shown:
        shell = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", block.text],
            cwd=folder,
            env=given,
            stdin=subprocess.DEVNULL,
            stdout=shown,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            shell.wait(PATIENCE)
        finally:
            if shell.returncode != 0:
                with suppress(ProcessLookupError):
                    os.killpg(shell.pid, signal.SIGKILL)
    text = output.read_text(encoding="utf-8", errors="replace")
    assert shell.returncode == 0, f"{block.place} ended with {shell.returncode}: {text[-4000:]}"
    assert missing(block, text) == [], f"{block.place} shows {text[-4000:]}"


@pytest.mark.usefixtures("stack")
def test_every_query_of_every_page_shows_something() -> None:
    asked = [block for page in PAGES for block in blocks(page, "promql")]
    waiting = [one for one in asked if not any(part in one.text for part in NOTHING)]

    def all_have_shown_something() -> bool:
        # There is no rate of requests without any.
        assert answers("http://127.0.0.1:8765/health")
        waiting[:] = [block for block in waiting if not shown(block)]
        assert [block.place for block in waiting] == []
        return True

    for block in asked:
        shown(block)
    wait_until(all_have_shown_something, 240, interval=1)


def shown(block: Block) -> bool:
    """Whether a query gives a series, now or without its thresholds and exceptions."""
    try:
        return bool(query(PROMETHEUS, block.text) or query(PROMETHEUS, relaxed(block.text)))
    except (OSError, ValueError) as error:
        error.add_note(block.place)
        raise
