"""Streams pass everything on and count once, however they end."""

from __future__ import annotations

import asyncio
import collections.abc
import functools
import gc
import inspect
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.engine.bench import Bench
from tests.engine.fakes import (
    CAUSE,
    ERRORS,
    STREAMS,
    broken_words,
    fail,
    fail_later,
    give_later,
    letters,
    opened,
    words,
    words_after_an_await,
)


@pytest.mark.parametrize("function", STREAMS)
async def test_stream_closed_early_counts_once_as_cancelled(bench: Bench, function: Any) -> None:
    stream = await opened(bench.stream(function), "a", "b")
    assert await anext(stream) == "a"
    await stream.aclose()
    await stream.aclose()
    assert bench.endings() == ["closed"]
    assert bench.statuses() == ["cancelled"]
    with pytest.raises(StopAsyncIteration):
        await anext(stream)
    assert bench.later() == ["cancelled"]


async def test_complete_stream_is_a_success_however_it_is_closed(bench: Bench) -> None:
    stream = bench.stream(words)("a", "end", "more")
    assert [await anext(stream), await anext(stream)] == ["a", "end"]
    await stream.aclose()
    assert bench.endings() == ["closed"]
    assert bench.statuses() == ["success"]


async def test_complete_stream_that_then_fails_has_failed(bench: Bench) -> None:
    async def original() -> AsyncIterator[str]:
        yield "end"
        raise ValueError

    stream = bench.stream(original)()
    await anext(stream)
    with pytest.raises(ValueError):
        await anext(stream)
    assert bench.statuses() == ["failure"]


@pytest.mark.parametrize("function", STREAMS)
async def test_stream_left_by_break_is_recorded_later(bench: Bench, function: Any) -> None:
    stream = await opened(bench.stream(function), "a", "end", "c")
    async for item in stream:
        if item == "end":
            break
    assert bench.calls == []
    del stream
    gc.collect()
    assert bench.calls == []
    bench.drain()
    assert bench.endings() == ["dropped"]
    assert bench.statuses() == ["success"]


def test_generator_left_by_break_is_recorded_later(bench: Bench) -> None:
    for _ in bench.stream(letters)("a", "b"):
        break
    gc.collect()
    assert bench.calls == []
    bench.drain()
    assert bench.endings() == ["dropped"]
    assert bench.statuses() == ["cancelled"]


def test_generator_closed_early_counts_once(bench: Bench) -> None:
    stream = bench.stream(letters)("a", "b")
    assert next(stream) == "a"
    stream.close()
    stream.close()
    assert bench.endings() == ["closed"]
    del stream
    assert bench.later() == ["cancelled"]


def test_generator_that_fails_while_it_is_closed_has_failed(bench: Bench) -> None:
    def original() -> Iterator[str]:
        try:
            yield "a"
        finally:
            raise ValueError("while closing")

    stream = bench.stream(original)()
    next(stream)
    with pytest.raises(ValueError, match="while closing"):
        stream.close()
    assert bench.later() == ["failure"]
    assert bench.endings() == ["failed"]


async def test_stream_that_fails_while_it_is_closed_has_failed(bench: Bench) -> None:
    async def original() -> AsyncIterator[str]:
        try:
            yield "a"
        finally:
            raise ValueError("while closing")

    stream = bench.stream(original)()
    await anext(stream)
    with pytest.raises(ValueError, match="while closing"):
        await stream.aclose()
    assert bench.later() == ["failure"]
    assert bench.endings() == ["failed"]


@pytest.mark.parametrize("function", STREAMS)
async def test_unread_stream_counts_nothing(bench: Bench, function: Any) -> None:
    stream = await opened(bench.stream(function), "a")
    if function is not words_after_an_await:  # there the call has begun with the await
        await stream.aclose()
    del stream
    expected = ["cancelled"] if function is words_after_an_await else []
    assert bench.later() == expected


async def test_stream_closed_unread_counts_nothing_when_read_later(bench: Bench) -> None:
    stream = bench.stream(words)("a")
    await stream.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(stream)
    assert bench.later() == []


def test_generator_closed_unread_counts_nothing_when_read_later(bench: Bench) -> None:
    stream = bench.stream(letters)("a")
    stream.close()
    assert list(stream) == []
    assert bench.later() == []


async def test_stream_cancelled_while_it_is_read_counts_once(bench: Bench) -> None:
    entered = asyncio.Event()

    async def original() -> AsyncIterator[str]:
        yield "a"
        entered.set()
        await asyncio.Event().wait()

    stream = bench.stream(original)()
    await anext(stream)
    task = asyncio.create_task(anext(stream))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    del task
    assert bench.endings() == ["cancelled"]
    await stream.aclose()
    assert bench.later() == ["cancelled"]


async def test_error_in_the_consumers_body_closes_no_stream(bench: Bench) -> None:
    stream = bench.stream(words)("a", "b")
    with pytest.raises(ZeroDivisionError):
        async for _ in stream:
            1 / 0  # noqa: B018
    assert bench.calls == []
    await stream.aclose()
    assert bench.statuses() == ["cancelled"]


async def talkative() -> AsyncIterator[str]:
    """Answers what is thrown at it, and what is sent."""
    answer = "ready"
    while True:
        try:
            answer = f"heard {(yield answer)}"
        except KeyError as error:
            answer = f"caught {error.args[0]}"


async def test_thrown_error_that_the_stream_handles_goes_on(bench: Bench) -> None:
    stream = bench.stream(talkative)()
    assert await anext(stream) == "ready"
    assert await stream.athrow(KeyError("k")) == "caught k"
    assert await stream.asend("hello") == "heard hello"
    assert bench.calls == []
    await stream.aclose()
    (call,) = bench.calls
    assert call.stream is not None
    assert (call.stream.items, call.stream.ending, call.error) == (3, "closed", None)


async def test_thrown_error_that_the_stream_does_not_handle_fails_it(bench: Bench) -> None:
    stream = bench.stream(talkative)()
    await anext(stream)
    error = ValueError("thrown")
    with pytest.raises(ValueError, match="thrown") as raised:
        await stream.athrow(error)
    assert raised.value is error
    assert bench.endings() == ["failed"]
    assert bench.calls[0].error is error


def test_generator_is_sent_to_and_thrown_at(bench: Bench) -> None:
    def original() -> Iterator[str]:
        try:
            got = yield "ready"
        except KeyError:
            got = "an error"
        yield f"heard {got}"

    stream = bench.stream(original)()
    assert (next(stream), stream.send("hello")) == ("ready", "heard hello")
    stream = bench.stream(original)()
    assert (next(stream), stream.throw(KeyError())) == ("ready", "heard an error")
    with pytest.raises(StopIteration):
        next(stream)
    assert bench.endings()[-1:] == ["exhausted"]


async def test_exhausted_stream_read_again_counts_once(bench: Bench) -> None:
    stream = bench.stream(words)("a")
    assert [item async for item in stream] == ["a"]
    assert [item async for item in stream] == []
    await stream.aclose()
    del stream
    assert bench.later() == ["success"]


@pytest.mark.parametrize("error", ERRORS[:3], ids=repr)
async def test_stream_raises_the_same_exception(bench: Bench, error: BaseException) -> None:
    stream = bench.stream(broken_words)(error)
    assert await anext(stream) == "one"
    with pytest.raises(type(error)) as raised:
        await anext(stream)
    assert raised.value is error
    assert error.__cause__ is CAUSE
    assert bench.endings() == ["failed"]
    assert bench.calls[0].error is error


@pytest.mark.parametrize("function", STREAMS)
async def test_stream_gives_every_item_and_counts_once(bench: Bench, function: Any) -> None:
    stream = await opened(bench.stream(function), "a", "b", "c")
    assert [item async for item in stream] == ["a", "b", "c"]
    (call,) = bench.calls
    assert call.stream is not None
    assert (call.stream.ending, call.stream.items, call.status) == ("exhausted", 3, "success")


def test_generator_gives_every_item_and_counts_once(bench: Bench) -> None:
    assert list(bench.stream(letters)("a", "b", "c")) == ["a", "b", "c"]
    (call,) = bench.calls
    assert call.stream is not None
    assert (call.stream.ending, call.stream.items, call.status) == ("exhausted", 3, "success")


def test_function_returning_a_generator_counts_once(bench: Bench) -> None:
    wrapped = bench.stream(functools.partial(letters, "a"))
    assert list(wrapped("b")) == ["a", "b"]
    assert bench.endings() == ["exhausted"]


def test_generator_gives_its_return_value(bench: Bench) -> None:
    def original() -> Iterator[str]:
        yield "a"
        return "the value"

    def outer() -> Iterator[str]:
        return (yield from bench.stream(original)())

    stream = outer()
    assert next(stream) == "a"
    with pytest.raises(StopIteration) as stopped:
        next(stream)
    assert stopped.value.value == "the value"
    assert bench.statuses() == ["success"]


async def test_hook_with_a_stream_lets_a_plain_result_through(bench: Bench) -> None:
    value = object()
    assert await bench.stream(give_later)(value) is value
    (call,) = bench.calls
    assert (call.result, call.stream, call.status) == (value, None, "success")


async def test_coroutine_that_fails_before_its_stream_counts_as_failed(bench: Bench) -> None:
    with pytest.raises(ValueError, match="v"):
        await bench.stream(fail_later)(ERRORS[0])
    assert bench.statuses() == ["failure"]


def test_function_that_fails_before_its_stream_counts_as_failed(bench: Bench) -> None:
    with pytest.raises(ValueError, match="v"):
        bench.stream(fail)(ERRORS[0])
    assert bench.statuses() == ["failure"]


@pytest.mark.parametrize(
    "abstract",
    ["AsyncIterator", "AsyncGenerator", "Awaitable", "Coroutine", "Iterator", "Iterable"],
)
async def test_stream_is_what_the_original_is(bench: Bench, abstract: str) -> None:
    cls = getattr(collections.abc, abstract)
    stream = bench.stream(words)("a")
    assert isinstance(stream, cls) == isinstance(words("a"), cls)
    assert inspect.isasyncgen(stream)
