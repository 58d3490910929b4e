"""Wrappers for functions, coroutines, generators and asynchronous generators.

The only file that knows the difference. A wrapper is a function of the same kind as the one
that it wraps, so that Python itself names, copies, pickles and warns of it as before. The rule
for all: guard our start, call Victor outside of any guard, guard our finish; what Victor
returns or raises goes through unchanged, and each call is finished exactly once.

Two things differ. A wrong argument to a coroutine function or to a generator function is refused
at the first step, not at the call. And what a function carries as attributes is what it carried
when it was wrapped.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import Token
from time import perf_counter
from types import AsyncGeneratorType, CoroutineType, FunctionType, GeneratorType
from typing import Any, cast

from victor_otel.engine import failsafe
from victor_otel.engine.nesting import enter, leave
from victor_otel.engine.plan import Plan, is_closing, raised
from victor_otel.model.operation import UNSET, Frame, NoFacts, Stream

Function = Callable[..., Any]

Begin = Callable[[tuple[Any, ...], dict[str, Any]], "tuple[Any, _Reading | None]"]
"""Opens the stream of a call when it is first read; without a reading it is not followed."""


def wrap(
    original: Any, owner: Any, *, plan: Plan, then: Callable[[Any], None] | None = None
) -> Any:
    """What stands for `original`, as it is in its owner's dictionary, from now on.

    `then` sees the instance of a plain method after each call.
    """
    function, kind = unpacked(original)
    takes_self = isinstance(owner, type) and kind is not staticmethod
    call, own = function, function if type(function) is FunctionType else None
    if own is None and takes_self and kind is None:
        # Another tool's object, which is no function: bound by its own rules, or not at all.
        if _has(function, "__get__"):
            call = _bound_by(function)
        else:
            takes_self, kind = False, staticmethod
    plan = plan.at(_positions(function, plan.arguments, takes_self=takes_self))
    is_coroutine = inspect.iscoroutinefunction(function)
    if plan.carries is not None:
        call = _carrying(call, plan, is_coroutine=is_coroutine, takes_self=takes_self)
    if plan.only_tells:
        wrapper = _telling_later(call, plan) if is_coroutine else _telling(call, plan)
    elif is_coroutine:
        wrapper = _coroutine(call, plan, takes_self=takes_self)
    elif inspect.isasyncgenfunction(own):
        wrapper = _async_generator(_opening(call, plan, takes_self=takes_self))
    elif inspect.isgeneratorfunction(own):
        wrapper = _generator(_opening(call, plan, takes_self=takes_self))
    elif plan.facts is not None:
        wrapper = _streaming(call, plan, takes_self=takes_self)
    else:
        wrapper = _function(call, plan, then, takes_self=takes_self)
    wrapper = dressed(wrapper, original)
    return wrapper if kind is None else cast("Any", kind)(wrapper)


def unpacked(value: Any) -> tuple[Any, Any]:
    """The function in what stands in a dictionary, and the kind of descriptor around it."""
    kinds: tuple[Any, ...] = (staticmethod, classmethod)
    for kind in kinds:
        if isinstance(value, kind):
            return value.__func__, kind
    return value, None


def dressed(wrapper: Function, original: Any) -> Function:
    """A wrapper that looks like the function in `original`, and leads back to `original`."""
    functools.update_wrapper(wrapper, unpacked(original)[0])
    wrapper.__wrapped__ = original  # type: ignore[attr-defined]
    return wrapper


def _bound_by(descriptor: Any) -> Function:
    def call(instance: Any, /, *args: Any, **kwargs: Any) -> Any:
        return descriptor.__get__(instance, type(instance))(*args, **kwargs)

    return call


def _positions(function: Any, arguments: Sequence[str], *, takes_self: bool) -> Mapping[str, int]:
    """Where a function has these arguments, the instance excluded."""
    code = getattr(inspect.unwrap(function), "__code__", None)  # a decorator's has `*args`
    names = code.co_varnames[takes_self : code.co_argcount] if code is not None else ()
    return {name: names.index(name) for name in arguments if name in names}


def _carrying(function: Function, plan: Plan, *, is_coroutine: bool, takes_self: bool) -> Function:
    """Looks for the trace when the function begins: then its own span is current."""
    skip = int(takes_self)

    async def call_later(*args: Any, **kwargs: Any) -> Any:
        args, kwargs = plan.carried(args, kwargs, skip)
        return await function(*args, **kwargs)

    def call(*args: Any, **kwargs: Any) -> Any:
        args, kwargs = plan.carried(args, kwargs, skip)
        return function(*args, **kwargs)

    return call_later if is_coroutine else call


def _telling(function: Function, plan: Plan) -> Function:
    """For an inner function: outside of its operation a call costs one look."""

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        whole = plan.told()
        if whole is None:
            return function(*args, **kwargs)
        started = perf_counter()
        try:
            result = function(*args, **kwargs)
        except BaseException:
            plan.tell(whole, started, UNSET)
            raise
        plan.tell(whole, started, result)
        return result

    return wrapper


def _telling_later(function: Function, plan: Plan) -> Function:
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        coroutine = function(*args, **kwargs)
        whole = plan.told()
        if whole is None:
            return await coroutine
        started = perf_counter()
        try:
            result = await coroutine
        except BaseException:
            plan.tell(whole, started, UNSET)
            raise
        plan.tell(whole, started, result)
        return result

    return wrapper


def _function(
    function: Function,
    plan: Plan,
    then: Callable[[Any], None] | None,
    *,
    takes_self: bool,
) -> Function:
    skip = int(takes_self)

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if plan.is_idle and plan.stays_idle():
            return function(*args, **kwargs)
        instance = args[0] if skip and args else None
        entry = plan.enter(instance, args[skip:], kwargs)
        if entry is None:
            result = function(*args, **kwargs)
            if then is not None:
                then(instance)
            return result
        token = enter(entry)
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            leave(entry, token)
            plan.exit(entry, UNSET, error)
            raise
        leave(entry, token)
        plan.exit(entry, result, None)
        if then is not None:
            then(instance)
        return result

    return wrapper


def _coroutine(function: Function, plan: Plan, *, takes_self: bool) -> Function:
    skip = int(takes_self)
    may_stream = plan.facts is not None

    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        coroutine = function(*args, **kwargs)  # before we enter: a wrong argument is no call
        if plan.is_idle and plan.stays_idle():
            return await coroutine
        entry = plan.enter(args[0] if skip and args else None, args[skip:], kwargs)
        if entry is None:
            return await coroutine
        token = enter(entry)
        try:
            result = await coroutine
        except BaseException as error:
            plan.fail(entry, token, error)
            raise
        leave(entry, token)
        if may_stream and _has(result, "__anext__"):
            reading = _Reading(plan, entry, perf_counter() - entry.started)
            return _followed(result, lambda: reading)
        plan.exit(entry, result, None)
        return result

    return wrapper


def _streaming(function: Function, plan: Plan, *, takes_self: bool) -> Function:
    """For what returns an iterator at once, or a coroutine: providers do both."""
    skip = int(takes_self)
    read = _reader(plan, takes_self=takes_self)

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if plan.is_idle and plan.stays_idle():
            return function(*args, **kwargs)
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            instance = args[0] if skip and args else None
            plan.exit(plan.enter(instance, args[skip:], kwargs), UNSET, error)
            raise

        if type(result) is CoroutineType:
            follow = _coroutine(_giving(result), plan, takes_self=takes_self)
            return _named_after(result, follow(*args, **kwargs))
        return _followed(result, lambda: read(args, kwargs))

    return wrapper


def _followed(result: Any, read: Callable[[], _Reading | None]) -> Any:
    """A generator, driven by one of ours; another iterator, seen through; else the result itself.

    `read` is called with the first step.
    """
    kind = cast("Any", type(result))
    if kind is AsyncGeneratorType:
        return _named_after(result, _async_generator(_begun(result, read))())
    if kind is GeneratorType:
        return _named_after(result, _generator(_begun(result, read))())
    if not (_has(result, "__anext__") or _has(result, "__next__")):
        return result
    from victor_otel.engine.iterators import AsyncDriven, Driven, each, each_later

    if _has(result, "__anext__"):
        return AsyncDriven(result, _async_generator(_begun(each_later(result), read))())
    return Driven(result, _generator(_begun(each(result), read))())


def _begun(stream: Any, read: Callable[[], _Reading | None]) -> Begin:
    return lambda _args, _kwargs: (stream, read())


def _giving(result: Any) -> Function:
    def given(*_: Any, **__: Any) -> Any:
        return result

    return given


def _has(result: Any, method: str) -> bool:
    """Whether Python finds a method of its protocols, which it never asks the object for."""
    return _declares(cast("Any", type(result)), method)


@functools.lru_cache(maxsize=256)
def _declares(kind: Any, method: str) -> bool:
    return any(method in vars(cls) for cls in kind.__mro__)


def _named_after(original: Any, driver: Any) -> Any:
    """Task names, warnings and debuggers show Victor's function, not our driver."""
    driver.__name__, driver.__qualname__ = original.__name__, original.__qualname__
    return driver


def _reader(
    plan: Plan, *, takes_self: bool
) -> Callable[[tuple[Any, ...], dict[str, Any]], _Reading | None]:
    """What begins a reading with the arguments of the call, if it is to be followed."""
    skip = int(takes_self)

    def read(args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Reading | None:
        if plan.is_idle and plan.stays_idle():
            return None
        entry = plan.enter(args[0] if skip and args else None, args[skip:], kwargs)
        return None if entry is None else _Reading(plan, entry)

    return read


def _opening(function: Function, plan: Plan, *, takes_self: bool) -> Begin:
    read = _reader(plan, takes_self=takes_self)
    return lambda args, kwargs: (function(*args, **kwargs), read(args, kwargs))


class _Reading:
    """How far a stream has come. It finishes exactly once, at the latest with its generator."""

    __slots__ = ("_entry", "_plan", "_stream", "frame", "since", "token")

    since: float
    """When the step began that is under way."""
    token: Token[Frame | None]
    """Takes our frame back that is current during the step."""

    def __init__(self, plan: Plan, entry: Frame, inside: float = 0.0) -> None:
        """`inside`: the seconds that were spent before the first read."""
        self.frame = entry
        self._plan = plan
        self._entry: Frame | None = entry
        self._stream = Stream(facts=NoFacts(), inside=inside)
        try:
            if plan.facts is not None:
                self._stream.facts = plan.facts()
        except Exception as error:
            self._caught(error)

    def item(self, item: Any) -> None:
        """After a step that gave an item."""
        leave(self.frame, self.token)
        now = perf_counter()
        stream = self._stream
        stream.inside += now - self.since
        stream.items += 1
        try:
            stream.facts.add(item)
        except Exception as error:
            self._caught(error)
        if stream.first_content is None:
            self._first(now - self.frame.started)

    def _first(self, seconds: float) -> None:
        stream = self._stream
        if stream.first_item is None:
            stream.first_item = seconds
        if stream.facts.started:
            stream.first_content = seconds

    def ended(self, error: BaseException) -> None:
        """After a step that gave none. A finalizer runs perhaps where a stream is closed."""
        leave(self.frame, self.token)
        self._stream.inside += perf_counter() - self.since
        if raised(error, StopAsyncIteration, StopIteration):
            self._finish("exhausted")
        elif raised(error, asyncio.CancelledError):
            self._finish("cancelled", error)
        elif raised(error, GeneratorExit):
            self._finish_later("closed")
        elif is_closing(error):
            self._finish_later("failed", error)
        else:
            self._finish("failed", error)

    def _finish(self, ending: str, error: BaseException | None = None) -> None:
        entry = self._take(ending)
        if entry is not None:
            self._plan.exit(entry, UNSET, error, self._stream)

    def _finish_later(self, ending: str, error: BaseException | None = None) -> None:
        """`_finish` for where a finalizer may be running."""
        entry = self._take(ending)
        if entry is not None:
            failsafe.defer(self._plan.exit, entry, UNSET, error, self._stream, perf_counter())

    def _take(self, ending: str) -> Frame | None:
        """The entry, for the one that may finish."""
        entry, self._entry = self._entry, None
        if entry is not None:
            self._stream.ending = ending
        return entry

    def _caught(self, error: Exception) -> None:
        failsafe.caught(self._plan.engine.health, self._plan.target, error)

    def __del__(self) -> None:
        self._finish_later("dropped")


def _async_generator(begin: Begin) -> Function:
    """Our frame is current only while Victor's code runs; its consumer's time is not inside.

    What is done around each step stands in the loop itself: a call would cost as much again.
    """

    async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        stream, reading = begin(args, kwargs)
        step, value = _first_step(stream), None
        while True:
            if reading is not None:
                reading.since, reading.token = perf_counter(), enter(reading.frame)
            try:
                item = await step(value)
            except BaseException as error:
                value = None  # what was thrown holds this frame
                if reading is not None:
                    reading.ended(error)
                if raised(error, StopAsyncIteration):
                    return
                raise
            if reading is not None:
                reading.item(item)
            step, value = stream.asend, None
            try:
                value = yield item
            except GeneratorExit:
                with _closing(reading):
                    await stream.aclose()
                raise
            except BaseException as error:
                step, value = stream.athrow, error

    return wrapper


def _first_step(stream: Any) -> Function:
    """Begins a stream of which the event loop is not told, so that it does not close it as well.

    It closes ours, which closes this one: were it closed from both sides at once, one would fail.
    """
    told = sys.get_asyncgen_hooks().firstiter
    sys.set_asyncgen_hooks(firstiter=None)
    try:
        first = stream.asend(None)
    finally:
        sys.set_asyncgen_hooks(firstiter=told)

    def step(_: None) -> Any:
        return first

    return step


def _generator(begin: Begin) -> Function:
    """As `_async_generator`, without a wait."""

    def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        stream, reading = begin(args, kwargs)
        step, value = stream.send, None
        while True:
            if reading is not None:
                reading.since, reading.token = perf_counter(), enter(reading.frame)
            try:
                item = step(value)
            except BaseException as error:
                value = None  # what was thrown holds this frame
                if reading is not None:
                    reading.ended(error)
                if raised(error, StopIteration):
                    return cast("StopIteration", error).value
                raise
            if reading is not None:
                reading.item(item)
            step, value = stream.send, None
            try:
                value = yield item
            except GeneratorExit:
                with _closing(reading):
                    stream.close()
                raise
            except BaseException as error:
                step, value = stream.throw, error

    return wrapper


@contextmanager
def _closing(reading: _Reading | None) -> Generator[None]:
    """Around the closing of a stream that is read no further: a finalizer may be running."""
    if reading is None:
        yield
        return
    reading.since, reading.token = perf_counter(), enter(reading.frame)
    try:
        yield
    except BaseException as error:
        reading.ended(error)
        raise
    reading.ended(GeneratorExit())
