"""Functions of every kind, as Victor might have them."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any


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
