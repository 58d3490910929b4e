"""What can fail around us: exporters, views, an SDK that is shut down, clocks, bounds."""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
from collections.abc import Mapping
from typing import Any

import pytest
from opentelemetry.sdk.metrics.export import (
    HistogramDataPoint,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.metrics.view import DropAggregation, View

from tests.kit.agents import Recorded, agent, model, recording
from tests.kit.chat import ANSWER, ASK, listen
from tests.kit.processes import answer
from tests.kit.providers import ask, openai, own
from tests.kit.tools import Bench, double, own_tool
from tests.reliability.lifecycles import WORK
from tests.reliability.trials import Trials
from victor_otel.demo.model import ScriptedModel
from victor_otel.demo.script import Step, ToolCall
from victor_otel.engine import plan, wrapping
from victor_otel.signals import windows

REQUESTS, TURNS = "victor.requests", "victor.chat.request.duration"
CALLS, LATENCY = "victor.provider.requests", "victor.provider.latency"
TOOLS, TOOL_TIMES = "victor.tool.executions", "victor.tool.execution.duration"
NAMES = (REQUESTS, TURNS, CALLS, LATENCY, TOOLS, TOOL_TIMES)


async def live(times: int, *, between: Any = None) -> tuple[ScriptedModel, int]:
    """Agents that each take a turn and stream one: the model that answered, and the turns."""
    names = [f"m{number}" for number in range(times)]
    look = Step(calls=(ToolCall("own_tool", {"number": 3}),))
    steps = (look, ANSWER, look, ANSWER)
    with model(**dict.fromkeys(names, steps)) as served:
        for name in names:
            async with agent(served, name, own_tool(double)) as created:
                assert "complete" in (await created.run(ASK)).content
                if between is not None:
                    between()
                assert (await listen(created))[-1] == "stream_end"
    return served, 2 * times


def sums(recorded: Recorded) -> dict[str, float]:
    found = dict.fromkeys(NAMES, 0.0)
    for (name, *_), value in recorded.points(*NAMES).items():
        found[name] += value
    return found


def reconciled(recorded: Recorded, served: ScriptedModel, turns: int) -> None:
    """Counters equal the model's count and the driver's, and histograms equal the counters."""
    found = sums(recorded)
    assert found[REQUESTS] == found[TURNS] == turns
    assert found[CALLS] == found[LATENCY] == len(served.answers)
    assert found[TOOLS] == found[TOOL_TIMES] > 0


# Exporters


class Raising(MetricExporter):
    """Raises one error after the other from whatever it is asked for, then works."""

    def __init__(self, *errors: BaseException) -> None:
        super().__init__()
        self.errors = list(errors)
        self.exports = 0

    def _act(self) -> None:
        if self.errors:
            raise self.errors.pop(0)

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> MetricExportResult:
        self._act()
        self.exports += 1
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        self._act()
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        self._act()


async def test_an_exporter_of_the_applications_that_raises_costs_no_count(trials: Trials) -> None:
    exporter = Raising(ValueError("one"), OSError("two"), RuntimeError("three"))
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=1e9)
    with recording(Recorded(reader)) as recorded:
        served, turns = await live(trials.times(1, 20), between=reader.collect)
        while exporter.errors:
            reader.collect()
        reader.collect()
        assert exporter.exports > 0
        reconciled(recorded, served, turns)
    reader.shutdown()
    trials.row("turns beside an application's exporter that raises", times=turns)


EXPORTER = """
import logging
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult

class Raising(MetricExporter):
    raising = exports = 0
    last = {}

    def export(self, metrics_data, timeout_millis=10_000, **kwargs):
        if Raising.raising:
            Raising.raising -= 1
            raise [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit][Raising.raising % 4]("no")
        Raising.last = {
            metric.name: sum(getattr(p, "count", getattr(p, "value", 0)) for p in metric.data.data_points)
            for resource in metrics_data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }
        Raising.exports += 1
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis=10_000):
        raise SystemExit("no flush")

    def shutdown(self, timeout_millis=30_000, **kwargs):
        raise SystemExit("no shutdown")
"""
INFO = "Metadata-Version: 2.1\nName: raising\nVersion: 1.0\n"
ENTRY_POINT = "[opentelemetry_metrics_exporter]\nraising = raising_exporter:Raising\n"
OURS = (
    """
import atexit, threading
sys_exit = {}
def told():
    print(json.dumps([Raising.last, Raising.exports, sys_exit]))
atexit.register(told)
"""
    + WORK
    + """
from raising_exporter import Raising
from victor_otel.runtime import RUNTIME

pipeline = RUNTIME.instrumentation.pipeline
times = int(sys.argv[1])
work(times)
Raising.raising = 8
deadline = time.monotonic() + 60
while (Raising.raising or not Raising.exports) and time.monotonic() < deadline:
    time.sleep(0.02)
assert not Raising.raising
before = Raising.exports
while Raising.exports == before and time.monotonic() < deadline:
    time.sleep(0.02)
assert Raising.exports > before, "the thread that exports is dead"
work(times)
sys_exit["dropped"] = RUNTIME.health.exports_dropped
sys_exit["threads"] = sorted(t.name for t in threading.enumerate())
"""
)


def test_an_exporter_of_ours_that_raises_anything_is_asked_again(
    tmp_path: Any, trials: Trials
) -> None:
    (tmp_path / "raising_exporter.py").write_text(EXPORTER)
    info = tmp_path / "raising-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(INFO)
    (info / "entry_points.txt").write_text(ENTRY_POINT)
    times = trials.times(5, 5000)
    last, exports, state = answer(
        f"import sys\nsys.path.append({str(tmp_path)!r})\n" + OURS,
        str(times),
        OTEL_METRICS_EXPORTER="raising",
        OTEL_METRIC_EXPORT_INTERVAL="50",
        VICTOR_OTEL_EXIT_TIMEOUT="20",
    )
    assert last[CALLS] == last[LATENCY] == 2 * times
    assert exports > 1
    assert state["dropped"] == last["victor.otel.exports_dropped"] == 8
    assert {"OtelPeriodicExportingMetricReader", "victor-otel-flush"} <= set(state["threads"])
    trials.row("exports that raise, SystemExit and KeyboardInterrupt among them", times=8)


# Views, and an SDK that is shut down


async def test_what_a_view_drops_is_absent_and_the_rest_is_whole(trials: Trials) -> None:
    dropped = View(instrument_name="victor.provider.*", aggregation=DropAggregation())
    with recording(Recorded(views=[dropped])) as recorded:
        served, turns = await live(trials.times(1, 20))
        found = sums(recorded)
        assert found[REQUESTS] == found[TURNS] == turns
        assert found[CALLS] == found[LATENCY] == 0 < len(served.answers)
        assert found[TOOLS] == found[TOOL_TIMES] > 0
        assert recorded.points("victor.otel.errors") == {}
    with recording(Recorded(views=[View(instrument_name="*", aggregation=DropAggregation())])) as (
        nothing
    ):
        await live(1)
        assert nothing.points() == {}
    trials.row("turns under views that drop some instruments, or all", times=turns + 2)


async def test_an_sdk_that_is_shut_down_under_agents_leaves_them_alone(
    trials: Trials, caplog: pytest.LogCaptureFixture
) -> None:
    times = trials.times(1, 20)
    with recording() as recorded:
        shut = itertools.count()

        def shut_down() -> None:
            if next(shut) == 0:
                recorded.provider.shutdown()

        with caplog.at_level(logging.WARNING, "victor_otel"):
            _, turns = await live(times, between=shut_down)
    with recording() as later:
        served, more = await live(times)
        reconciled(later, served, more)
    assert [each.getMessage() for each in caplog.records if each.name == "victor_otel"] == []
    trials.row("turns while the application shuts its SDK down", times=turns)


OWN_SDK = (
    WORK
    + """
from victor_otel.runtime import RUNTIME
work(5)
RUNTIME.instrumentation.pipeline.recorder._provider.shutdown()
work(5)
victor_otel.stop()
victor_otel.start()
work(5)
print(json.dumps(RUNTIME.health.errors))
"""
)


def test_our_own_sdk_that_is_shut_down_leaves_victor_alone() -> None:
    errors = answer(
        OWN_SDK,
        VICTOR_PROMETHEUS_ENABLED="true",
        VICTOR_PROMETHEUS_PORT="0",
        OTEL_METRICS_EXPORTER="console",
    )
    assert errors == {}


# Clocks


class Jumping:
    """A clock that goes back and forward, by up to a second or an hour, every now and then."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.now = 1e6

    def __call__(self) -> float:
        self.now += 0.001
        if self._random.random() < 0.3:
            most = self._random.choice((1, 3600))
            self.now += self._random.uniform(-most, most)
        return self.now


def values(recorded: Recorded) -> dict[str, list[Any]]:
    data = recorded.reader.get_metrics_data()
    assert data is not None
    found: dict[str, list[Any]] = {}
    for resource in data.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                found.setdefault(metric.name, []).extend(metric.data.data_points)
    return found


async def test_clocks_that_jump_cost_no_count_and_make_no_nonsense(
    monkeypatch: pytest.MonkeyPatch, trials: Trials
) -> None:
    times = trials.times(1, 20)
    turns = 0
    for seed in range(times):
        clock = Jumping(seed)
        with monkeypatch.context() as patch, recording() as recorded:
            for module in (plan, wrapping):
                patch.setattr(module, "perf_counter", clock)
            patch.setattr(windows.Window.__init__, "__defaults__", (clock,))
            served, took = await live(1)
            turns += took
            for _ in range(20):
                await own().chat([], model="own")
            found = sums(recorded)
            assert found[REQUESTS] == found[TURNS] == took
            assert found[CALLS] == found[LATENCY] == len(served.answers) + 20
            assert found[TOOLS] == found[TOOL_TIMES] > 0
            shown = values(recorded)
            assert "victor.request_rate" in shown
            for name, points in shown.items():
                for point in points:
                    if isinstance(point, HistogramDataPoint):
                        assert point.sum >= 0, name
                        assert point.count == sum(point.bucket_counts), name
                    else:
                        assert point.value >= 0, name
                    if name.endswith(("success_rate", "error_rate")):
                        assert point.value <= 1, name
                    if name == "victor.request_rate":
                        assert point.value <= took, name
    trials.row("turns under clocks that go back and forward by an hour", times=turns)


@pytest.mark.parametrize("jump", [-3600.0, -1.5, 3600.0])
def test_a_window_after_a_jump_knows_only_what_came_after_it_or_all(jump: float) -> None:
    now = 10_000.0
    window = windows.Window(lambda: now)
    for _ in range(300):
        window.add(0)
    now += jump
    for _ in range(10):
        window.add(1)
    ratio = window.ratio()
    assert ratio in {1.0, 10 / 310}
    assert window.rate() <= 310
    now += 100
    assert window.rate() <= 310 / 100
    now += 300
    assert (window.ratio(), window.rate()) == (None, 0)


# Bounds


async def test_more_series_than_the_sdk_keeps_are_folded_by_us_and_lose_nothing(
    trials: Trials,
) -> None:
    """The SDK would put all beyond 2,000 under one point that says nothing but that."""
    tools = [own_tool(double, name=f"tool_{number}") for number in range(250)]
    providers = [own(name=f"provider_{number}") for number in range(60)]
    times = trials.times(2500, 20_000)
    with recording() as recorded:
        bench = Bench(*tools)
        for number in range(250):
            await bench.registry.execute(f"tool_{number}", {}, number=1)
        for number in range(times):
            provider = providers[number % len(providers)]
            await provider.chat([], model=f"m{number % 97}")
        found = recorded.points(CALLS, LATENCY, TOOLS, TOOL_TIMES)
        shown = values(recorded)
    assert not any("otel.metric.overflow" in dict(key[1:]) for key in found)
    assert max(map(len, shown.values())) < 2000
    total = {
        name: sum(value for key, value in found.items() if key[0] == name)
        for name in (CALLS, LATENCY, TOOLS, TOOL_TIMES)
    }
    assert total == {CALLS: times, LATENCY: times, TOOLS: 250, TOOL_TIMES: 250}
    assert len({key for key in found if key[0] == CALLS}) > 200  # each with seven siblings at 0
    others = {dict(key[1:])["tool"] for key in found if key[0] == TOOLS}
    assert "other" in others
    assert len(others) == 201
    trials.row("calls under more label values than any bound", times=times)


async def test_streams_open_at_once_without_number_are_each_counted_once(trials: Trials) -> None:
    times = trials.times(3000, 30_000)
    with recording() as recorded:
        streams = [own().stream([], model="m") for _ in range(times)]
        for stream in streams:
            assert (await anext(stream)).content == "a"
        for number, stream in enumerate(streams):
            if number % 3 == 0:
                [chunk async for chunk in stream]
            elif number % 3 == 1:
                await stream.aclose()
        del stream
        streams.clear()
        for _ in range(2):  # the event loop closes what was dropped: one step asks, the next does
            await asyncio.sleep(0)
        found: Mapping[tuple[Any, ...], float] = recorded.points(CALLS)
        ended = {dict(key[1:])["status"]: value for key, value in found.items()}
        latencies = sum(recorded.points(LATENCY).values())
    whole = len(range(0, times, 3))
    assert ended == {"success": whole, "cancelled": times - whole}
    assert latencies == times
    trials.row("model streams open at once: read, closed or dropped", times=times)


async def test_victors_transport_loses_no_call_of_many_at_once(trials: Trials) -> None:
    times = trials.times(40, 400)
    with model(m=[ANSWER]) as served, recording() as recorded:
        provider = openai(served.url)
        await asyncio.gather(*(ask(provider, "m", stream=bool(n % 2)) for n in range(times)))
        found = sums(recorded)
    assert found[CALLS] == found[LATENCY] == times == len(served.answers)
