"""Wrapped functions of every kind give and raise what they did, and each call counts once."""

from __future__ import annotations

import asyncio
import collections.abc
import contextvars
import functools
import gc
import inspect
import warnings
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any

import pytest

from tests.engine.bench import Bench, Facts
from victor_otel import failsafe
from victor_otel.scope import CURRENT
from victor_otel.spec import UNSET, Scope

CALLS = Scope(name="calls")


class Interruption(BaseException):
    """No Exception, as KeyboardInterrupt is none."""


def give(value: object) -> object:
    return value


async def give_later(value: object) -> object:
    await asyncio.sleep(0)
    return value


def fail(error: BaseException) -> None:
    raise error from CAUSE


async def fail_later(error: BaseException) -> None:
    await asyncio.sleep(0)
    raise error from CAUSE


CAUSE = LookupError("the cause")
ERRORS = (ValueError("v"), TimeoutError("t"), Interruption("i"), StopIteration(1))


async def words(*items: str) -> AsyncIterator[str]:
    for item in items:
        await asyncio.sleep(0)
        yield item


async def words_after_an_await(*items: str) -> AsyncIterator[str]:
    await asyncio.sleep(0)
    return words(*items)


def words_at_once(*items: str) -> AsyncIterator[str]:
    return words(*items)


STREAMS = (words, words_after_an_await, words_at_once)


async def broken_words(error: BaseException) -> AsyncIterator[str]:
    yield "one"
    raise error from CAUSE


def letters(*items: str) -> Iterator[str]:
    yield from items


async def opened(function: Any, *args: Any) -> Any:
    """The stream that `function` returns, at once or after an await."""
    result = function(*args)
    return await result if inspect.iscoroutine(result) else result


def driven(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Runs a coroutine by hand to its first suspension."""
    return coroutine.send(None)


class Lamp:
    """A class with every kind of attribute."""

    def __init__(self, colour: str = "red") -> None:
        self.colour = colour

    def on(self, brightness: int = 1, *, slowly: bool = False) -> tuple[str, int, bool]:
        """Switches on."""
        return self.colour, brightness, slowly

    async def warm(self, degrees: int) -> int:
        return degrees

    async def flicker(self, times: int) -> AsyncIterator[int]:
        for time in range(times):
            yield time

    @classmethod
    def kind(cls, prefix: str = "") -> str:
        return prefix + cls.__name__

    @staticmethod
    def volts(country: str) -> int:
        return len(country)

    @property
    def label(self) -> str:
        return self.colour.upper()


@pytest.fixture
def lamp(bench: Bench) -> type[Lamp]:
    """A class like `Lamp` whose functions are wrapped."""
    wrapped = type("Lamp", (Lamp,), dict(vars(Lamp)))
    for name in ("on", "warm", "kind", "volts"):
        bench.wrap_method(wrapped, name)
    bench.wrap_method(wrapped, "flicker", bench.hook(stream=Facts))
    return wrapped


# What functions give and raise


def test_function_returns_the_same_object(bench: Bench) -> None:
    value = object()
    assert bench.wrap(give)(value) is value
    (call,) = bench.calls
    assert (call.result, call.error, call.stream, call.args) == (value, None, None, (value,))


async def test_coroutine_returns_the_same_object(bench: Bench) -> None:
    value = object()
    assert await bench.wrap(give_later)(value) is value
    (call,) = bench.calls
    assert (call.result, call.error, call.stream, call.args) == (value, None, None, (value,))


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_function_raises_the_same_exception(bench: Bench, error: BaseException) -> None:
    with pytest.raises(type(error)) as raised:
        bench.wrap(fail)(error)
    assert raised.value is error
    assert error.__cause__ is CAUSE
    (call,) = bench.calls
    assert call.error is error
    assert call.result is UNSET


@pytest.mark.parametrize("error", ERRORS[:3], ids=repr)
async def test_coroutine_raises_the_same_exception(bench: Bench, error: BaseException) -> None:
    with pytest.raises(type(error)) as raised:
        await bench.wrap(fail_later)(error)
    assert raised.value is error
    assert error.__cause__ is CAUSE
    (call,) = bench.calls
    assert call.error is error
    assert call.result is UNSET


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


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError(), "failure"),
        (TimeoutError(), "timeout"),
        (asyncio.CancelledError(), "cancelled"),
        (KeyboardInterrupt(), "cancelled"),
        (Interruption(), "failure"),
    ],
    ids=repr,
)
def test_status_tells_how_a_call_ended(bench: Bench, error: BaseException, status: str) -> None:
    with pytest.raises(type(error)):
        bench.wrap(fail)(error)
    assert bench.statuses() == [status]


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
    wrapped = bench.stream(lambda *items: letters(*items))
    assert list(wrapped("a", "b")) == ["a", "b"]
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


# What wrapped functions look like


@pytest.mark.parametrize("name", ["on", "warm", "flicker", "kind", "volts"])
def test_attribute_looks_like_the_original(lamp: type[Lamp], name: str) -> None:
    for ours, plain in ((lamp, Lamp), (lamp(), Lamp())):
        wrapped, original = getattr(ours, name), getattr(plain, name)
        assert inspect.signature(wrapped) == inspect.signature(original)
        for attribute in ("__name__", "__qualname__", "__doc__", "__module__"):
            assert getattr(wrapped, attribute) == getattr(original, attribute)
        for looks in (
            inspect.iscoroutinefunction,
            inspect.isasyncgenfunction,
            inspect.isgeneratorfunction,
            inspect.ismethod,
            inspect.isfunction,
            inspect.isroutine,
            asyncio.iscoroutinefunction,
            callable,
        ):
            assert looks(wrapped) == looks(original), looks


def test_generator_function_looks_like_one(bench: Bench) -> None:
    wrapped = bench.stream(letters)
    assert inspect.isgeneratorfunction(wrapped)
    assert inspect.signature(wrapped) == inspect.signature(letters)


@pytest.mark.parametrize(("name", "kind"), [("kind", classmethod), ("volts", staticmethod)])
def test_descriptor_keeps_its_kind(lamp: type[Lamp], name: str, kind: type) -> None:
    assert isinstance(vars(lamp)[name], kind)
    assert isinstance(inspect.getattr_static(lamp(), name), kind)


def test_property_beside_wrapped_functions_is_untouched(lamp: type[Lamp]) -> None:
    assert vars(lamp)["label"] is vars(Lamp)["label"]
    assert lamp("blue").label == "BLUE"


def test_methods_bind_as_before(lamp: type[Lamp], bench: Bench) -> None:
    one = lamp("blue")
    assert one.on(2, slowly=True) == ("blue", 2, True)
    assert lamp.on(one, 3) == ("blue", 3, False)
    assert (lamp.kind("a "), one.kind()) == ("a Lamp", "Lamp")
    assert (lamp.volts("uk"), one.volts("usa")) == (2, 3)
    by_method = [(call.instance, call.args, dict(call.kwargs)) for call in bench.calls[:2]]
    assert by_method == [(one, (2,), {"slowly": True}), (one, (3,), {})]


def test_classmethod_of_a_subclass_is_given_the_subclass(lamp: type[Lamp]) -> None:
    class Torch(lamp):  # type: ignore[misc,valid-type]
        pass

    assert Torch.kind() == "Torch"
    assert Torch().kind() == "Torch"


def test_bound_methods_compare_and_hash_as_before(lamp: type[Lamp]) -> None:
    one, other = lamp(), lamp()
    assert one.on == one.on
    assert one.on != other.on
    assert hash(one.on) == hash(one.on)
    assert one.on.__self__ is one


@pytest.mark.parametrize("function", [give, give_later, words_at_once, letters])
def test_bad_arguments_are_refused_at_the_call_and_count_nothing(
    bench: Bench, function: Any
) -> None:
    with pytest.raises(TypeError) as expected:
        function(unknown=1)
    with pytest.raises(TypeError) as raised:
        (bench.stream if function in (words_at_once, letters) else bench.wrap)(function)(unknown=1)
    assert str(raised.value) == str(expected.value)
    if function is not give:  # a plain function's own TypeErrors cannot be told from these
        assert bench.calls == []


@pytest.mark.parametrize(
    "abstract",
    ["AsyncIterator", "AsyncGenerator", "Awaitable", "Coroutine", "Iterator", "Iterable"],
)
async def test_stream_is_what_the_original_is(bench: Bench, abstract: str) -> None:
    cls = getattr(collections.abc, abstract)
    stream = bench.stream(words)("a")
    assert isinstance(stream, cls) == isinstance(words("a"), cls)
    assert inspect.isasyncgen(stream)


async def test_coroutine_bears_the_name_of_the_function(bench: Bench) -> None:
    coroutine = bench.wrap(give_later)(1)
    assert (coroutine.__name__, coroutine.__qualname__) == ("give_later", "give_later")
    assert inspect.iscoroutine(coroutine)
    await coroutine


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


async def test_task_cancelled_before_its_first_step_warns_of_nothing(bench: Bench) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        task = asyncio.create_task(bench.wrap(give_later)(1))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        del task
        gc.collect()
    assert [str(warning.message) for warning in caught] == []
    assert bench.calls == []


# Cancellation and abandonment of coroutines


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
    failsafe.drain()
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
    wrapped = bench.wrap(give_later, bench.hook(scope=CALLS))
    for _ in range(3000):
        coroutine = wrapped(1)
        driven(coroutine)
        coroutine.close()
    assert bench.wrap(give)("unaffected") == "unaffected"
    assert len(bench.calls) == 3001


# Streams: every ending


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
    with pytest.raises(ValueError):  # noqa: PT011
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
    failsafe.drain()
    assert bench.endings() == ["dropped"]
    assert bench.statuses() == ["success"]


def test_generator_left_by_break_is_recorded_later(bench: Bench) -> None:
    for _ in bench.stream(letters)("a", "b"):
        break
    gc.collect()
    assert bench.calls == []
    failsafe.drain()
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
    del closing
    gc.collect()
    assert bench.calls == []
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


# Streams: what is measured


class Clock:
    """Time that passes only when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr("victor_otel.wrapping.perf_counter", lambda: self.now)
        monkeypatch.setattr("victor_otel.calls.perf_counter", lambda: self.now)

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


# The context


async def test_context_variable_is_set_inside_only(bench: Bench) -> None:
    seen = []

    async def original() -> AsyncIterator[str]:
        for item in "ab":
            seen.append(CURRENT.get())
            yield item

    stream = bench.stream(original, scope=CALLS)()
    async for _ in stream:
        assert CURRENT.get() is None
    assert CURRENT.get() is None
    assert [frame.scope for frame in seen] == [CALLS, CALLS]


async def test_context_variable_is_restored_in_a_call_that_raises(bench: Bench) -> None:
    hook = bench.hook(scope=CALLS)
    with pytest.raises(ValueError, match="v"):
        bench.wrap(fail, hook)(ERRORS[0])
    assert CURRENT.get() is None
    with pytest.raises(ValueError, match="v"):
        await bench.wrap(fail_later, hook)(ERRORS[0])
    assert CURRENT.get() is None


async def test_stream_read_and_closed_by_different_tasks_leaks_nothing(bench: Bench) -> None:
    stream = bench.stream(words, scope=CALLS)("a", "b")

    async def read() -> Any:
        return await anext(stream), CURRENT.get()

    async def close() -> Any:
        await stream.aclose()
        return CURRENT.get()

    assert await asyncio.create_task(read()) == ("a", None)
    assert await asyncio.create_task(read()) == ("b", None)
    assert await asyncio.create_task(close()) is None
    assert CURRENT.get() is None
    assert bench.endings() == ["closed"]


def test_coroutine_closed_in_another_context_leaks_nothing(bench: Bench) -> None:
    coroutine = bench.wrap(give_later, bench.hook(scope=CALLS))(1)
    contextvars.copy_context().run(driven, coroutine)
    other = contextvars.copy_context()
    other.run(coroutine.close)
    assert other.run(CURRENT.get) is None
    assert bench.later() == ["cancelled"]


async def test_generators_read_in_turns_do_not_see_each_other(bench: Bench) -> None:
    inner = bench.wrap(give, bench.hook(scope=CALLS))

    async def original() -> AsyncIterator[Any]:
        for item in "ab":
            yield inner(item)

    outer = Scope(name="outer")
    one, two = (bench.stream(original, scope=outer)() for _ in range(2))
    assert [await anext(one), await anext(two), await anext(one)] == ["a", "a", "b"]
    await two.aclose()
    await one.aclose()
    assert CURRENT.get() is None
    assert [call.enclosing for call in bench.calls[:3]] == [{"outer"}] * 3


async def test_closing_a_stream_encloses_what_it_calls(bench: Bench) -> None:
    inner = bench.wrap(give, bench.hook(scope=CALLS))

    async def original() -> AsyncIterator[str]:
        try:
            yield "a"
        finally:
            inner(1)

    stream = bench.stream(original, scope=Scope(name="outer"))()
    await anext(stream)
    await stream.aclose()
    assert bench.calls[0].enclosing == {"outer"}


def test_closing_a_generator_encloses_what_it_calls(bench: Bench) -> None:
    inner = bench.wrap(give, bench.hook(scope=CALLS))

    def original() -> Iterator[str]:
        try:
            yield "a"
        finally:
            inner(1)

    stream = bench.stream(original, scope=Scope(name="outer"))()
    next(stream)
    stream.close()
    assert bench.calls[0].enclosing == {"outer"}


# Switched off


async def test_cached_bound_methods_fall_silent(lamp: type[Lamp], bench: Bench) -> None:
    one = lamp("blue")
    cached = (one.on, one.warm, one.flicker, lamp.kind, one.volts)
    bench.engine.enabled = False
    on, warm, flicker, kind, volts = cached
    assert on() == ("blue", 1, False)
    assert await warm(3) == 3
    stream = flicker(2)
    assert [item async for item in stream] == [0, 1]
    assert (kind(), volts("uk")) == ("Lamp", 2)
    assert bench.later() == []


async def test_call_that_outlives_the_switch_is_not_observed(bench: Bench) -> None:
    stream = bench.stream(words)("a", "b")
    await anext(stream)
    coroutine = bench.wrap(give_later)(1)
    bench.engine.enabled = False
    assert await coroutine == 1
    assert [item async for item in stream] == ["b"]
    assert bench.later() == []


def test_disabled_stream_is_the_original_itself(bench: Bench) -> None:
    bench.engine.enabled = False
    assert type(bench.stream(letters)("a")) is type(letters("a"))


def test_wrapped_partial_still_works(bench: Bench) -> None:
    assert bench.wrap(functools.partial(give, "bound"))() == "bound"
    assert len(bench.calls) == 1
