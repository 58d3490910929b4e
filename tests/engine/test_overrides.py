"""A hook of an abstract method wraps whatever implements it, whenever it is defined."""

from __future__ import annotations

import abc
import gc
import sys
import weakref
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from tests.engine.bench import Bench, identities
from victor_otel.model.operation import OperationType

CALLS = OperationType("calls")


@pytest.fixture
def base() -> Iterator[Any]:
    """The abstract base class of providers, in a module of its own."""

    class Base(abc.ABC):
        @abc.abstractmethod
        def chat(self) -> str: ...

        @abc.abstractmethod
        def stream(self) -> str: ...

    Base.stream.__isabstractmethod__ = False  # type: ignore[attr-defined]
    Base.__abstractmethods__ = frozenset({"chat"})
    module = ModuleType("victor_fake_base")
    module.Base = Base  # type: ignore[attr-defined]
    sys.modules["victor_fake_base"] = module
    yield Base
    del sys.modules["victor_fake_base"]


def patch(bench: Bench, *names: str) -> None:
    for name in names or ("chat",):
        target = f"victor_fake_base:Base.{name}"
        bench.patch(target, bench.hook(target=target, type=CALLS), overrides=True)
    assert set(bench.health.hooks.values()) == {"bound"}


def test_existing_subclasses_are_wrapped(bench: Bench, base: Any) -> None:
    class One(base):
        def chat(self) -> str:
            return "one"

    class Two(One):
        def chat(self) -> str:
            return "two"

    patch(bench)
    assert (One().chat(), Two().chat()) == ("one", "two")
    assert len(bench.calls) == 2


def test_classes_defined_later_are_wrapped(bench: Bench, base: Any) -> None:
    patch(bench)

    class One(base):
        def chat(self) -> str:
            return "one"

    class Two(One):
        def chat(self) -> str:
            return "two"

    assert (One().chat(), Two().chat()) == ("one", "two")
    assert len(bench.calls) == 2


@pytest.mark.parametrize("later", [False, True])
def test_mixin_that_is_no_subclass_is_wrapped(bench: Bench, base: Any, *, later: bool) -> None:
    class Mixin:
        def chat(self) -> str:
            return "mixin"

    if later:
        patch(bench)

    class Provider(Mixin, base):
        pass

    if not later:
        patch(bench)
    assert Provider().chat() == "mixin"
    assert len(bench.calls) == 1


def test_mixin_shared_by_two_classes_is_wrapped_once(bench: Bench, base: Any) -> None:
    class Mixin:
        def chat(self) -> str:
            return "mixin"

    patch(bench)
    one, two = (type(name, (Mixin, base), {}) for name in ("One", "Two"))
    assert (one().chat(), two().chat()) == ("mixin", "mixin")
    assert len(bench.calls) == 2
    assert type(vars(Mixin)["chat"].__wrapped__).__name__ == "function"


def test_super_along_a_diamond_counts_once(bench: Bench, base: Any) -> None:
    patch(bench)

    class Root(base):
        def chat(self) -> str:
            return "root"

    class Left(Root):
        def chat(self) -> str:
            return "left " + super().chat()

    class Right(Root):
        def chat(self) -> str:
            return "right " + super().chat()

    class Bottom(Left, Right):
        def chat(self) -> str:
            return "bottom " + super().chat()

    assert Bottom().chat() == "bottom left right root"
    assert len(bench.calls) == 1


def test_override_that_calls_another_hooked_one_counts_once(bench: Bench, base: Any) -> None:
    patch(bench, "chat", "stream")

    class Provider(base):
        def stream(self) -> str:
            return "streamed"

        def chat(self) -> str:
            return self.stream()

    assert Provider().chat() == "streamed"
    assert len(bench.calls) == 1


def test_class_that_inherits_everything_counts_once(bench: Bench, base: Any) -> None:
    patch(bench)

    class One(base):
        def chat(self) -> str:
            return "one"

    class Two(One):
        pass

    assert Two().chat() == "one"
    assert "chat" not in vars(Two)
    assert len(bench.calls) == 1


def test_abstract_class_in_between_stays_abstract(bench: Bench, base: Any) -> None:
    patch(bench)

    class Between(base):
        @abc.abstractmethod
        def chat(self) -> str: ...

    class Concrete(Between):
        def chat(self) -> str:
            return "concrete"

    assert type(vars(Between)["chat"]).__name__ == "function"
    with pytest.raises(TypeError, match="abstract"):
        Between()
    assert Concrete().chat() == "concrete"
    assert len(bench.calls) == 1


def test_own_init_subclass_gets_its_keyword_arguments(bench: Bench, base: Any) -> None:
    seen: list[str] = []
    patch(bench)

    class Registering(base):
        def __init_subclass__(cls, *, name: str, **kwargs: Any) -> None:
            super().__init_subclass__(**kwargs)
            seen.append(name)

    class Provider(Registering, name="mine"):
        def chat(self) -> str:
            return "registered"

    assert seen == ["mine"]
    assert Provider().chat() == "registered"
    assert len(bench.calls) == 1


def test_init_subclass_of_the_base_gets_its_keyword_arguments(bench: Bench, base: Any) -> None:
    seen: list[tuple[str, str]] = []
    own = classmethod(lambda cls, *, name: seen.append((cls.__name__, name)))
    base.__init_subclass__ = own
    patch(bench, "chat", "stream")

    class Provider(base, name="mine"):
        def chat(self) -> str:
            return "registered"

    assert seen == [("Provider", "mine")]
    assert Provider().chat() == "registered"
    bench.patcher.undo()
    assert vars(base)["__init_subclass__"] is own


def test_unknown_class_argument_is_refused_as_before(bench: Bench, base: Any) -> None:
    patch(bench)
    with pytest.raises(TypeError, match="keyword"):
        type("Provider", (base,), {}, unknown=1)


def test_mixin_with_its_own_init_subclass_is_asked_too(bench: Bench, base: Any) -> None:
    seen: list[str] = []

    class Mixin:
        def __init_subclass__(cls, **kwargs: Any) -> None:
            seen.append(cls.__name__)
            super().__init_subclass__(**kwargs)

    patch(bench)
    type("Before", (Mixin, base), {"chat": lambda self: "before"})
    type("After", (base, Mixin), {"chat": lambda self: "after"})
    assert seen == ["Before", "After"]


def test_undo_leaves_every_class_as_it_was(bench: Bench, base: Any) -> None:
    class One(base):
        def chat(self) -> str:
            return "one"

    before = [identities(cls) for cls in (base, One)]
    patch(bench, "chat", "stream")

    class Two(One):
        def chat(self) -> str:
            return "two"

    bench.patcher.undo()
    assert [identities(cls) for cls in (base, One)] == before
    assert type(vars(Two)["chat"]).__name__ == "function"


def test_class_defined_after_the_undo_is_not_wrapped(bench: Bench, base: Any) -> None:
    patch(bench)
    foreign = vars(base)["__init_subclass__"]
    bench.patcher.undo()
    base.__init_subclass__ = foreign  # kept by another tool

    class Provider(base):
        def chat(self) -> str:
            return "later"

    assert type(vars(Provider)["chat"]).__name__ == "function"


def test_second_patch_after_an_undo_wraps_once(bench: Bench, base: Any) -> None:
    patch(bench)
    provider = type("Provider", (base,), {"chat": lambda self: "x"})
    bench.patcher.undo()
    second = Bench()
    patch(second)
    assert provider().chat() == "x"
    assert (len(bench.calls), len(second.calls)) == (0, 1)
    second.patcher.undo()


@pytest.mark.parametrize("calls_super", [False, True])
def test_dynamic_subclass_is_not_kept_alive(bench: Bench, base: Any, *, calls_super: bool) -> None:
    patch(bench)

    class Plain(base):
        def chat(self) -> str:
            return "plain"

    class WithSuper(base):
        def chat(self) -> str:
            return str(super().__str__())

    reference = weakref.ref(WithSuper if calls_super else Plain)
    del Plain, WithSuper
    gc.collect()
    assert reference() is None
    bench.patcher.undo()


def test_error_of_ours_breaks_no_class_definition(bench: Bench, base: Any, lenient: None) -> None:
    bench.patcher.patch("victor_fake_base:Base.chat", lambda original, owner: 1 / 0, overrides=True)

    class Provider(base):
        def chat(self) -> str:
            return "defined"

    assert Provider().chat() == "defined"
    assert sum(bench.health.errors.values()) == 1
