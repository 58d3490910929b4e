"""What is cancelled, closed or collected half-way: deferred where a finalizer may be running."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.engine.bench import Bench
from tests.engine.fakes import driven, give, give_later, words
from victor_otel.engine.nesting import CURRENT
from victor_otel.model.operation import OperationType

CALLS = OperationType("calls")


async def test_cancelled_coroutine_counts_once_as_cancelled(bench: Bench) -> None:
    entered = asyncio.Event()

    async def wait() -> None:
        entered.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(bench.wrap(wait)())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert bench.statuses() == ["cancelled"]


@pytest.mark.parametrize("end", ["closed", "dropped"])
def test_coroutine_given_up_half_way_is_deferred(bench: Bench, end: str) -> None:
    coroutine = bench.wrap(give_later)(1)
    driven(coroutine)
    if end == "closed":
        coroutine.close()
    del coroutine
    gc.collect()
    assert bench.calls == []
    bench.drain()
    assert bench.statuses() == ["cancelled"]
    assert CURRENT.get() is None


def test_coroutine_that_awaits_while_it_is_closed_is_deferred(bench: Bench) -> None:
    """A collected coroutine with `async with` ends so, inside of a finalizer."""

    async def tidy() -> None:
        try:
            await asyncio.sleep(0)
        finally:
            await asyncio.sleep(0)

    coroutine = bench.wrap(tidy)()
    driven(coroutine)
    with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
        coroutine.close()
    assert bench.calls == []
    assert len(bench.later()) == 1


def test_coroutine_that_fails_while_it_is_closed_is_deferred(bench: Bench) -> None:
    async def tidy() -> None:
        try:
            await asyncio.sleep(0)
        finally:
            raise ValueError("while closing")

    coroutine = bench.wrap(tidy)()
    driven(coroutine)
    with pytest.raises(ValueError, match="while closing"):
        coroutine.close()
    assert bench.calls == []
    assert bench.later() == ["failure"]


def test_deferred_calls_end_when_they_were_given_up(bench: Bench) -> None:
    coroutine = bench.wrap(give_later)(1)
    driven(coroutine)
    coroutine.close()
    bench.wrap(give)(1)
    given_up, later = bench.calls
    assert given_up.ended <= later.started


def test_thousands_of_deferred_calls_are_drained_by_the_next_one(bench: Bench) -> None:
    wrapped = bench.wrap(give_later, bench.hook(type=CALLS))
    for _ in range(3000):
        coroutine = wrapped(1)
        driven(coroutine)
        coroutine.close()
    assert bench.wrap(give)("unaffected") == "unaffected"
    assert len(bench.calls) == 3001


@pytest.mark.parametrize("end", ["dropped", "closed"])
def test_unused_coroutine_warns_as_before(bench: Bench, end: str) -> None:
    def warned(function: Any) -> list[str]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            coroutine = function(1)
            if end == "closed":
                coroutine.close()
            del coroutine
            gc.collect()
        return [str(warning.message) for warning in caught]

    assert warned(bench.wrap(give_later)) == warned(give_later)
    assert bench.calls == []


def test_task_cancelled_before_its_first_step_warns_of_nothing(bench: Bench) -> None:
    async def cancel_at_once() -> bool:
        task = asyncio.create_task(bench.wrap(give_later)(1))
        task.cancel()
        await asyncio.wait({task})
        return task.cancelled()

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert asyncio.run(cancel_at_once())
        gc.collect()
    assert [str(warning.message) for warning in caught] == []
    assert bench.calls == []


def test_step_of_a_stream_collected_half_way_is_deferred(bench: Bench) -> None:
    step = anext(bench.stream(words)("a"))
    driven(step)
    del step
    gc.collect()
    assert bench.calls == []
    assert bench.later() == ["cancelled"]


def test_closing_of_a_stream_collected_half_way_is_deferred(bench: Bench) -> None:
    async def original() -> AsyncIterator[str]:
        try:
            yield "a"
        finally:
            await asyncio.sleep(0)

    stream = bench.stream(original)()
    with pytest.raises(StopIteration, match="a"):
        driven(anext(stream))
    closing = stream.aclose()
    driven(closing)
    del closing, stream
    gc.collect()
    assert bench.calls == []
    assert bench.later() == ["cancelled"]


@pytest.mark.timeout(20)
async def test_exceptions_that_are_each_others_context_end_the_call(bench: Bench) -> None:
    """Python avoids such cycles, but lets libraries make them."""
    one, two = ValueError("one"), ValueError("two")

    async def fail() -> None:
        await asyncio.sleep(0)
        one.__context__, two.__context__ = two, one
        raise one

    with pytest.raises(ValueError, match="one"):
        await bench.wrap(fail)()
    one.__context__ = None
    assert bench.later() == ["failure"]
