"""Costs in CPU time, measured in pairs that follow each other, so that noise meets all alike."""

from __future__ import annotations

import gc
import random
import statistics
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from time import process_time

Work = Callable[[int], Awaitable[None]]
"""Does something so many times, in the running event loop."""


@dataclass(frozen=True)
class State:
    """One way to do the same work: what is switched on around it, and the work itself."""

    around: Callable[[], AbstractContextManager[object]]
    work: Work


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of what the rounds gave."""

    low: float
    middle: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        low, middle, high = statistics.quantiles(values, n=4)
        return cls(low, middle, high)

    def scaled(self, factor: float) -> Spread:
        """In another unit."""
        return Spread(factor * self.low, factor * self.middle, factor * self.high)

    def __str__(self) -> str:
        return f"{number(self.middle)} ({number(self.low)} to {number(self.high)})"


def number(value: float) -> str:
    """As many digits as a reader wants."""
    size = abs(value)
    digits = 0 if size >= 100 else 1 if size >= 10 else 2  # noqa: PLR2004
    return f"{value:,.{digits}f}"


class Rounds:
    """CPU seconds of one piece of work by state, one value for each round."""

    def __init__(self, seconds: Mapping[str, Sequence[float]]) -> None:
        self._seconds = seconds

    def of(self, state: str) -> Spread:
        """Microseconds of the work in a state."""
        return Spread.of([1e6 * each for each in self._seconds[state]])

    def beyond(self, state: str, base: str) -> Spread:
        """Microseconds that a state costs beyond `base`, in each round."""
        pairs = zip(self._seconds[state], self._seconds[base], strict=True)
        return Spread.of([1e6 * (here - there) for here, there in pairs])

    def ratio(self, state: str, other: str, base: str) -> str:
        """The cost beyond `base` of one state, in units of that of another.

        Of the medians: in a single round the smaller cost may be less than the noise.
        """
        theirs = self.beyond(other, base).middle
        return number(self.beyond(state, base).middle / theirs) if theirs > 0 else "-"


async def measure(states: Mapping[str, State], *, rounds: int, times: int, warm: int = 0) -> Rounds:
    """Plays the states `rounds` times, each time in another order, each `times` times.

    Before each measurement come `warm` times that are not measured, or a few.
    """
    seconds: dict[str, list[float]] = {name: [] for name in states}
    dice = random.Random(1)  # noqa: S311
    for state in states.values():  # what is made once is made before
        with state.around():
            await state.work(max(1, times // 10))
    gc.collect()
    gc.freeze()  # what lives long is not looked at again in each round
    for _ in range(rounds):
        order = list(states)
        dice.shuffle(order)
        for name in order:
            with states[name].around():
                await states[name].work(warm or max(1, times // 100))
                gc.collect()
                gc.disable()
                began = process_time()
                await states[name].work(times)
                seconds[name].append((process_time() - began) / times)
                gc.enable()
    gc.unfreeze()
    return Rounds(seconds)
