"""Memories of Victor's."""

from __future__ import annotations

import asyncio
from typing import Any


def coordinator(*providers: Any) -> Any:
    from victor.storage.memory import UnifiedMemoryCoordinator

    made = UnifiedMemoryCoordinator()
    for provider in providers:
        made.register_provider(provider)
    return made


def types() -> Any:
    from victor.storage.memory import MemoryType

    return MemoryType


class Diary:
    """A memory of an application's own."""

    def __init__(self) -> None:
        from victor.storage.memory import MemoryType

        self.memory_type = MemoryType.EMBEDDING
        self.pages: dict[str, Any] = {}
        self.open = True

    def is_available(self) -> bool:
        return True

    def _read(self) -> dict[str, Any]:
        if not self.open:
            raise PermissionError
        return self.pages

    async def search(self, query: Any) -> list[Any]:
        return [page for page in self._read().values() if query.query in page.content]

    async def store(self, key: str, value: Any, metadata: Any = None) -> None:
        from victor.storage.memory import MemoryResult

        self._read()[key] = MemoryResult(self.memory_type, value, 1.0, id=key)

    async def get(self, key: str) -> Any:
        return self._read().get(key)


class Notes(Diary):
    """A second memory, which can be slow, closed, broken or busy with something else."""

    def __init__(self, *, raises: BaseException | None = None, available: bool = True) -> None:
        super().__init__()
        self.memory_type = types().CODE
        self.raises = raises
        self.available = available
        self.asked = asyncio.Event()

    def is_available(self) -> bool:
        return self.available

    async def search(self, query: Any) -> list[Any]:
        self.asked.set()
        if self.raises is not None:
            raise self.raises
        return await super().search(query)
