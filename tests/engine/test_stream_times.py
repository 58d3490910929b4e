"""What is measured of a stream, and where its frame is current."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.engine.bench import Bench, Facts
from tests.engine.fakes import (
    ERRORS,
    driven,
    fail,
    fail_later,
    give,
    give_later,
    opened,
    words,
)
from victor_otel.engine.nesting import CURRENT
from victor_otel.model.operation import OperationType

CALLS = OperationType("calls")


class Clock:
    """Time that passes only when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr("victor_otel.engine.wrapping.perf_counter", lambda: self.now)
        monkeypatch.setattr("victor_otel.engine.plan.perf_counter", lambda: self.now)

    def pass_(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.mark.parametrize("awaited", [False, True])
async def test_time_inside_leaves_the_consumer_out(
    bench: Bench, clock: Clock, *, awaited: bool
) -> None:
    async def original() -> AsyncIterator[str]:
        clock.pass_(1)
        yield ""
        clock.pass_(2)
        yield "content"
        clock.pass_(4)

    async def original_awaited() -> AsyncIterator[str]:
        clock.pass_(8)
        return original()

    stream = await opened(bench.stream(original_awaited if awaited else original))
    clock.pass_(16)
    async for _ in stream:
        clock.pass_(32)
    (call,) = bench.calls
    assert call.stream is not None
    before = 8 if awaited else 0
    assert call.stream.inside == 1 + 2 + 4 + before
    assert call.elapsed == 7 + 64 + (before + 16 if awaited else 0)
    assert call.stream.first_content == 3 + 32 + (before + 16 if awaited else 0)


def test_time_inside_a_generator_leaves_the_consumer_out(bench: Bench, clock: Clock) -> None:
    def original() -> Iterator[str]:
        clock.pass_(1)
        yield "content"
        clock.pass_(2)

    for _ in bench.stream(original)():
        clock.pass_(4)
    (call,) = bench.calls
    assert call.stream is not None
    assert (call.stream.inside, call.elapsed, call.stream.first_content) == (3, 7, 1)


async def test_time_of_closing_counts_as_inside(bench: Bench, clock: Clock) -> None:
    async def original() -> AsyncIterator[str]:
        try:
            yield "content"
        finally:
            clock.pass_(2)

    stream = bench.stream(original)()
    await anext(stream)
    clock.pass_(4)
    await stream.aclose()
    bench.drain()
    assert bench.calls[0].stream is not None
    assert bench.calls[0].stream.inside == 2


async def test_stream_without_content_has_no_first_content(bench: Bench) -> None:
    assert [item async for item in bench.stream(words)("", "")] == ["", ""]
    (call,) = bench.calls
    assert call.stream is not None
    assert (call.stream.first_content, call.stream.items) == (None, 2)


async def test_facts_that_raise_leave_the_stream_unaffected(bench: Bench, lenient: None) -> None:
    class Broken(Facts):
        def add(self, item: Any) -> None:
            raise ValueError(item)

    wrapped = bench.wrap(words, bench.hook(stream=Broken))
    assert [item async for item in wrapped("a", "b")] == ["a", "b"]
    assert bench.statuses() == ["success"]
    assert bench.health.errors == {"tests:fake": 2}


async def test_context_variable_is_set_inside_only(bench: Bench) -> None:
    seen = []

    async def original() -> AsyncIterator[str]:
        for item in "ab":
            seen.append(CURRENT.get())
            yield item

    stream = bench.stream(original, type=CALLS)()
    async for _ in stream:
        assert CURRENT.get() is None
    assert CURRENT.get() is None
    assert [frame.type for frame in seen] == [CALLS, CALLS]


async def test_context_variable_is_restored_in_a_call_that_raises(bench: Bench) -> None:
    hook = bench.hook(type=CALLS)
    with pytest.raises(ValueError, match="v"):
        bench.wrap(fail, hook)(ERRORS[0])
    assert CURRENT.get() is None
    with pytest.raises(ValueError, match="v"):
        await bench.wrap(fail_later, hook)(ERRORS[0])
    assert CURRENT.get() is None


async def test_stream_read_and_closed_by_different_tasks_leaks_nothing(bench: Bench) -> None:
    stream = bench.stream(words, type=CALLS)("a", "b")

    async def read() -> Any:
        return await anext(stream), CURRENT.get()

    async def close() -> Any:
        await stream.aclose()
        return CURRENT.get()

    assert await asyncio.create_task(read()) == ("a", None)
    assert await asyncio.create_task(read()) == ("b", None)
    assert await asyncio.create_task(close()) is None
    assert CURRENT.get() is None
    bench.drain()
    assert bench.endings() == ["closed"]


def test_coroutine_closed_in_another_context_leaks_nothing(bench: Bench) -> None:
    coroutine = bench.wrap(give_later, bench.hook(type=CALLS))(1)
    contextvars.copy_context().run(driven, coroutine)
    other = contextvars.copy_context()
    other.run(coroutine.close)
    assert other.run(CURRENT.get) is None
    assert bench.later() == ["cancelled"]


async def test_generators_read_in_turns_do_not_see_each_other(bench: Bench) -> None:
    inner = bench.wrap(give, bench.hook(type=CALLS))

    async def original() -> AsyncIterator[Any]:
        for item in "ab":
            yield inner(item)

    outer = OperationType("outer")
    one, two = (bench.stream(original, type=outer)() for _ in range(2))
    assert [await anext(one), await anext(two), await anext(one)] == ["a", "a", "b"]
    await two.aclose()
    await one.aclose()
    assert CURRENT.get() is None
    assert [call.facts for call in bench.calls[:3]] == [{"outer"}] * 3


async def test_closing_a_stream_encloses_what_it_calls(bench: Bench) -> None:
    inner = bench.wrap(give, bench.hook(type=CALLS))

    async def original() -> AsyncIterator[str]:
        try:
            yield "a"
        finally:
            inner(1)

    stream = bench.stream(original, type=OperationType("outer"))()
    await anext(stream)
    await stream.aclose()
    assert bench.calls[0].facts == {"outer"}


def test_closing_a_generator_encloses_what_it_calls(bench: Bench) -> None:
    inner = bench.wrap(give, bench.hook(type=CALLS))

    def original() -> Iterator[str]:
        try:
            yield "a"
        finally:
            inner(1)

    stream = bench.stream(original, type=OperationType("outer"))()
    next(stream)
    stream.close()
    assert bench.calls[0].facts == {"outer"}
