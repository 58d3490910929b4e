"""The fifteen ways in which comparable instrumentations have failed their users, in that order.

Each is the short form, from the real Victor to what is exported. The engine's tests and those of
each area go through the details.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import inspect
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client.parser import text_string_to_metric_families

from tests.kit.agents import Recorded, agent, model, recording
from tests.kit.chat import ANSWER, ASK, IN_FLIGHT, NOBODY, REQUESTS, TURNS, listen
from tests.kit.exits import exit_seconds
from tests.kit.processes import answer, run, silent_server
from tests.kit.providers import own
from tests.kit.tools import Bench, double, own_tool
from tests.reliability.exits import BOUND, GENEROUS, TIMED
from tests.reliability.lifecycles import WORK, pushed
from tests.stack.backends import note_taker
from victor_otel.demo.model import ScriptedModel
from victor_otel.demo.script import Step, ToolCall
from victor_otel.engine import failsafe, wrapping
from victor_otel.engine.nesting import CURRENT
from victor_otel.engine.patching import resolve
from victor_otel.model.operation import Frame
from victor_otel.runtime import RUNTIME
from victor_otel.signals.recorder import Recorder
from victor_otel.signals.recording import Recording
from victor_otel.victor import catalog

DOUBLE = Step(calls=(ToolCall("own_tool", {"number": 3}),))
TOOLS, CALLS = "victor.tool.executions", "victor.provider.requests"


@asynccontextmanager
async def living(*steps: Step) -> AsyncIterator[tuple[Any, ScriptedModel]]:
    """A real agent with one tool, whose model follows the steps."""
    with model(m=steps) as served:
        async with agent(served, "m", own_tool(double)) as created:
            yield created, served


async def half_way(stream: Any) -> None:
    """Reads a stream of events until the tool has run."""
    async for event in stream:
        if event.type.value == "tool_result":
            return


def by_status(recorded: Recorded, name: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for (_, *labels), value in recorded.points(name).items():
        status = dict(labels)["status"]
        found[status] = found.get(status, 0) + value
    return found


# 1


async def test_01_failed_to_detach_context_in_async_generators(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A stream that one task began and another one closes, each in a context of its own."""
    with recording() as recorded:
        async with living(DOUBLE, ANSWER) as (created, _):
            stream = created.stream(ASK)
            await asyncio.create_task(half_way(stream))
            await asyncio.create_task(stream.aclose())
            assert CURRENT.get() is None
            await asyncio.sleep(0.1)  # Victor's inner generators are closed by the loop, later
        assert by_status(recorded, REQUESTS) == {"cancelled": 1}
    assert not [each for each in caplog.records if "detach" in each.getMessage()]
    assert not [each for each in caplog.records if each.name.startswith("victor_otel")]


# 2


async def test_02_orphaned_attach_corrupts_later_traces() -> None:
    """A stream that is dropped half-way leaves neither a span nor a call around what follows."""
    tracer = TracerProvider().get_tracer("application")
    with recording() as recorded:
        async with living(DOUBLE, ANSWER, DOUBLE, ANSWER) as (created, _):
            with tracer.start_as_current_span("request") as span:
                stream = created.stream(ASK)
                await half_way(stream)
                chunks = own().stream([], model="m")
                await anext(chunks)
                assert CURRENT.get() is None
                del stream, chunks
                gc.collect()
                await asyncio.sleep(0.1)
                assert trace.get_current_span() is span
            assert trace.get_current_span() is trace.INVALID_SPAN
            await created.run(ASK)
        # Inside of a turn that never ended it would be no request of its own.
        assert by_status(recorded, REQUESTS) == {"cancelled": 1, "success": 1}


# 3


async def test_03_double_counting_across_layers() -> None:
    with recording() as recorded:
        async with living(DOUBLE, ANSWER) as (created, served):
            await created.run(ASK)
        assert by_status(recorded, REQUESTS) == by_status(recorded, TURNS) == {"success": 1}
        assert by_status(recorded, TOOLS) == {"success": 1}
        assert by_status(recorded, CALLS) == {"success": len(served.answers)}


# 4


async def test_04_changed_return_types() -> None:
    """What Victor returns is of the type that it is without us, streams and coroutines too."""

    async def types(*, instrumented: bool) -> list[Any]:
        async with living(DOUBLE, ANSWER, DOUBLE, ANSWER) as (created, _):
            if not instrumented:  # the first agent of a process loads the plugin
                RUNTIME.deactivate()
            found: list[Any] = [type(await created.run(ASK))]
            for stream in (created.stream(ASK), own().stream([], model="m")):
                found += [stream.__class__, inspect.isasyncgen(stream)]
                found += [
                    isinstance(stream, AsyncIterator),
                    {type(each) async for each in stream},
                ]
            registry = created.get_orchestrator().tools
            coroutine = registry.execute("own_tool", {}, number=3)
            found += [inspect.iscoroutine(coroutine), coroutine.__qualname__, type(await coroutine)]
            chat = own().chat
            found += [inspect.ismethod(chat), inspect.iscoroutinefunction(chat), chat.__class__]
            found += [inspect.signature(chat), type(await chat([], model="m"))]
        return found

    without = await types(instrumented=False)
    with recording():
        assert await types(instrumented=True) == without


# 5


async def test_05_telemetry_exceptions_reach_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever we record raises; the agent, its tool and its stream are as they were."""
    monkeypatch.setattr(failsafe, "STRICT", False)
    said: list[Any] = []
    for broken in (False, True):
        with recording(), monkeypatch.context() as patch:
            if broken:
                patch.setattr(Recorder, "__call__", _fails)
                patch.setattr(Recording, "__call__", _fails)
            async with living(DOUBLE, ANSWER, DOUBLE, ANSWER) as (created, served):
                said.append((await created.run(ASK)).content)
                said.append(await listen(created))
                said.append([(each.status, each.tool_calls) for each in served.answers])
    assert said[:3] == said[3:]
    assert sum(RUNTIME.health.errors.values()) > 4
    RUNTIME.health.errors.clear()


def _fails(*_args: Any, **_labels: Any) -> None:
    raise ZeroDivisionError("ours")


# 6


async def test_06_cancellation_leaks_or_counts_as_success() -> None:
    with recording() as recorded:
        async with living(DOUBLE, Step(silent=True)) as (created, served):
            running = asyncio.ensure_future(created.run(ASK))
            assert await asyncio.to_thread(served.wait_for_request, "m", 2)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
        assert by_status(recorded, REQUESTS) == by_status(recorded, TURNS) == {"cancelled": 1}
        assert by_status(recorded, CALLS) == {"success": 1, "cancelled": 1}
        assert recorded.points(IN_FLIGHT, zeros=True) == NOBODY
        assert recorded.points("victor.errors") == {}


# 7


async def test_07_cardinality_blows_up() -> None:
    """Names that a model invents, or that come with each request."""
    with recording() as recorded:
        registry = Bench(own_tool(double)).registry
        for number in range(3000):
            await registry.execute(f"invented_{number}", {}, number=1)
            await own().chat([], model=f"model-{number}")
        calls = recorded.points(CALLS)
        tools = recorded.points(TOOLS, "victor.tool_calls_rejected")
    assert sum(calls.values()) == 3000
    assert len(calls) == 101
    assert {dict(key[1:])["tool"] for key in tools} <= {"unknown"}


# 8


async def test_08_leaks_in_maps_of_runs() -> None:
    """Sessions that end well, are cancelled, or are dropped half-way leave nothing of theirs."""

    async def lives() -> None:
        async with living(DOUBLE, ANSWER, Step(silent=True)) as (created, served):
            await created.run(ASK)
            requests = len(served.answers)
            running = asyncio.ensure_future(created.run(ASK))
            assert await asyncio.to_thread(served.wait_for_request, "m", requests + 1)
            running.cancel()
            await asyncio.wait([running])
            stream = created.stream(ASK)
            reading = asyncio.ensure_future(anext(stream))
            await asyncio.sleep(0)
            reading.cancel()
            await asyncio.wait([reading])

    def kept() -> int:
        gc.collect()
        # By their class: what a proof of hostile values left may raise when it is asked.
        ours = [each for each in gc.get_objects() if issubclass(type(each), Frame)]
        return sum(each.active for each in ours)

    with recording() as recorded:
        before = kept()
        for _ in range(3):
            await lives()
        recorded.points()
        # Victor ends what was left half-way in steps of its own.
        for _ in range(100):
            if kept() <= before:
                break
            await asyncio.sleep(0.1)
        assert kept() <= before
        assert recorded.points(IN_FLIGHT) == {}


# 9

ORDERS = """
import asyncio, json, sys
order = sys.argv[1]

def ours():
    import victor_otel
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    reader = InMemoryMetricReader()
    victor_otel.start(MeterProvider([reader]))
    return reader

if order == "first":
    reader = ours()
from victor.providers.base import BaseProvider
from victor.tools.registry import ToolRegistry
from tests.kit.providers import own
from tests.kit.tools import Bench, double, own_tool
provider, registry = own(), Bench(own_tool(double)).registry
chat = type(provider).chat
if order == "last":
    reader = ours()

async def work():
    for _ in range(3):
        await provider.chat([], model="m")
        await registry.execute("own_tool", {}, number=1)

asyncio.run(work())
found = {}
for resource in reader.get_metrics_data().resource_metrics:
    for scope in resource.scope_metrics:
        for metric in scope.metrics:
            if metric.name in ("victor.provider.requests", "victor.tool.executions"):
                found[metric.name] = sum(point.value for point in metric.data.data_points)
print(json.dumps(found))
"""


@pytest.mark.parametrize("order", ["first", "last"])
def test_09_import_order_silently_defeats_patching(order: str) -> None:
    assert answer(ORDERS, order) == {CALLS: 3, TOOLS: 3}


# 10

FORKED = (
    WORK
    + """
from victor_otel.runtime import RUNTIME
work(5)
reader, writer = os.pipe()
child = os.fork()
if child == 0:
    work(2)
    pipeline = RUNTIME.instrumentation.pipeline
    pipeline.flush()
    os.write(writer, b"x")
    os._exit(0)
os.waitpid(child, 0)
"""
)


def test_10_fork_gunicorn_and_uvicorn() -> None:
    """Servers of several processes are in test_lifecycle; here a bare fork, which each rests on."""
    with note_taker() as (url, requests):
        run(FORKED, OTEL_EXPORTER_OTLP_ENDPOINT=url, VICTOR_OTEL_EXIT_TIMEOUT="20")
        assert sorted(pushed(requests, CALLS).values()) == [2, 5]


# 11


def test_11_shutdown_hangs() -> None:
    with silent_server() as port:
        endpoint = f"http://127.0.0.1:{port}"
        done = run(
            TIMED, "0", OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, VICTOR_OTEL_EXIT_TIMEOUT=str(BOUND)
        )
    assert exit_seconds(done.stderr) < BOUND + GENEROUS


# 12

PAGE = (
    WORK
    + """
import urllib.request
from tests.kit.tools import Bench, double, own_tool
from victor_otel.runtime import RUNTIME

names = ['quo"te', "back\\\\slash", "line\\nbreak", "größe", "a b", ""]
registry = Bench(*(own_tool(double, name=name or "own_tool") for name in names)).registry

async def use():
    for name in names:
        await registry.execute(name or "own_tool", {}, number=1)
        await own(name=name or "own").chat([], model=name or "m")

asyncio.run(use())
page = urllib.request.urlopen(RUNTIME.instrumentation.pipeline.endpoint).read().decode()
print(json.dumps(page))
"""
)


def test_12_wrong_or_duplicate_prometheus_labels() -> None:
    page = answer(PAGE, VICTOR_PROMETHEUS_ENABLED="true", VICTOR_PROMETHEUS_PORT="0")
    series: list[tuple[str, frozenset[tuple[str, str]]]] = []
    for family in text_string_to_metric_families(page):
        keys = {frozenset(each.labels.keys() - {"le"}) for each in family.samples}
        assert len(keys) <= 1, family.name
        series += [(each.name, frozenset(each.labels.items())) for each in family.samples]
    assert len(series) == len(set(series))
    described = [line.split()[2] for line in page.splitlines() if line.startswith("# TYPE")]
    assert len(described) == len(set(described))
    ran = {
        dict(labels)["tool"] for name, labels in series if name == "victor_tool_executions_total"
    }
    assert ran == {'quo"te', "back\\slash", "line\nbreak", "größe", "a b", "own_tool"}


# 13


def is_ours(value: Any) -> bool:
    """Whether a wrapper of ours is what stands in a dictionary."""
    function, _ = wrapping.unpacked(value)
    return type(function) is FunctionType and function.__code__.co_filename == wrapping.__file__


def test_13_incomplete_uninstrument() -> None:
    """No class or module of Victor's holds anything of ours, and all is what it was."""

    def owners() -> list[tuple[Any, str]]:
        found: list[tuple[Any, str]] = []
        for target in catalog.targets(None):
            module, _, path = target.partition(":")
            if module in sys.modules:
                try:
                    found.append(resolve(sys.modules[module], path))
                except LookupError:
                    continue
        return found

    RUNTIME.deactivate()
    importlib.import_module("victor.framework")
    importlib.import_module("victor.tools.registry")
    finders = list(sys.meta_path)
    before = {(id(owner), name): id(vars(owner).get(name)) for owner, name in owners()}
    with recording():
        changed = {
            (id(owner), name)
            for owner, name in owners()
            if before.get((id(owner), name)) != id(vars(owner).get(name))
        }
        wrapped = {(id(owner), name) for owner, name in owners() if is_ours(vars(owner).get(name))}
        assert wrapped <= changed
        assert len(wrapped) > 50
    after = {(id(owner), name): id(vars(owner).get(name)) for owner, name in owners()}
    assert {key: after[key] for key in before} == before
    assert sys.meta_path == finders
    for owner, _ in owners():
        left = [name for name, value in vars(owner).items() if is_ours(value)]
        assert left == [], owner


# 14

SKEW = """
import sys
for name in sys.argv[1].split(","):
    sys.modules[name] = None  # as if it were not installed, or did not import
""" + WORK.replace("import asyncio, json, os, sys, time\n", "import asyncio, json, os, time\n")


@pytest.mark.parametrize(
    "missing",
    [
        "prometheus_client,opentelemetry.exporter.prometheus",
        "opentelemetry.exporter.otlp.proto.http.metric_exporter",
    ],
)
def test_14_dependency_skew_breaks_start_up(missing: str) -> None:
    done = run(
        SKEW + "work(3)\nprint('worked')",
        missing,
        VICTOR_PROMETHEUS_ENABLED="true",
        VICTOR_PROMETHEUS_PORT="0",
        OTEL_METRICS_EXPORTER="otlp,console",
        VICTOR_OTEL_EXIT_TIMEOUT="0.1",
    )
    assert done.stdout.splitlines()[-1] == "worked"
    assert "victor-otel" in done.stderr


PLUGIN = """
import sys
sys.modules[sys.argv[1]] = None
from victor_otel.plugin import plugin
plugin.register(object())
print("worked")
"""


@pytest.mark.parametrize("missing", ["psutil", "wrapt", "typer"])
def test_14_dependency_that_is_missing_leaves_victor_without_us(missing: str) -> None:
    done = run(PLUGIN, missing)
    assert done.stdout == "worked\n"
    assert "victor-otel could not be switched on" in done.stderr


# 15

OTHERS = """
import json, sys
sys.path.append(sys.argv[1])
from opentelemetry.instrumentation.auto_instrumentation import _load
from opentelemetry.instrumentation.distro import DefaultDistro
from victor_otel.runtime import RUNTIME

def fails(*args):
    raise RuntimeError("ours cannot be switched on")

RUNTIME.activate = fails
_load._load_instrumentors(DefaultDistro())
import zz_instrumentor
print(json.dumps(zz_instrumentor.instrumented))
"""
INSTRUMENTOR = """
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor

instrumented = []

class Other(BaseInstrumentor):
    def instrumentation_dependencies(self):
        return ()

    def _instrument(self, **kwargs):
        instrumented.append("after us")

    def _uninstrument(self, **kwargs): ...
"""


def test_15_one_failing_instrumentor_disables_the_rest(tmp_path: Path) -> None:
    (tmp_path / "zz_instrumentor.py").write_text(INSTRUMENTOR)
    info = tmp_path / "zz_instrumentor-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: zz-instrumentor\nVersion: 1.0\n")
    entry = "[opentelemetry_instrumentor]\nzz = zz_instrumentor:Other\n"
    (info / "entry_points.txt").write_text(entry)
    assert answer(OTHERS, str(tmp_path)) == ["after us"]


async def test_15_one_hook_of_ours_that_fails_disables_no_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(failsafe, "STRICT", False)
    wrap = wrapping.wrap

    def fails_for_tools(original: Any, owner: Any, **options: Any) -> Any:
        if original.__name__ == "execute":
            raise RuntimeError("this one cannot be wrapped")
        return wrap(original, owner, **options)

    monkeypatch.setattr(wrapping, "wrap", fails_for_tools)
    with caplog.at_level(logging.WARNING, "victor_otel"), recording() as recorded:
        async with living(DOUBLE, ANSWER) as (created, served):
            await created.run(ASK)
        assert by_status(recorded, REQUESTS) == {"success": 1}
        assert by_status(recorded, CALLS) == {"success": len(served.answers)}
    assert sum(RUNTIME.health.errors.values()) > 0
    RUNTIME.health.errors.clear()
