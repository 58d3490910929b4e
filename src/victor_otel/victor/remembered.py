"""What an area remembers, so that the same thing counts once: never more than it may."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Generic, TypeVar

Key = TypeVar("Key")


class Remembered(Generic[Key]):
    """A set of at most `limit` members: one more, and the one not seen for longest is forgotten.

    Of each it keeps what was noted when it was new.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._notes: dict[Key, str] = {}

    def add(self, key: Key, note: str = "") -> str | None:
        """What was noted of `key` when it was new; None if it is new now."""
        with self._lock:
            noted = self._notes.pop(key, None)
            self._notes[key] = note if noted is None else noted
            if len(self._notes) > self._limit:
                del self._notes[next(iter(self._notes))]
        return noted

    def discard(self, key: Key) -> None:
        with self._lock:
            self._notes.pop(key, None)

    def __iter__(self) -> Iterator[Key]:
        with self._lock:
            return iter(list(self._notes))

    def __len__(self) -> int:
        return len(self._notes)
