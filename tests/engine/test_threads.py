"""Context variables do not travel into threads; the call chain does."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.engine.bench import Bench
from victor_otel.engine import nesting
from victor_otel.engine.nesting import CURRENT
from victor_otel.engine.wrapping import dressed
from victor_otel.model.operation import OperationType

REQUESTS = OperationType("requests", outermost=True)
TURNS = OperationType("turns")


def in_a_thread(coroutine: Any) -> Any:
    """Victor's bridge from synchronous code, as it is."""
    result: list[Any] = []
    thread = threading.Thread(target=lambda: result.append(asyncio.run(coroutine)))
    thread.start()
    thread.join()
    return result[0]


@pytest.fixture(autouse=True)
def _carrying(bench: Bench) -> None:
    """As `Instrumentation.bind` does."""
    for owner, name, carry in (
        (ThreadPoolExecutor, "submit", nesting.carry),
        (sys.modules[__name__], "in_a_thread", nesting.carry_coroutine),
    ):
        bench.patcher.patch_function(
            owner,
            name,
            lambda original, _, carry=carry: dressed(carry(original), original),
        )


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.fixture
def turn(bench: Bench) -> Any:
    """What runs in the other thread."""
    return bench.wrap(CURRENT.get, bench.hook(type=TURNS))


def enclosed(bench: Bench) -> list[set[str]]:
    return [set(call.facts) for call in bench.calls]


def request(bench: Bench, function: Any) -> Any:
    return bench.wrap(function, bench.hook(type=REQUESTS))()


async def test_call_through_an_executor_of_the_loop_is_nested(bench: Bench, turn: Any) -> None:
    async def run() -> None:
        await asyncio.get_running_loop().run_in_executor(None, turn)

    await request(bench, run)
    assert enclosed(bench) == [{"requests"}, set()]


async def test_call_through_to_thread_is_nested(bench: Bench, turn: Any) -> None:
    async def run() -> None:
        await asyncio.to_thread(turn)

    await request(bench, run)
    assert enclosed(bench) == [{"requests"}, set()]


def test_call_through_submit_is_nested(bench: Bench, turn: Any, pool: Any) -> None:
    request(bench, lambda: pool.submit(turn).result())
    assert enclosed(bench) == [{"requests"}, set()]


def test_calls_through_map_are_nested(bench: Bench, turn: Any, pool: Any) -> None:
    request(bench, lambda: list(pool.map(lambda _: turn(), range(3))))
    assert enclosed(bench) == [{"requests"}] * 3 + [set()]


def test_call_through_victors_bridge_is_nested(bench: Bench, turn: Any) -> None:
    async def main() -> None:
        await asyncio.create_task(asyncio.to_thread(turn))

    request(bench, lambda: in_a_thread(main()))
    assert enclosed(bench) == [{"requests"}, set()]


def test_the_bridge_gives_what_it_is_given(bench: Bench) -> None:
    value = object()

    async def main() -> object:
        return value

    assert request(bench, lambda: in_a_thread(main())) is value
    assert in_a_thread(main()) is value


def test_a_thread_is_on_its_own(bench: Bench, turn: Any) -> None:
    """Nothing of `threading` is wrapped: other libraries replace its methods."""

    class Worker(threading.Thread):
        def run(self) -> None:
            turn()

    def work() -> None:
        for thread in (threading.Thread(target=turn), threading.Timer(0, turn), Worker()):
            thread.start()
            thread.join()

    request(bench, work)
    assert enclosed(bench) == [set(), set(), set(), set()]


@pytest.mark.parametrize("started_inside", [True, False])
def test_reused_worker_is_not_nested(
    bench: Bench, turn: Any, pool: Any, *, started_inside: bool
) -> None:
    if not started_inside:
        pool.submit(turn).result()
        bench.calls.clear()
    request(bench, lambda: pool.submit(turn).result())
    pool.submit(turn).result()
    assert enclosed(bench) == [{"requests"}, set(), set()]


def test_worker_reused_from_outside_while_the_call_goes_on_is_not_nested(
    bench: Bench, turn: Any, pool: Any
) -> None:
    nested, entered, over = bench.wrap(turn, bench.hook()), threading.Event(), threading.Event()

    def run() -> None:
        pool.submit(nested).result()
        entered.set()
        over.wait()

    outer = threading.Thread(target=lambda: request(bench, run), daemon=True)
    outer.start()
    entered.wait(10)
    bench.calls.clear()
    pool.submit(turn).result()
    over.set()
    outer.join()
    assert enclosed(bench)[0] == set()


def test_only_our_variable_travels(bench: Bench, pool: Any) -> None:
    other: contextvars.ContextVar[int] = contextvars.ContextVar("other", default=0)

    def run() -> int:
        other.set(1)
        return pool.submit(other.get).result()

    assert request(bench, run) == 0


def test_results_and_errors_of_threads_are_the_same(bench: Bench, pool: Any) -> None:
    value, error = object(), ValueError("v")

    def fail() -> None:
        raise error

    assert request(bench, lambda: pool.submit(lambda: value).result()) is value
    assert request(bench, lambda: pool.submit(fail).exception()) is error
    assert request(bench, lambda: pool.submit(dict, a=1).result()) == {"a": 1}


def test_bad_submit_is_refused_as_before(bench: Bench, pool: Any) -> None:
    with pytest.raises(TypeError) as raised:
        request(bench, pool.submit)
    assert "submit" in str(raised.value)


def test_executor_is_put_back() -> None:
    own = Bench()
    before = vars(ThreadPoolExecutor)["submit"]
    own.patcher.patch_function(
        ThreadPoolExecutor,
        "submit",
        lambda original, _: dressed(nesting.carry(original), original),
    )
    own.patcher.undo()
    assert vars(ThreadPoolExecutor)["submit"] is before
