"""Wrapped functions give, raise and look like what they were, and each call counts once."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator
from typing import Any

import pytest
import wrapt

from tests.engine.bench import Bench, Facts
from tests.engine.fakes import (
    CAUSE,
    ERRORS,
    Interruption,
    fail,
    fail_later,
    give,
    give_later,
    letters,
    words,
    words_after_an_await,
    words_at_once,
)
from victor_otel.model.operation import UNSET


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


@pytest.mark.parametrize("function", [give, words_at_once])
def test_bad_arguments_are_refused_at_the_call(bench: Bench, function: Any) -> None:
    with pytest.raises(TypeError) as expected:
        function(unknown=1)
    with pytest.raises(TypeError) as raised:
        (bench.stream if function is words_at_once else bench.wrap)(function)(unknown=1)
    assert str(raised.value) == str(expected.value)


@pytest.mark.parametrize("function", [give_later, words_after_an_await, words, letters])
async def test_bad_arguments_are_refused_at_the_first_step_and_count_nothing(
    bench: Bench, function: Any
) -> None:
    with pytest.raises(TypeError) as expected:
        function(unknown=1)
    called = (bench.wrap if function is give_later else bench.stream)(function)(unknown=1)
    with pytest.raises(TypeError) as raised:
        next(called) if function is letters else await (
            anext(called) if function is words else called
        )
    assert str(raised.value) == str(expected.value)
    assert bench.later() == []


def test_instance_may_be_missing_or_named(lamp: type[Lamp], bench: Bench) -> None:
    with pytest.raises(TypeError, match=r"missing 1 required positional argument: 'self'"):
        lamp.on()  # type: ignore[call-arg]
    assert lamp.on(self=lamp("blue")) == ("blue", 1, False)


async def test_coroutine_bears_the_name_of_the_function(bench: Bench) -> None:
    coroutine = bench.wrap(give_later)(1)
    assert (coroutine.__name__, coroutine.__qualname__) == ("give_later", "give_later")
    assert inspect.iscoroutine(coroutine)
    await coroutine


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


# What stands below our wrapper is called once


class Callback:
    """Callable, but bound to no instance when it stands in a class."""

    def __call__(self, value: object) -> object:
        return value


def test_callable_that_does_not_bind_is_not_bound(bench: Bench) -> None:
    owner = type("Owner", (), {"call": Callback()})
    bench.wrap_method(owner, "call")
    assert (owner().call(1), owner.call(2)) == (1, 2)  # type: ignore[attr-defined]
    assert [(call.instance, call.args) for call in bench.calls] == [(None, (1,)), (None, (2,))]


async def test_method_that_another_tool_wrapped_is_bound_by_its_rules(bench: Bench) -> None:
    seen: list[Any] = []

    @wrapt.decorator
    def foreign(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        seen.append(instance)
        return wrapped(*args, **kwargs)

    class Torch(Lamp):
        on = foreign(Lamp.on)
        warm = foreign(Lamp.warm)

    for name in ("on", "warm"):
        bench.wrap_method(Torch, name)
    torch = Torch("blue")
    assert torch.on(2) == ("blue", 2, False)
    assert await torch.warm(3) == 3
    assert inspect.iscoroutinefunction(torch.warm)
    assert seen == [torch, torch]
    assert [call.instance for call in bench.calls] == [torch, torch]


@wrapt.decorator
def counted(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
    """Another tool's wrapper, which looks like the function and works when it is called."""
    COUNTED.append(args)
    return wrapped(*args, **kwargs)


COUNTED: list[Any] = []


@pytest.mark.parametrize("streams", [False, True])
async def test_coroutine_function_that_another_tool_wrapped_is_called_once(
    bench: Bench, *, streams: bool
) -> None:
    COUNTED.clear()
    wrap = bench.stream if streams else bench.wrap
    assert await wrap(counted(give_later))("value") == "value"
    assert COUNTED == [("value",)]
    assert len(bench.calls) == 1


@pytest.mark.parametrize("streams", [False, True])
async def test_function_returning_a_coroutine_keeps_its_arguments(
    bench: Bench, *, streams: bool
) -> None:
    def original(value: str, *, model: str) -> Any:
        return give_later(f"{value} {model}")

    wrap = bench.stream if streams else bench.wrap
    assert await wrap(original)("value", model="m") == "value m"
    assert [(call.args, dict(call.kwargs)) for call in bench.calls] == [
        (("value",), {"model": "m"})
    ]
