"""Wrappers for functions, coroutines, generators and asynchronous generators.

The only file that knows the difference. The rule for all: guard our start, call Victor
outside of any guard, guard our finish; what Victor returns or raises goes through
unchanged, and each call is finished exactly once.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Token
from time import perf_counter
from typing import Any, SupportsIndex

import wrapt

from victor_otel import failsafe
from victor_otel.calls import Entry, Probe
from victor_otel.scope import CURRENT, Frame
from victor_otel.spec import UNSET, Stream


class _Bound(wrapt.BoundFunctionWrapper[..., Any]):
    """A wrapped method as an attribute gives it; copied and pickled as the plain one is."""

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        owner: Any = self._self_instance  # pyright: ignore[reportAttributeAccessIssue]
        if owner is None:
            owner = self._self_parent._self_patched  # noqa: SLF001 # pyright: ignore[reportAttributeAccessIssue]
        return getattr, (owner, self.__wrapped__.__name__)

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        instance: Any = self._self_instance  # pyright: ignore[reportAttributeAccessIssue]
        if instance is None:
            return self
        return getattr(copy.deepcopy(instance, memo), self.__wrapped__.__name__)


class Wrapper(wrapt.FunctionWrapper[..., Any]):
    """A wrapped function: looks, binds, copies and pickles like the function itself."""

    __bound_function_wrapper__ = _Bound

    def __init__(self, wrapped: Any, wrapper: Callable[..., Any], owner: Any) -> None:
        super().__init__(wrapped, wrapper)
        self._self_patched = owner

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        return self.__wrapped__.__qualname__

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self


def wrap(original: Any, probe: Probe, owner: Any) -> Wrapper:
    """Wraps `original`, an attribute as it stands in its owner's dictionary."""
    function = getattr(original, "__func__", original)
    if probe.facts is not None:
        return Wrapper(original, _streaming(probe), owner)
    if inspect.iscoroutinefunction(function):
        return Wrapper(original, _coroutine(probe), owner)
    return Wrapper(original, _function(probe), owner)


def wrap_then(original: Any, probe: Probe, owner: Any, then: Callable[[Any], None]) -> Wrapper:
    """Wraps a plain method, and has `then` see its instance after each call."""
    call = _function(probe)

    def call_then(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        result = call(wrapped, instance, args, kwargs)
        if probe.engine.enabled:
            then(instance)
        return result

    return Wrapper(original, call_then, owner)


def _function(probe: Probe) -> Callable[..., Any]:
    def call(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not probe.engine.enabled:
            return wrapped(*args, **kwargs)
        entry = probe.enter(instance, args, kwargs)
        if entry is None:
            return wrapped(*args, **kwargs)
        token = CURRENT.set(entry.frame)
        try:
            result = wrapped(*args, **kwargs)
        except BaseException as error:
            _reset(token)
            probe.exit(entry, UNSET, error)
            raise
        _reset(token)
        probe.exit(entry, result, None)
        return result

    return call


def _coroutine(probe: Probe) -> Callable[..., Any]:
    def call(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        coroutine = wrapped(*args, **kwargs)
        if not probe.engine.enabled:
            return coroutine
        return _named(_drive(coroutine, probe, instance, args, kwargs), coroutine)

    return call


def _streaming(probe: Probe) -> Callable[..., Any]:
    """For what returns an iterator at once, or after an await: providers do all of it."""

    def call(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = wrapped(*args, **kwargs)
        if not probe.engine.enabled:
            return result
        if hasattr(result, "__anext__"):
            return AsyncStream(result, _Progress(probe, instance, args, kwargs))
        if hasattr(result, "__next__"):
            return SyncStream(result, _Progress(probe, instance, args, kwargs))
        if inspect.iscoroutine(result):
            return _named(_drive(result, probe, instance, args, kwargs), result)
        return result

    return call


async def _drive(
    coroutine: Coroutine[Any, Any, Any],
    probe: Probe,
    instance: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    entry = probe.enter(instance, args, kwargs)
    if entry is None:
        return await coroutine
    token = CURRENT.set(entry.frame)
    try:
        result = await coroutine
    except GeneratorExit as error:  # closed by hand or by the garbage collector: no telling
        _reset(token)
        failsafe.defer(probe.exit, entry, UNSET, error, None, perf_counter())
        raise
    except BaseException as error:
        _reset(token)
        probe.exit(entry, UNSET, error)
        raise
    _reset(token)
    if probe.facts is not None and hasattr(result, "__anext__"):
        progress = _Progress(probe, instance, args, kwargs)
        progress.resume(entry)
        return AsyncStream(result, progress)
    probe.exit(entry, result, None)
    return result


def _named(ours: Any, theirs: Any) -> Any:
    """Task names and debuggers show Victor's function, not our driver."""
    with contextlib.suppress(AttributeError):
        ours.__name__, ours.__qualname__ = theirs.__name__, theirs.__qualname__
    return ours


def _reset(token: Token[Frame | None]) -> None:
    # A coroutine may be finished in another context than it was started in.
    with contextlib.suppress(ValueError):
        CURRENT.reset(token)


class _Progress:
    """How far a stream has come. It begins at the first read and finishes exactly once."""

    def __init__(
        self, probe: Probe, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self._probe = probe
        self._call = (instance, args, kwargs)
        self._entry: Entry | None = None
        self.begun = self._finished = False
        self._since = 0.0
        self._stream = Stream(facts=probe.facts() if probe.facts is not None else None)

    def resume(self, entry: Entry) -> None:
        """Goes on from an entry that began with an await, whose time counts as inside."""
        self.begun = True
        self._entry = entry
        self._stream.inside = perf_counter() - entry.started

    def enter(self) -> Token[Frame | None] | None:
        """Before each step: our frame is current only while Victor's code runs."""
        if not self.begun:
            self.begun = True
            self._entry = self._probe.enter(*self._call)
        if self._entry is None or self._finished:
            return None
        self._since = perf_counter()
        return CURRENT.set(self._entry.frame)

    def leave(self, token: Token[Frame | None] | None) -> None:
        if token is not None:
            self._stream.inside += perf_counter() - self._since
            _reset(token)

    def item(self, item: Any) -> None:
        if self._entry is None or self._finished:
            return
        stream = self._stream
        stream.items += 1
        try:
            stream.facts.add(item)
        except Exception as error:
            failsafe.caught(self._probe.engine.health, self._probe.target, error)
        if stream.first_content is None and stream.facts.started:
            stream.first_content = perf_counter() - self._entry.started

    def finish(self, ending: str, error: BaseException | None = None) -> None:
        if self._take(ending):
            self._probe.exit(self._entry, UNSET, error, self._stream)  # pyright: ignore[reportArgumentType]

    def finish_later(self, ending: str, error: BaseException | None = None) -> None:
        """`finish` for where a finalizer may be running."""
        if self._take(ending):
            failsafe.defer(
                self._probe.exit, self._entry, UNSET, error, self._stream, perf_counter()
            )

    def _take(self, ending: str) -> bool:
        """True for the one that may finish; a stream that was never read was no call."""
        if self._finished or not self.begun:
            return False
        self._finished = True
        self._stream.ending = ending
        return self._entry is not None


class AsyncStream(wrapt.ObjectProxy[Any]):
    """An asynchronous generator, seen through: passes every item, `athrow` and `aclose` on."""

    def __init__(self, wrapped: Any, progress: _Progress) -> None:
        super().__init__(wrapped)
        self._self_progress = progress

    def __aiter__(self) -> Any:
        return self

    def __anext__(self) -> Coroutine[Any, Any, Any]:
        return self._self_step(self.__wrapped__.__anext__)

    def asend(self, value: Any) -> Coroutine[Any, Any, Any]:
        return self._self_step(self.__wrapped__.asend, value)

    def athrow(self, *args: Any) -> Coroutine[Any, Any, Any]:
        return self._self_step(self.__wrapped__.athrow, *args)

    async def aclose(self) -> None:
        progress = self._self_progress
        token = progress.enter() if progress.begun else None
        try:
            await self.__wrapped__.aclose()
        except BaseException as error:
            progress.leave(token)
            progress.finish("failed", error)
            raise
        progress.leave(token)
        progress.finish("closed")

    async def _self_step(self, advance: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        progress = self._self_progress
        token = progress.enter()
        try:
            item = await advance(*args)
        except StopAsyncIteration:
            progress.leave(token)
            progress.finish("exhausted")
            raise
        except asyncio.CancelledError as error:
            progress.leave(token)
            progress.finish("cancelled", error)
            raise
        except GeneratorExit as error:
            progress.leave(token)
            progress.finish_later("closed", error)
            raise
        except BaseException as error:
            progress.leave(token)
            progress.finish("failed", error)
            raise
        progress.leave(token)
        progress.item(item)
        return item

    def __del__(self) -> None:
        self._self_progress.finish_later("dropped")


class SyncStream(wrapt.ObjectProxy[Any]):
    """A generator, seen through."""

    def __init__(self, wrapped: Any, progress: _Progress) -> None:
        super().__init__(wrapped)
        self._self_progress = progress

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        return self._self_step(self.__wrapped__.__next__)

    def send(self, value: Any) -> Any:
        return self._self_step(self.__wrapped__.send, value)

    def throw(self, *args: Any) -> Any:
        return self._self_step(self.__wrapped__.throw, *args)

    def close(self) -> None:
        self.__wrapped__.close()
        self._self_progress.finish("closed")

    def _self_step(self, advance: Callable[..., Any], *args: Any) -> Any:
        progress = self._self_progress
        token = progress.enter()
        try:
            item = advance(*args)
        except StopIteration:
            progress.leave(token)
            progress.finish("exhausted")
            raise
        except BaseException as error:
            progress.leave(token)
            progress.finish("failed", error)
            raise
        progress.leave(token)
        progress.item(item)
        return item

    def __del__(self) -> None:
        self._self_progress.finish_later("dropped")
