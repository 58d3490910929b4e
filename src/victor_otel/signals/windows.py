"""Counts over the last five minutes, for the gauges that are ratios and rates."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from time import monotonic

WINDOW = 300.0
"""Seconds that every ratio and rate looks back."""


class Window:
    """Successes and totals of the last `WINDOW` seconds, in steps of one second."""

    __slots__ = ("_clock", "_lock", "_since", "_steps", "_successes", "_total", "latest")

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._since = clock()
        self._lock = threading.Lock()
        self._steps: deque[list[float]] = deque()
        self._successes = self._total = 0.0
        self.latest = 0.0

    def add(self, value: float, total: float = 1) -> None:
        """Adds `value` successes of `total` events."""
        second = self._clock() // 1
        with self._lock:
            if not self._steps or self._steps[-1][0] != second:
                self._steps.append([second, 0.0, 0.0])
                self._expire(second)
            step = self._steps[-1]
            step[1] += value
            step[2] += total
            self._successes += value
            self._total += total
            self.latest = value

    def ratio(self) -> float | None:
        """The share of successes; None when nothing happened."""
        with self._lock:
            self._expire(self._clock() // 1)
            return self._successes / self._total if self._total else None

    def last(self) -> float | None:
        """The last value; None when nothing happened."""
        return None if self.ratio() is None else self.latest

    def rate(self) -> float:
        """Events per second, over the time since activation while that is shorter."""
        now = self._clock()
        with self._lock:
            self._since = min(self._since, now)
            self._expire(now // 1)
            return self._total / min(WINDOW, max(1.0, now - self._since))

    def _expire(self, second: float) -> None:
        # What seems to be of the future is of before the clock was set back.
        while self._steps and not second - WINDOW < self._steps[0][0] <= second:
            _, successes, total = self._steps.popleft()
            self._successes -= successes
            self._total -= total
