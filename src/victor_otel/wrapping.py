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
import pkgutil
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Token
from time import perf_counter
from typing import Any, SupportsIndex

import wrapt

from victor_otel import failsafe
from victor_otel.calls import Entry, Probe
from victor_otel.scope import CURRENT, Frame
from victor_otel.spec import UNSET, NoFacts, Stream


class _Bound(wrapt.BoundFunctionWrapper[..., Any]):
    """A wrapped method as an attribute gives it; copied and pickled as the plain one is."""

    def __repr__(self) -> str:
        return repr(self.__wrapped__)

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        wrapper = _wrapper(self)
        owner = _bound_to(self)
        owner = wrapper._self_patched if owner is None else owner  # noqa: SLF001
        return getattr, (owner, wrapper._self_name)  # noqa: SLF001

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        instance = _bound_to(self)
        if instance is None:
            return self
        return getattr(copy.deepcopy(instance, memo), _wrapper(self)._self_name)  # noqa: SLF001


def _bound_to(method: Any) -> Any:
    """The instance, or class, that a method is bound to; None for a plain function."""
    return getattr(method.__wrapped__, "__self__", None)


def _wrapper(method: Any) -> Wrapper:
    return method._self_parent  # noqa: SLF001


class Wrapper(wrapt.FunctionWrapper[..., Any]):
    """A wrapped function: looks, binds, copies and pickles like the function itself."""

    __bound_function_wrapper__ = _Bound

    def __init__(
        self, wrapped: Any, wrapper: Callable[..., Any], owner: Any, name: str = ""
    ) -> None:
        super().__init__(wrapped, wrapper)
        self._self_patched = owner
        self._self_name = name or getattr(wrapped, "__name__", "")

    def __repr__(self) -> str:
        return repr(self.__wrapped__)

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        path = f"{self.__wrapped__.__module__}:{self.__wrapped__.__qualname__}"
        return pkgutil.resolve_name, (path,)

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self


def wrap(
    original: Any,
    probe: Probe,
    owner: Any,
    name: str = "",
    *,
    then: Callable[[Any], None] | None = None,
) -> Wrapper:
    """Wraps `original`, which stands as `name` in its owner's dictionary.

    `then` sees the instance of a plain method after each call.
    """
    function = getattr(original, "__func__", original)
    if probe.facts is not None:
        call = _streaming(probe, runs_at_once=not _is_lazy(function))
    elif inspect.iscoroutinefunction(function):
        call = _coroutine(probe)
    else:
        call = _function(probe, then)
    return Wrapper(original, call, owner, name)


def _is_lazy(function: Any) -> bool:
    """Whether calling runs nothing of the body yet."""
    return (
        inspect.iscoroutinefunction(function)
        or inspect.isasyncgenfunction(function)
        or inspect.isgeneratorfunction(function)
    )


def _function(probe: Probe, then: Callable[[Any], None] | None = None) -> Callable[..., Any]:
    def call(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not probe.engine.enabled:
            return wrapped(*args, **kwargs)
        entry = probe.enter(instance, args, kwargs)
        token = CURRENT.set(entry.frame if entry is not None else CURRENT.get())
        try:
            result = wrapped(*args, **kwargs)
        except BaseException as error:
            _reset(token)
            probe.exit(entry, UNSET, error)
            raise
        _reset(token)
        probe.exit(entry, result, None)
        if then is not None:
            then(instance)
        return result

    return call


def _coroutine(probe: Probe) -> Callable[..., Any]:
    def call(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        coroutine = wrapped(*args, **kwargs)
        if not probe.engine.enabled:
            return coroutine
        return _driver(coroutine, probe, instance, args, kwargs)

    return call


def _streaming(probe: Probe, *, runs_at_once: bool) -> Callable[..., Any]:
    """For what returns an iterator at once, or after an await: providers do all of it."""

    def call(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not probe.engine.enabled:
            return wrapped(*args, **kwargs)
        try:
            result = wrapped(*args, **kwargs)
        except BaseException as error:
            if runs_at_once:
                probe.exit(probe.enter(instance, args, kwargs), UNSET, error)
            raise
        if hasattr(result, "__anext__"):
            return AsyncStream(result, _Progress(probe, instance, args, kwargs))
        if hasattr(result, "__next__"):
            return SyncStream(result, _Progress(probe, instance, args, kwargs))
        if not inspect.iscoroutine(result):
            return result
        return _driver(result, probe, instance, args, kwargs)

    return call


class _Held:
    """A coroutine that is closed with whoever was to drive it.

    A task can be cancelled before its first step: without us nothing warns then.
    """

    __slots__ = ("coroutine",)

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self.coroutine = coroutine

    def __del__(self) -> None:
        self.coroutine.close()


def _driver(
    coroutine: Any, probe: Probe, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    driver = _drive(_Held(coroutine), probe, instance, args, kwargs)
    # Task names and debuggers show Victor's function, not our driver.
    with contextlib.suppress(AttributeError):
        driver.__name__, driver.__qualname__ = coroutine.__name__, coroutine.__qualname__
    return driver


async def _drive(
    held: _Held,
    probe: Probe,
    instance: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    entry = probe.enter(instance, args, kwargs)
    if entry is None:
        return await held.coroutine
    token = CURRENT.set(entry.frame)
    try:
        result = await held.coroutine
    except BaseException as error:
        _reset(token)
        if _closing(error):
            failsafe.defer(probe.exit, entry, UNSET, error, None, perf_counter())
        else:
            probe.exit(entry, UNSET, error)
        raise
    _reset(token)
    if probe.facts is not None and hasattr(result, "__anext__"):
        progress = _Progress(probe, instance, args, kwargs)
        progress.resume(entry)
        return AsyncStream(result, progress)
    probe.exit(entry, result, None)
    return result


def _closing(error: BaseException) -> bool:
    """Whether a coroutine is being closed: by hand or by the garbage collector, no telling."""
    if isinstance(error, RuntimeError) and str(error).endswith("ignored GeneratorExit"):
        return True
    context: BaseException | None = error
    seen: set[int] = set()
    while context is not None and id(context) not in seen:
        if isinstance(context, GeneratorExit):
            return True
        seen.add(id(context))
        context = context.__context__
    return False


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
        self._stream = Stream(facts=NoFacts())

    def resume(self, entry: Entry) -> None:
        """Goes on from an entry that began with an await, whose time counts as inside."""
        self.begun = True
        self._entry = entry
        self._begin()
        self._stream.inside = perf_counter() - entry.call.started

    def _begin(self) -> None:
        try:
            self._stream.facts = self._probe.facts() if self._probe.facts else NoFacts()
        except Exception as error:
            failsafe.caught(self._probe.engine.health, self._probe.target, error)

    def close_unread(self) -> bool:
        """Whether the stream is closed before it was read: then it was no call, and never is."""
        if self.begun:
            return False
        self.begun = self._finished = True
        return True

    def enter(self) -> Token[Frame | None] | None:
        """Before each step: our frame is current only while Victor's code runs."""
        if not self.begun:
            self.begun = True
            self._entry = self._probe.enter(*self._call)
            self._begin()
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
            stream.first_content = perf_counter() - self._entry.call.started

    def failed(self, error: BaseException) -> None:
        """Finishes a stream whose step raised; one that is being closed did not fail."""
        if isinstance(error, asyncio.CancelledError):
            self.finish("cancelled", error)
        elif isinstance(error, GeneratorExit):
            self.finish_later("closed", error)
        elif _closing(error):
            self.finish_later("failed", error)
        else:
            self.finish("failed", error)

    def finish(self, ending: str, error: BaseException | None = None) -> None:
        if self._take(ending):
            self._probe.exit(self._entry, UNSET, error, self._stream)

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


class AsyncStream(wrapt.BaseObjectProxy[Any]):
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
        if progress.close_unread():
            await self.__wrapped__.aclose()
            return
        token = progress.enter()
        try:
            await self.__wrapped__.aclose()
        except BaseException as error:
            progress.leave(token)
            progress.failed(error)
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
        except BaseException as error:
            progress.leave(token)
            progress.failed(error)
            raise
        progress.leave(token)
        progress.item(item)
        return item

    def __del__(self) -> None:
        self._self_progress.finish_later("dropped")


class SyncStream(wrapt.BaseObjectProxy[Any]):
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
        progress = self._self_progress
        if progress.close_unread():
            self.__wrapped__.close()
            return
        token = progress.enter()
        try:
            self.__wrapped__.close()
        except BaseException as error:
            progress.leave(token)
            progress.failed(error)
            raise
        progress.leave(token)
        progress.finish("closed")

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
            progress.failed(error)
            raise
        progress.leave(token)
        progress.item(item)
        return item

    def __del__(self) -> None:
        self._self_progress.finish_later("dropped")
