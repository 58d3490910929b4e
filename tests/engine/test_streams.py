"""Streams pass everything on and count once, however they end."""

from __future__ import annotations

import asyncio
import collections.abc
import functools
import gc
import inspect
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.engine.bench import Bench
from tests.engine.fakes import (
    CAUSE,
    ERRORS,
    STREAMS,
    Interruption,
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
    assert bench.later() == ["cancelled"]
    assert bench.endings() == ["closed"]
    with pytest.raises(StopAsyncIteration):
        await anext(stream)
    assert bench.later() == ["cancelled"]


async def test_complete_stream_is_a_success_however_it_is_closed(bench: Bench) -> None:
    stream = bench.stream(words)("a", "end", "more")
    assert [await anext(stream), await anext(stream)] == ["a", "end"]
    await stream.aclose()
    assert bench.later() == ["success"]
    assert bench.endings() == ["closed"]


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
    await asyncio.sleep(0)  # the loop begins to close it
    await asyncio.sleep(0)
    assert bench.calls == []
    bench.drain()
    assert bench.endings() == ["closed"]
    assert bench.statuses() == ["success"]


def test_generator_left_by_break_is_recorded_later(bench: Bench) -> None:
    for _ in bench.stream(letters)("a", "b"):
        break
    gc.collect()
    assert bench.calls == []
    bench.drain()
    assert bench.endings() == ["closed"]
    assert bench.statuses() == ["cancelled"]


def test_generator_closed_early_counts_once(bench: Bench) -> None:
    stream = bench.stream(letters)("a", "b")
    assert next(stream) == "a"
    stream.close()
    stream.close()
    bench.drain()
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
    assert bench.later() == ["cancelled"]


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
    bench.drain()
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


class Deck:
    """An iterator of both kinds that is no generator, and what else a library gives it."""

    title = "cards"

    def __init__(self, *items: str) -> None:
        self.items = list(items)
        self.closed = 0

    def __aiter__(self) -> Deck:
        return self

    async def __anext__(self) -> str:
        if not self.items:
            raise StopAsyncIteration
        return self.items.pop(0)

    async def aclose(self) -> None:
        self.closed += 1


class SyncDeck:
    title = "cards"

    def __init__(self, *items: str) -> None:
        self.items = list(items)

    def __iter__(self) -> SyncDeck:
        return self

    def __next__(self) -> str:
        if not self.items:
            raise StopIteration("the value")
        return self.items.pop(0)


async def deck_later(*items: str) -> Deck:
    return Deck(*items)


@pytest.mark.parametrize("function", [Deck, deck_later])
async def test_iterator_that_is_no_generator_keeps_its_attributes(
    bench: Bench, function: Any
) -> None:
    stream = await opened(bench.stream(function), "a", "b", "end")
    assert isinstance(stream, Deck)
    assert (stream.title, aiter(stream) is stream) == ("cards", True)
    assert await anext(stream) == "a"
    assert stream.items == ["b", "end"]
    assert [item async for item in stream] == ["b", "end"]
    (call,) = bench.calls
    assert call.stream is not None
    assert (call.stream.ending, call.stream.items, call.status) == ("exhausted", 3, "success")


async def test_iterator_that_is_no_generator_is_closed_by_its_owner_alone(bench: Bench) -> None:
    deck = Deck("a", "b")
    stream = bench.stream(lambda: deck)()
    assert await anext(stream) == "a"
    await stream.aclose()
    assert deck.closed == 1
    del stream
    gc.collect()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert deck.closed == 1
    assert bench.later() == ["cancelled"]


def test_synchronous_iterator_that_is_no_generator_keeps_its_attributes(bench: Bench) -> None:
    wrapped = bench.stream(SyncDeck)
    stream = wrapped("a", "b")
    assert isinstance(stream, SyncDeck)
    assert (stream.title, iter(stream) is stream) == ("cards", True)
    assert (next(stream), stream.items) == ("a", ["b"])
    assert next(stream) == "b"
    with pytest.raises(StopIteration, match="the value"):
        next(stream)
    assert bench.endings() == ["exhausted"]


@pytest.mark.parametrize("function", STREAMS)
async def test_returned_generator_keeps_its_type_and_its_name(bench: Bench, function: Any) -> None:
    stream = await opened(bench.stream(function), "a")
    assert type(stream) is type(words("a"))
    assert (stream.__name__, stream.__qualname__) == ("words", "words")
    await stream.aclose()


def test_returned_synchronous_generator_keeps_its_type_and_its_name(bench: Bench) -> None:
    stream = bench.stream(lambda: letters("a"))()
    assert type(stream) is type(letters("a"))
    assert (stream.__name__, stream.__qualname__) == ("letters", "letters")


def test_stream_left_open_is_closed_once_when_its_loop_ends(bench: Bench) -> None:
    """The loop closes what it was told of; told of both, it would close ours and the inner one."""
    problems: list[Any] = []
    closed: list[str] = []

    async def original() -> AsyncIterator[str]:
        try:
            yield "a"
        finally:
            await asyncio.sleep(0)
            closed.append("once")

    async def leave_open() -> Any:
        asyncio.get_running_loop().set_exception_handler(lambda _, told: problems.append(told))
        streams = [bench.stream(original)() for _ in range(20)]
        for stream in streams:
            await anext(stream)
        return streams

    assert asyncio.run(leave_open()) is not None
    assert (problems, closed) == ([], ["once"] * 20)
    assert bench.later() == ["cancelled"] * 20


async def test_error_thrown_at_a_stream_leaves_no_cycle(bench: Bench) -> None:
    stream = bench.stream(talkative)()
    await anext(stream)
    await stream.athrow(KeyError("k"))
    error = Interruption("thrown")
    with pytest.raises(Interruption, match="thrown"):
        await stream.athrow(error)
    reference = weakref.ref(error)
    bench.calls.clear()
    gc.disable()
    try:
        del stream, error
        assert reference() is None
    finally:
        gc.enable()


async def test_stream_that_nobody_listens_to_passes_everything_on(bench: Bench) -> None:
    stream = bench.stream(talkative)()
    bench.engine.enabled = False
    assert await anext(stream) == "ready"
    assert await stream.athrow(KeyError("k")) == "caught k"
    assert await stream.asend("hello") == "heard hello"
    await stream.aclose()
    assert bench.later() == []
