"""Calls that are cancelled, closed or dropped at a step of one's choice."""

from __future__ import annotations

import asyncio
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Ended:
    """How a call ended, and how often it waited until then."""

    outcome: str
    """The name of its exception, or what `told` makes of its result."""
    waits: int

    @property
    def cancelled(self) -> bool:
        return self.outcome == asyncio.CancelledError.__name__


async def cancelled_at(
    call: Callable[[], Awaitable[Any]], wait: int, told: Callable[[Any], Any] = type
) -> Ended:
    """Runs a call as a task that is cancelled in its `wait`th wait; 0 lets it complete."""
    waits = 0

    @types.coroutine
    def watched() -> Generator[Any, Any, Any]:
        nonlocal waits
        inner = call().__await__()
        step: Callable[[], Any] = lambda: next(inner)  # noqa: E731
        while True:
            try:
                awaited = step()
            except StopIteration as end:
                return end.value
            waits += 1
            if waits == wait:
                current = asyncio.current_task()
                assert current is not None
                current.cancel()
            try:
                yield awaited
            except BaseException as error:
                step = _throwing(inner, error)
            else:
                step = lambda: next(inner)  # noqa: E731

    async def work() -> Any:
        return await watched()

    task = asyncio.ensure_future(work())
    await asyncio.wait([task])
    return Ended(_outcome(task, told), waits)


def _throwing(inner: Any, error: BaseException) -> Callable[[], Any]:
    return lambda: inner.throw(error)


def _outcome(task: asyncio.Future[Any], told: Callable[[Any], Any]) -> str:
    if task.cancelled():
        return asyncio.CancelledError.__name__
    error = task.exception()
    return repr(told(task.result())) if error is None else type(error).__name__


async def left_after(
    stream: Any, items: int, *, close: bool, told: Callable[[Any], Any] = type
) -> list[str]:
    """Reads `items` of a stream, then closes or drops it; what was read, and how it ended."""
    read: list[str] = []
    try:
        while len(read) < items:
            read.append(repr(told(await anext(stream))))
    except StopAsyncIteration:
        return [*read, "exhausted"]
    if close:
        await stream.aclose()
        try:
            await anext(stream)
        except Exception as error:
            read.append(type(error).__name__)
    return read


async def settle() -> None:
    """Lets the loop do what a closed or dropped stream left to it."""
    for _ in range(20):
        await asyncio.sleep(0)


async def whole(stream: AsyncIterator[Any], told: Callable[[Any], Any] = type) -> list[str]:
    return [repr(told(item)) async for item in stream]
