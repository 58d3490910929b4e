"""Copies and pickles of wrapped functions are what they would be without us."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.engine.bench import Bench

HERE = __name__


def switch(times: int) -> int:
    return times + 1


class Lamp:
    def __init__(self, colour: str = "red") -> None:
        self.colour = colour

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Lamp) and other.colour == self.colour

    __hash__ = None  # type: ignore[assignment]

    def on(self, times: int = 1) -> str:
        return self.colour * times

    @classmethod
    def kind(cls) -> str:
        return cls.__name__

    @staticmethod
    def volts(country: str) -> int:
        return len(country)


def _renamed() -> Callable[[Any], str]:
    def inner(self: Any) -> str:
        return f"renamed {self.colour}"

    return inner


class Torch(Lamp):
    """Inherits everything; `swing` has another name than its function."""

    swing = _renamed()


class Empty(Lamp):
    """False, as an empty collection is."""

    def __len__(self) -> int:
        return 0


class Unpicklable(Lamp):
    def __reduce__(self) -> Any:
        raise TypeError("not this one")


@pytest.fixture
def patched(bench: Bench) -> Iterator[Bench]:
    for path in ("switch", "Lamp.on", "Lamp.kind", "Lamp.volts", "Torch.swing"):
        bench.patch(f"{HERE}:{path}")
    assert set(bench.health.hooks.values()) == {"bound"}
    yield bench
    bench.patcher.undo()


def pickled(value: Any, protocol: int = pickle.HIGHEST_PROTOCOL) -> Any:
    return pickle.loads(pickle.dumps(value, protocol))


def cloudless(value: Any) -> Any:
    return pickled(value, 2)


COPIES = (copy.copy, copy.deepcopy, pickled, cloudless)
USES: dict[str, Callable[[], tuple[Any, tuple[Any, ...]]]] = {
    "module function": lambda: (switch, (2,)),
    "function of the class": lambda: (Lamp.on, (Lamp("blue"), 2)),
    "bound method": lambda: (Lamp("blue").on, (2,)),
    "bound method of a subclass": lambda: (Torch("blue").on, (2,)),
    "bound method of an empty instance": lambda: (Empty("blue").on, (2,)),
    "classmethod": lambda: (Lamp.kind, ()),
    "classmethod of a subclass": lambda: (Torch.kind, ()),
    "classmethod of an instance": lambda: (Torch().kind, ()),
    "staticmethod": lambda: (Lamp.volts, ("usa",)),
    "staticmethod of an instance": lambda: (Lamp().volts, ("usa",)),
    "staticmethod of an unpicklable instance": lambda: (Unpicklable().volts, ("usa",)),
    "classmethod of an unpicklable instance": lambda: (Unpicklable().kind, ()),
}


@pytest.mark.parametrize("make", COPIES)
@pytest.mark.parametrize("use", USES)
def test_copy_gives_what_it_gives_without_us(
    bench: Bench, make: Callable[[Any], Any], use: str
) -> None:
    function, arguments = USES[use]()
    expected = make(function)(*arguments)
    for path in ("switch", "Lamp.on", "Lamp.kind", "Lamp.volts"):
        bench.patch(f"{HERE}:{path}")
    function, arguments = USES[use]()
    copied = make(function)
    assert copied(*arguments) == expected
    assert len(bench.calls) == 1


def test_method_named_otherwise_is_copied(patched: Bench) -> None:
    torch = Torch("blue")
    assert copy.copy(torch).swing() == "renamed blue"
    assert copy.deepcopy(torch.swing)() == "renamed blue"


def test_deepcopy_of_a_bound_method_copies_its_instance(patched: Bench) -> None:
    lamp = Lamp("blue")
    copied = copy.deepcopy({"lamp": lamp, "on": lamp.on})
    assert copied["on"].__self__ is copied["lamp"]
    assert copied["lamp"] is not lamp
    lamp.colour = "green"
    assert copied["on"]() == "blue"


def test_copy_of_a_bound_method_keeps_its_instance(patched: Bench) -> None:
    lamp = Lamp("blue")
    assert copy.copy(lamp.on).__self__ is lamp


def test_pickled_functions_are_the_same_objects(patched: Bench) -> None:
    assert pickled(switch) is switch
    assert pickled(Lamp.on) == Lamp.on
    assert pickled(Lamp("blue").on).__self__ == Lamp("blue")


@pytest.mark.parametrize("use", ["module function", "function of the class", "bound method"])
def test_pickle_made_with_us_loads_without_us(patched: Bench, use: str) -> None:
    function, arguments = USES[use]()
    expected = function(*arguments)
    data = pickle.dumps(function)
    patched.patcher.undo()
    loaded = pickle.loads(data)
    assert loaded(*arguments) == expected
    assert not type(loaded).__module__.startswith("victor_otel")


def test_bound_method_cached_before_we_left_is_pickled_afterwards(patched: Bench) -> None:
    function, arguments = USES["bound method"]()
    patched.engine.enabled = False
    patched.patcher.undo()
    assert pickled(function)(*arguments) == function(*arguments)


def test_object_that_holds_a_bound_method_is_deepcopied(patched: Bench) -> None:
    class Room:
        def __init__(self) -> None:
            self.lamp = Lamp("blue")
            self.callback = self.lamp.on

    room = copy.deepcopy(Room())
    assert room.callback.__self__ is room.lamp
    assert room.callback(2) == "blueblue"


def test_wrapped_function_looks_like_the_function_itself() -> None:
    bench = Bench()

    class Owner:
        def method(self) -> None: ...

    def shown() -> list[str]:
        return [repr(each).partition(" at ")[0] for each in (Owner.method, Owner().method)]

    plain = shown()
    bench.wrap_method(Owner, "method")
    assert shown() == plain
