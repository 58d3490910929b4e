"""Our own errors are counted, said once and swallowed; finalizers cannot stop the process."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import textwrap
from typing import Any

import pytest

from tests.engine.bench import FAKE, Bench
from tests.engine.fakes import ERRORS, fail, give, give_later, letters, words
from victor_otel.engine import failsafe
from victor_otel.engine.health import Health
from victor_otel.model.operation import Operation, OperationType
from victor_otel.victor import ourselves

CALLS = OperationType("calls")


def broken(_call: Operation, _record: Any) -> None:
    raise ZeroDivisionError("ours")


def test_observer_that_raises_leaves_the_result(bench: Bench, lenient: None) -> None:
    value = object()
    assert bench.wrap(give, bench.hook(broken))(value) is value
    assert bench.health.errors == {FAKE: 1}


async def test_observer_that_raises_leaves_a_coroutine(bench: Bench, lenient: None) -> None:
    value = object()
    assert await bench.wrap(give_later, bench.hook(broken))(value) is value
    assert bench.health.errors == {FAKE: 1}


async def test_observer_that_raises_leaves_streams(bench: Bench, lenient: None) -> None:
    assert list(bench.stream(letters, observe=broken)("a", "b")) == ["a", "b"]
    assert [item async for item in bench.stream(words, observe=broken)("a")] == ["a"]
    assert bench.health.errors == {FAKE: 2}


def test_observer_that_raises_leaves_victors_exception(bench: Bench, lenient: None) -> None:
    error = ERRORS[0]
    with pytest.raises(ValueError, match="v") as raised:
        bench.wrap(fail, bench.hook(broken))(error)
    assert raised.value is error
    assert error.__context__ is error.__cause__ or error.__context__ is None


def test_observer_that_raises_leaves_the_other_observers(bench: Bench, lenient: None) -> None:
    hooks = bench.hook(broken), bench.hook(), bench.hook(broken, type=CALLS)
    bench.engine.followers(CALLS).observers.append(("area.whole", bench.note))
    bench.wrap(give, *hooks)(1)
    assert len(bench.calls) == 2
    assert bench.health.errors == {FAKE: 2}


def test_errors_are_logged_once_at_each_place(
    bench: Bench, lenient: None, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = (
        bench.wrap(give, bench.hook(broken, target=f"tests:{name}")) for name in ("one", "two")
    )
    with caplog.at_level(logging.DEBUG, "victor_otel"):
        for function in (one, one, two, one, two):
            function(1)
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert ["one" in caplog.messages[0], "two" in caplog.messages[1]] == [True, True]
    assert all(f"{__file__}:" in message for message in caplog.messages)
    assert not any("ours" in message for message in caplog.messages), "an error's text is content"
    assert bench.health.errors == {"tests:one": 3, "tests:two": 2}


@pytest.mark.parametrize("option", ["when", "owner", "at_start", "read"])
def test_declared_function_that_raises_leaves_the_result(
    bench: Bench, lenient: None, option: str
) -> None:
    kind = OperationType("read", object if option == "read" else None)
    hook = bench.hook(type=kind, **{option: lambda operation: 1 / 0})
    assert bench.wrap(lambda: bench.wrap(give, hook)("value"), bench.hook())() == "value"
    assert bench.health.errors == {FAKE: 1}


def test_a_start_that_cannot_be_read_begins_no_span(bench: Bench, lenient: None) -> None:
    kind, begun = OperationType[object]("read"), list[Operation]()
    bench.engine.followers(kind).trace = begun.append
    hook = bench.hook(type=kind, at_start=lambda operation: 1 / 0)
    assert bench.wrap(give, hook)("value") == "value"
    assert begun == []  # it would never end


def test_an_inner_function_whose_result_cannot_be_read_leaves_it(
    bench: Bench, lenient: None
) -> None:
    inner = bench.wrap(give, bench.telling(CALLS, read=lambda result: 1 / 0))
    assert bench.wrap(lambda: inner("value"), bench.hook(type=CALLS))() == "value"
    assert bench.health.errors == {FAKE: 1}


def test_pipeline_that_cannot_open_leaves_the_result(bench: Bench, lenient: None) -> None:
    def fails() -> None:
        raise OSError("no pipeline")

    bench.engine.open_pipeline = fails
    assert bench.wrap(give, bench.hook(opens=True))("value") == "value"
    assert bench.health.errors == {FAKE: 1}


def test_facts_that_cannot_be_made_leave_the_stream(bench: Bench, lenient: None) -> None:
    class NoFacts:
        def __init__(self) -> None:
            raise ZeroDivisionError("ours")

    assert list(bench.wrap(letters, bench.hook(stream=NoFacts))("a")) == ["a"]
    assert bench.health.errors == {FAKE: 1}


def test_our_errors_fail_our_own_tests(bench: Bench) -> None:
    assert failsafe.STRICT
    with pytest.raises(ZeroDivisionError, match="ours"):
        bench.wrap(give, bench.hook(broken))(1)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(), asyncio.CancelledError()])
def test_interruption_of_an_observer_is_not_swallowed(
    bench: Bench, lenient: None, error: BaseException
) -> None:
    def interrupted(_call: Operation, _record: Any) -> None:
        raise error

    with pytest.raises(type(error)):
        bench.wrap(give, bench.hook(interrupted))(1)


def test_strange_victor_objects_break_nothing(bench: Bench, lenient: None) -> None:
    class Strange:
        """Raises whatever is asked of it; objects of Victor may be half-made."""

        def __getattr__(self, name: str) -> Any:
            raise RuntimeError(name)

        def __eq__(self, other: object) -> bool:
            raise RuntimeError("eq")

        def __hash__(self) -> int:
            raise RuntimeError("hash")

        def work(self) -> str:
            return "done"

    bench.wrap_method(Strange, "work", bench.hook(type=CALLS))
    assert Strange().work() == "done"


# What is deferred


def test_deferred_work_is_done_once_and_in_order(bench: Bench) -> None:
    done: list[int] = []
    for number in range(3):
        failsafe.defer(done.append, number)
    bench.drain()
    bench.drain()
    assert done == [0, 1, 2]


def test_deferred_work_that_raises_leaves_victor_and_the_rest(bench: Bench, lenient: None) -> None:
    done: list[int] = []
    failsafe.defer(lambda: 1 / 0)
    failsafe.defer(done.append, 1)
    assert bench.wrap(give)("value") == "value"
    assert done == [1]


def test_work_deferred_while_draining_is_done_as_well(bench: Bench) -> None:
    done: list[str] = []
    failsafe.defer(lambda: failsafe.defer(done.append, "later"))
    bench.drain()
    assert done == ["later"]


def test_forgotten_work_is_never_done(bench: Bench) -> None:
    done: list[int] = []
    failsafe.defer(done.append, 1)
    failsafe.forget()
    bench.drain()
    assert done == []


# The finalizer that runs while its own thread holds a lock of the SDK

FINALIZERS = """
    import faulthandler, sys, time, weakref
    faulthandler.dump_traceback_later(20, exit=True)
    from tests.engine.bench import Bench
    from tests.engine.points import Store
    from tests.engine.metrics import USER, metric
    from victor_otel.engine import failsafe
    from victor_otel.model.metric import Kind

    store = Store()
    histogram, counter = metric(Kind.HISTOGRAM, USER, buckets=(1.0,)), metric(Kind.COUNTER, USER)
    gauge = metric(Kind.GAUGE)
    store.record.observe(gauge, lambda: [(1, {})])

    class Agent:
        pass

    ended, number, until = 0, 0, time.monotonic() + float(sys.argv[1])
    while time.monotonic() < until or number < 200:
        for _ in range(20):
            agent = Agent()
            agent.itself = agent
            weakref.finalize(agent, failsafe.defer, store.record, histogram, 1.0)
            del agent
            number += 1
            store.record(histogram, 0.5, user=f"u{number % 190}")
            store.record(counter, user=f"u{number % 190}")
        store.collected()
    import gc
    gc.collect()
    Bench.drain()
    print(sum(point.sum for point in store.raw(histogram)) == number * 1.5)
"""


def test_finalizers_inside_the_locks_of_the_sdk_finish_and_lose_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FINALIZERS), "2"],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": "", "PYTHONPATH": ":".join(filter(None, sys.path))},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "True\n"


def test_streams_collected_inside_the_locks_of_the_sdk_finish() -> None:
    source = FINALIZERS.replace("from victor_otel.engine import failsafe", HOOKED).replace(
        "weakref.finalize(agent, failsafe.defer, store.record, histogram, 1.0)", DROPPED
    )
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source), "2"],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": "", "PYTHONPATH": ":".join(filter(None, sys.path))},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "True\n"


HOOKED = """from tests.engine.fakes import letters
    from victor_otel.engine import failsafe
    bench = Bench()
    stream = bench.stream(letters, observe=lambda call, record: store.record(histogram, 1.0))"""
DROPPED = """agent.stream = stream("a", "b")
            next(agent.stream)"""


def test_plain_health_counts_from_many_places() -> None:
    health = Health()
    assert [health.add_error("a"), health.add_error("a"), health.add_error("b")] == [1, 2, 1]
    assert sorted((dict(labels)["hook"], n) for n, labels in ourselves.read_errors(health)) == [
        ("a", 2),
        ("b", 1),
    ]
