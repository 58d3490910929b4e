"""How processes, threads and event loops begin, go on and end: sums are right, nothing hangs."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.kit.processes import AGENT, OWN, answer, environment, exported, free_port
from tests.reliability.lifecycles import WORK, pushed, pushing
from tests.reliability.trials import Trials
from tests.stack.backends import note_taker
from tests.stack.processes import DIRECT, wait_until
from victor_otel.demo.model import ScriptedModel
from victor_otel.demo.script import Script, Step, ToolCall

LOOK = Step(calls=(ToolCall("ls", {"path": "."}),))
ASK = "Read the file and tell me what it says."
PATIENCE = 90
"""Seconds that a process may take, Victor's own start included, before we call it hung."""


# Servers of several processes

SERVICE = """
import logging
from victor_otel.demo.sandbox import sandbox

logging.basicConfig(level=logging.ERROR)

state = sandbox()
state.__enter__()
from victor.integrations.api.fastapi_server import create_fastapi_app

app = create_fastapi_app()
"""


@contextmanager
def serving(
    folder: Path, *command: str, url: str, port: int, page: int, service: str = SERVICE
) -> Iterator[Any]:
    """Victor's API on `port`, once it answers."""
    (folder / "service.py").write_text(service, encoding="utf-8")
    variables = pushing(url, VICTOR_PROMETHEUS_ENABLED="true", VICTOR_PROMETHEUS_PORT=str(page))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", *command],
            cwd=folder,
            env={**variables, "PYTHONPATH": f"{variables['PYTHONPATH']}:{folder}"},
            stdout=log,
            stderr=log,
        )
        try:
            wait_until(lambda: asked(port, "/health") == 200, PATIENCE)
            yield process
        finally:
            process.kill()
            process.wait()


def asked(port: int, path: str) -> int:
    try:
        with DIRECT.open(f"http://127.0.0.1:{port}{path}", timeout=30) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code


GUNICORN = ("gunicorn", "--worker-class=uvicorn.workers.UvicornWorker", "--bind=127.0.0.1:{}")
UVICORN = ("uvicorn", "--host=127.0.0.1", "--port={}")


def test_the_workers_of_a_server_add_up_to_what_it_was_asked(
    tmp_path: Path, trials: Trials
) -> None:
    for server, *address in (GUNICORN, UVICORN)[: trials.times(1, 2)]:
        play(tmp_path, server, address, trials)


def play(folder: Path, server: str, address: Sequence[str], trials: Trials) -> None:
    port, page = free_port(), free_port()
    command = (server, "service:app", "--workers=2", *(each.format(port) for each in address))
    times = trials.times(40, 2000)
    with note_taker() as (url, requests):
        with serving(folder, *command, url=url, port=port, page=page) as process:
            for _ in range(times):
                assert asked(port, "/modes") == 200
            assert (
                b"victor_requests_total" in DIRECT.open(f"http://127.0.0.1:{page}/metrics").read()
            )
            process.send_signal(signal.SIGTERM)
            began = time.monotonic()
            process.wait(PATIENCE)
            took = time.monotonic() - began
        counted = pushed(requests, "victor.requests")
    log = (folder / "log").read_text()
    assert sum(counted.values()) == times, log
    assert "Traceback" not in log
    # Each worker that has had a request asks for the page, and one of them gets it.
    assert len(counted) - 1 <= log.count(f"127.0.0.1:{page} cannot be served") <= 1
    with pytest.raises(OSError, match="refused"):
        DIRECT.open(f"http://127.0.0.1:{page}/metrics")
    trials.row(
        f"requests to two workers of {server}, ended by SIGTERM",
        times=times,
        lost=times - int(sum(counted.values())),
        seen=f"{len(counted)} instances, ended in {took:.1f} s",
    )


# The parent works in threads while it forks workers, which live for few requests each.
PRELOADED = (
    SERVICE
    + OWN
    + """
import threading
import victor_otel
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

def work():
    while True:
        call()

victor_otel.start({provider})
call()
for _ in range(2):
    threading.Thread(target=work, daemon=True).start()
"""
)
EXPORTED = "MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter())])"
PROVIDERS = [("an application's", EXPORTED), ("our", "")]


@pytest.mark.parametrize(("whose", "provider"), PROVIDERS)
def test_recycled_workers_of_a_busy_preloaded_server_lose_nothing(
    whose: str, provider: str, tmp_path: Path, trials: Trials
) -> None:
    port, page = free_port(), free_port()
    server, *address = GUNICORN
    times = trials.times(40, 2000)
    command = (server, "service:app", "--workers=2", "--preload", "--max-requests=10", *address)
    service = PRELOADED.replace("{provider}", provider)
    with note_taker() as (url, requests):
        filled = (each.format(port) for each in command)
        with serving(tmp_path, *filled, url=url, port=port, page=page, service=service) as process:
            for _ in range(times):
                assert answered(port, "/modes") == 200
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE)
        counted = pushed(requests, "victor.requests")
        parents = pushed(requests, "victor.provider.requests")
    log = (tmp_path / "log").read_text()
    assert "Traceback" not in log
    assert sum(counted.values()) == times, log
    # A worker that is to go still answers what reaches it meanwhile.
    assert len([number for number in counted.values() if number]) >= trials.times(2, 3)
    assert len([number for number in parents.values() if number]) == 1
    trials.row(
        f"requests to recycled workers of gunicorn --preload; their parent uses {whose} SDK",
        times=times,
        lost=times - int(sum(counted.values())),
        seen=f"{len(counted)} workers",
    )


def answered(port: int, path: str) -> int:
    """The status of a request; a connection that a worker closes as it goes is made again."""

    def ask() -> int:
        return asked(port, path)

    return wait_until(ask, PATIENCE)


# Threads and event loops

LOOPS = """
import asyncio, json, sys, threading
import uvloop
from tests.kit.agents import Recorded, agent, model, sandboxed
from tests.kit.chat import ANSWER, ASK, listen
from tests.kit.providers import ask, openai
from tests.kit.tools import Bench, double, own_tool
from victor_otel.runtime import RUNTIME
from victor_otel.demo.script import Step, ToolCall

times = int(sys.argv[1])
recorded = Recorded()
RUNTIME.activate(recorded.provider).open()
failed, threads, agents, calls = [], 4, 0, 0
look = Step(calls=(ToolCall("own_tool", {"number": 3}),))

async def live(served, name):
    async with agent(served, name, own_tool(double)) as created:
        assert "complete" in (await created.run(ASK)).content
        assert (await listen(created))[-1] == "stream_end"

async def use(served, name):
    registry, provider = Bench(own_tool(double)).registry, openai(served.url)
    for number in range(10):
        await registry.execute("own_tool", {}, number=1)
        await ask(provider, name, stream=bool(number % 2))

def in_thread(run, main):
    try:
        run(main)
    except BaseException as error:
        failed.append(repr(error))

def at_once(run, *mains):
    started = [threading.Thread(target=in_thread, args=(run, main)) for main in mains]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()

scripts = {f"m{each}": [look, ANSWER, look, ANSWER] for each in range(4 * times)}
with sandboxed(), model(calls=[ANSWER], **scripts) as served:
    for run in [asyncio.run, uvloop.run] * times:
        run(live(served, f"m{agents}"))
        at_once(run, live(served, f"m{agents + 1}"))
        # Turns in several loops at once share a lock of one of them: Victor hangs, also without us.
        at_once(run, *(use(served, "calls") for _ in range(threads)))
        agents += 2
        calls += 10 * threads
    answers = len(served.answers)
found = {}
for (name, *labels), value in recorded.points(zeros=True).items():
    found[name] = found.get(name, 0) + value
errors = dict(RUNTIME.health.errors)
print(json.dumps([failed, agents, calls, answers, found, errors]))
"""


def test_loops_one_after_the_other_and_at_once_in_threads_count_alike(trials: Trials) -> None:
    times = trials.times(1, 20)
    failed, agents, calls, answers, found, errors = answer(LOOPS, str(times), timeout=1200)
    assert (failed, errors) == ([], {})
    assert answers > calls
    assert {
        "victor.requests": 2 * agents,
        "victor.chat.request.duration": 2 * agents,
        "victor.provider.requests": answers,
        "victor.provider.latency": answers,
        "victor.user.sessions": agents,
        "victor.session.duration": agents,
        "victor.initialization.duration": agents,
        "victor.requests_in_flight": 0,
    }.items() <= found.items()
    assert found["victor.tool.executions"] == found["victor.tool.execution.duration"]
    assert found["victor.tool.executions"] >= calls + agents
    trials.row(
        "agents, and calls in four threads at once, in loops of asyncio and of uvloop",
        times=agents + calls,
    )


# Ends of a process


END = (
    WORK
    + """
work(5)
print("made", flush=True)
sys.stdin.readline()
work(3)
print("made", flush=True)
if sys.argv[1] == "os._exit":
    os._exit(0)
time.sleep(60)
"""
)


@pytest.mark.parametrize("end", ["os._exit", "SIGKILL", "SIGTERM"])
def test_a_process_that_just_dies_has_delivered_all_but_its_last_interval(
    end: str, trials: Trials
) -> None:
    """It loses at most what it did in the last OTEL_METRIC_EXPORT_INTERVAL."""
    with note_taker() as (url, requests):
        process = subprocess.Popen(
            [sys.executable, "-c", END, end],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=pushing(url, OTEL_METRIC_EXPORT_INTERVAL="1000"),
        )
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "made\n"
        wait_until(lambda: list(pushed(requests, "victor.provider.requests").values()) == [5])
        process.stdin.write("go on\n")
        process.stdin.flush()
        assert process.stdout.readline() == "made\n"
        if end != "os._exit":
            process.send_signal(getattr(signal, end))
        process.wait(PATIENCE)
        died = time.time()
        (arrived,) = pushed(requests, "victor.provider.requests").values()
        last = max(point.time for request in requests for point in request) / 1e9
    assert 5 <= arrived <= 8
    # The next push was not due yet, and a busy machine is late.
    assert died - last < 1 + 15
    trials.row(
        f"calls before the last push of a process that ends by {end}",
        times=5,
        lost=5 - min(5, int(arrived)),
        seen=f"{8 - arrived:.0f} of 3 calls lost that were made {died - last:.1f} s after it at most",
    )


# Ctrl-C in a stream

INTERRUPTED = (
    AGENT
    + """
import os, signal
from victor_otel.runtime import RUNTIME

async def listen(url):
    from victor.framework import Agent
    from victor.framework.session_config import ProviderOverrideConfig, SessionConfig
    override = ProviderOverrideConfig(provider="openai", model="m", endpoint=url)
    agent = await Agent.create(session_config=SessionConfig(provider_override=override))
    try:
        async for event in agent.stream("Read the file and tell me what it says."):
            print(event.type.value, flush=True)
    finally:
        await agent.close()

with sandbox():
    try:
        asyncio.run(listen(sys.argv[1]))
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""
)


def interrupted(
    command: Sequence[str], served: ScriptedModel, **variables: str
) -> subprocess.CompletedProcess[str]:
    """What becomes of `command` when Ctrl-C is hit while the model is silent."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(
            OTEL_METRICS_EXPORTER="console", VICTOR_OTEL_EXIT_TIMEOUT="20", **variables
        ),
        # Whoever runs the tests in the background ignores it for his children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )
    with process:
        assert served.wait_for_request("m", 2, PATIENCE)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=PATIENCE)
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def statuses(points: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for point in points:
        status = point["attributes"]["status"]
        found[status] = found.get(status, 0) + point.get("count", point.get("value", 0))
    return {status: value for status, value in found.items() if value}


COMMANDS: Mapping[str, Callable[[str], Sequence[str]]] = {
    "victor run": lambda url: (sys.executable, "-m", "tests.kit.victor_cli", url, "run", ASK),
    "victor chat": lambda url: (sys.executable, "-m", "tests.kit.victor_cli", url, "chat", ASK),
    "a program": lambda url: (sys.executable, "-c", INTERRUPTED, url),
}


def test_ctrl_c_in_a_stream_is_one_cancelled_turn(trials: Trials) -> None:
    for name in list(COMMANDS)[: trials.times(1, 3)]:
        interrupt(name, trials)


def interrupt(name: str, trials: Trials) -> None:
    with ScriptedModel({"m": Script([LOOK, Step(silent=True)])}) as served:
        done = interrupted(COMMANDS[name](served.url), served)
        metrics = exported(done.stderr)
        assert statuses(metrics["victor.requests"]) == {"cancelled": 1}, done.stderr
        assert statuses(metrics["victor.chat.request.duration"]) == {"cancelled": 1}
        assert statuses(metrics["victor.provider.requests"]) == {"success": 1, "cancelled": 1}
        assert [point["count"] for point in metrics["victor.session.duration"]] == [1]
    if trials.long:
        with ScriptedModel({"m": Script([LOOK, Step(silent=True)])}) as served:
            plain = interrupted(COMMANDS[name](served.url), served, WITHOUT_US="1")
            assert plain.returncode == done.returncode
    trials.row(f"Ctrl-C while {name} waits for the model", times=1)


# What fails while it is imported

BROKEN = """
raise OSError("this plugin does not import")
"""
ENTRY_POINT = "[victor.plugins]\nbroken = broken_plugin:plugin\n"


def install_plugin(folder: Path) -> None:
    """A package beside ours whose plugin for Victor cannot be imported."""
    (folder / "broken_plugin.py").write_text(BROKEN, encoding="utf-8")
    info = folder / "broken_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINT)


def test_a_plugin_that_does_not_import_takes_nothing_from_us(tmp_path: Path) -> None:
    install_plugin(tmp_path)
    values = answer(
        AGENT
        + """
sys.path.append(sys.argv[1])
import importlib.metadata
assert "broken" in {each.name for each in importlib.metadata.entry_points(group="victor.plugins")}
sys.modules["victor.tools.bash"] = None  # a module of tools that does not import
work()
print(json.dumps(scraped()))
""",
        str(tmp_path),
        VICTOR_PROMETHEUS_ENABLED="true",
        VICTOR_PROMETHEUS_PORT="0",
    )
    assert values["victor_requests_total"] == 1
    assert values["victor_user_sessions_total"] == 1
    assert values.get("victor_otel_errors_total", 0) == 0


# Notebooks

RELOADED = (
    AGENT
    + """
import importlib
import victor_otel
from victor_otel.runtime import RUNTIME

provider, reader = memory_provider()
victor_otel.start(provider)
hooked = lambda: sorted(
    {
        target.partition(":")[0]
        for target, state in RUNTIME.health.hooks.items()
        if state == "bound"
    }
)

def by_importlib():
    for name in hooked():
        importlib.reload(sys.modules[name])
    importlib.reload(victor_otel).start(provider)

def by_notebook():
    from IPython.core.interactiveshell import InteractiveShell
    shell = InteractiveShell.instance()
    shell.run_cell("%load_ext autoreload\\n%autoreload 2").raise_error()
    reloader = shell.magics_manager.registry["AutoreloadMagics"]._reloader
    # As if these files had been edited; to look for all that refers to a class takes a second.
    for name in hooked()[::10]:
        reloader.modules_mtimes[name] = 0
    shell.run_cell("pass").raise_error()
    assert not reloader.failed, reloader.failed

from tests.kit.agents import sandboxed
with sandboxed(), ScriptedModel({"m": Script([Step("Hi.")])}) as model:
    asyncio.run(use(model.url))
    for reload in [by_importlib, by_notebook] * int(sys.argv[1]):
        reload()
        asyncio.run(use(model.url))
    answers = len(model.answers)
print()
print(json.dumps([len(hooked()), answers, counts(reader), RUNTIME.health.errors]))
"""
)


def test_modules_that_a_notebook_reloads_go_on_counting_once(trials: Trials) -> None:
    times = trials.times(1, 10)
    hooked, answers, values, errors = answer(RELOADED, str(times), timeout=1200)
    assert hooked > 20
    assert errors == {}
    turns = dict.fromkeys(
        (
            "victor.requests",
            "victor.chat.request.duration",
            "victor.user.sessions",
            "victor.session.duration",
            "victor.initialization.duration",
        ),
        2 * times + 1,
    )
    assert {name: values[name] for name in turns} == turns
    assert values["victor.provider.requests"] == values["victor.provider.latency"] == answers
    trials.row(
        "reloads of the hooked modules by importlib, and of a tenth of them by IPython",
        times=2 * times,
        seen=f"{hooked} modules",
    )


# On and off

SWITCHED = """
import atexit, collections, gc, json, os, sys, threading
registered = []
register = os.register_at_fork
os.register_at_fork = lambda **hooks: (registered.append(hooks), register(**hooks))
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
import psutil
import victor_otel
import victor.framework, victor.providers.base, victor.tools.registry

reader = InMemoryMetricReader()
provider = MeterProvider([reader])

def switch(times):
    for number in range(times):
        if number % 2:
            victor_otel.start(provider)
            victor_otel.stop()
        else:
            victor_otel.VictorInstrumentor().instrument(meter_provider=provider)
            reader.get_metrics_data()
            victor_otel.VictorInstrumentor().uninstrument()

def held():
    gc.collect()
    return {
        "objects": collections.Counter(
            f"{type(each).__module__}.{type(each).__qualname__}" for each in gc.get_objects()
        ),
        "threads": threading.active_count(),
        "files": psutil.Process().num_fds(),
        "gc callbacks": len(gc.callbacks),
        "finders": len(sys.meta_path),
        "atexit": atexit._ncallbacks(),
        "at fork": len(registered),
    }

import tracemalloc

def traced():
    gc.collect()
    return tracemalloc.get_traced_memory()[0]

switch(20)
before = held()
switch(int(sys.argv[1]))
after = held()
objects = after.pop("objects") - before.pop("objects")
tracemalloc.start()
switch(20)  # what was held before it was traced is replaced
earlier = traced()
switch(50)
each = (traced() - earlier) / 50
print(json.dumps([before, after, objects, each]))
"""


MOST_EACH = 500
"""Bytes that Python's own dictionaries may grow by; one of our wrappers alone is more."""


def test_a_thousand_times_on_and_off_leave_nothing_behind(trials: Trials) -> None:
    times = trials.times(300, 1000)
    before, after, objects, each = answer(SWITCHED, str(times), timeout=600)
    assert after == before
    # One of anything for each time would be hundreds.
    grown = {kind: number for kind, number in objects.items() if number > times / 10}
    assert grown == {}
    assert each < MOST_EACH
    trials.row(
        "switching the instrumentation on and off",
        times=times,
        seen=f"no thread, file, hook or object more, {each:.0f} bytes each time",
    )
