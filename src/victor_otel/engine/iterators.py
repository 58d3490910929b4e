"""Iterators that are no generators: themselves, but for their items, which a driver gives.

Imported when the first such stream is seen, which few providers have.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from typing import Any

import wrapt


async def each_later(iterator: Any) -> AsyncGenerator[Any, Any]:
    """The items of what is no generator, and is not ours to close."""
    while True:
        try:
            item = await anext(iterator)
        except StopAsyncIteration:
            return
        yield item


def each(iterator: Any) -> Generator[Any, Any, Any]:
    """As `each_later`, with the iterator's return value."""
    while True:
        try:
            item = next(iterator)
        except StopIteration as end:
            return end.value
        yield item


class AsyncDriven(wrapt.BaseObjectProxy[Any]):
    """An asynchronous iterator whose items `driver` gives."""

    def __init__(self, wrapped: Any, driver: AsyncGenerator[Any, Any]) -> None:
        super().__init__(wrapped)
        self._self_driver = driver

    def __aiter__(self) -> Any:
        return self

    def __anext__(self) -> Any:
        return self._self_driver.__anext__()


class Driven(wrapt.BaseObjectProxy[Any]):
    """An iterator whose items `driver` gives."""

    def __init__(self, wrapped: Any, driver: Generator[Any, Any, Any]) -> None:
        super().__init__(wrapped)
        self._self_driver = driver

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        return next(self._self_driver)
