"""What befell victor-otel itself, counted in a plain object so that missing numbers are visible."""

from __future__ import annotations

import threading
from collections import Counter


class Health:
    """Plain counters of this process; safe from any thread."""

    def __init__(self) -> None:
        self.hooks: dict[str, str] = {}
        """The state of each wrapped function by its path: bound, waiting or missing."""
        self.restart()

    def restart(self) -> None:
        """Counts from 0 again: a forked child has the parent's wrappers, not its counts."""
        self._lock = threading.Lock()
        self.errors: Counter[str] = Counter()
        self.capped: Counter[str] = Counter()
        self.undeclared: Counter[str] = Counter()
        self.exports_dropped = 0
        self.spans_dropped = 0
        self.endpoint_up: bool | None = None

    def add_error(self, where: str) -> int:
        """Counts an error and returns how many there have been at the same place."""
        return self._add(self.errors, where)

    def add_capped(self, metric: str) -> int:
        """Counts a replaced label value and returns how many the metric has had."""
        return self._add(self.capped, metric)

    def add_undeclared(self, metric: str) -> int:
        """Counts a label value that is not known, and returns how many the metric has had."""
        return self._add(self.undeclared, metric)

    def _add(self, counts: Counter[str], key: str) -> int:
        with self._lock:
            counts[key] += 1
            return counts[key]

    def add_dropped_spans(self, number: int) -> None:
        with self._lock:
            self.spans_dropped += number

    def add_dropped_export(self) -> None:
        with self._lock:
            self.exports_dropped += 1
