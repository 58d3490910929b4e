"""Functions are wrapped in every order of import, patch and undo, and put back exactly."""

from __future__ import annotations

import functools
import gc
import importlib
import importlib.util
import itertools
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import pytest
import wrapt

from tests.engine.bench import Bench, identities
from victor_otel.engine import imports

SOURCE = """
class Base:
    def inherited(self):
        return "inherited"

class Lamp(Base):
    def on(self):
        return "on"

    @classmethod
    def kind(cls):
        return cls.__name__

    @staticmethod
    def volts():
        return 230

def switch():
    return Lamp().on()
"""

USES: dict[str, Callable[[ModuleType], Any]] = {
    "Lamp.on": lambda module: module.Lamp().on(),
    "Lamp.inherited": lambda module: module.Lamp().inherited(),
    "Lamp.kind": lambda module: module.Lamp.kind(),
    "Lamp.volts": lambda module: module.Lamp.volts(),
    "switch": lambda module: module.switch(),
}
RESULTS = {
    "Lamp.on": "on",
    "Lamp.inherited": "inherited",
    "Lamp.kind": "Lamp",
    "Lamp.volts": 230,
    "switch": "on",
}

_numbers = itertools.count()

Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes a module under a name of its own."""
    monkeypatch.syspath_prepend(tmp_path)
    names: list[str] = []

    def write(source: str = SOURCE) -> str:
        names.append(f"victor_fake_{next(_numbers)}")
        (tmp_path / f"{names[-1]}.py").write_text(source)
        importlib.invalidate_caches()
        return names[-1]

    yield write
    for name in names:
        sys.modules.pop(name, None)


def dictionaries(module: ModuleType) -> list[list[tuple[str, int]]]:
    """What stands where, by identity: a wrapper equals what it wraps."""
    return [identities(owner) for owner in (module, module.Base, module.Lamp)]


def state(bench: Bench) -> set[str]:
    return set(bench.health.hooks.values())


# Orders


@pytest.mark.parametrize("path", USES)
def test_module_imported_before(bench: Bench, write: Write, path: str) -> None:
    module = importlib.import_module(write(SOURCE))
    bench.patch(f"{module.__name__}:{path}")
    assert state(bench) == {"bound"}
    assert USES[path](module) == RESULTS[path]
    assert len(bench.calls) == 1


@pytest.mark.parametrize("path", USES)
def test_module_imported_after(bench: Bench, write: Write, path: str) -> None:
    name = write(SOURCE)
    bench.patch(f"{name}:{path}")
    assert state(bench) == {"waiting"}
    assert name not in sys.modules
    module = importlib.import_module(name)
    assert state(bench) == {"bound"}
    assert USES[path](module) == RESULTS[path]
    assert len(bench.calls) == 1


def test_module_never_imported_keeps_waiting(bench: Bench) -> None:
    bench.patch("victor_never_imported:Lamp.on")
    assert state(bench) == {"waiting"}
    bench.patcher.retry()
    bench.patcher.undo()
    assert state(bench) == {"waiting"}


HALF_IMPORTED = "import {meeting}\n{meeting}.at_half_way()\n" + SOURCE


@pytest.fixture
def half_way(write: Write) -> Iterator[list[Callable[[], None]]]:
    """What is done while a module that was written with `HALF_IMPORTED` is being imported."""
    todo: list[Callable[[], None]] = []
    meeting = ModuleType("victor_meeting")
    meeting.at_half_way = lambda: [do() for do in todo]  # type: ignore[attr-defined]
    sys.modules["victor_meeting"] = meeting
    yield todo
    del sys.modules["victor_meeting"]


def test_module_half_imported_is_wrapped_when_it_is_complete(
    bench: Bench, write: Write, half_way: list[Callable[[], None]]
) -> None:
    name = write(HALF_IMPORTED.format(meeting="victor_meeting"))
    half_way.append(lambda: bench.patch(f"{name}:Lamp.on"))
    module = importlib.import_module(name)
    assert state(bench) == {"waiting"}
    bench.patcher.retry()
    assert state(bench) == {"bound"}
    assert module.Lamp().on() == "on"
    assert len(bench.calls) == 1


def test_retry_while_a_module_is_still_half_imported_keeps_waiting(
    bench: Bench, write: Write, half_way: list[Callable[[], None]]
) -> None:
    name = write(HALF_IMPORTED.format(meeting="victor_meeting"))
    half_way += [lambda: bench.patch(f"{name}:Lamp.on"), bench.patcher.retry]
    importlib.import_module(name)
    assert state(bench) == {"waiting"}
    bench.patcher.retry()
    assert state(bench) == {"bound"}


def test_module_half_imported_by_another_thread_is_wrapped(
    bench: Bench, write: Write, half_way: list[Callable[[], None]]
) -> None:
    name = write(HALF_IMPORTED.format(meeting="victor_meeting"))
    entered, go_on = threading.Event(), threading.Event()
    half_way += [entered.set, go_on.wait]  # type: ignore[list-item]
    thread = threading.Thread(target=importlib.import_module, args=(name,))
    thread.start()
    entered.wait()
    bench.patch(f"{name}:Lamp.on")
    go_on.set()
    thread.join()
    bench.patcher.retry()
    assert state(bench) == {"bound"}


def test_module_whose_import_fails_keeps_waiting(bench: Bench, write: Write) -> None:
    name = write("raise ValueError('broken')")
    bench.patch(f"{name}:Lamp.on")
    with pytest.raises(ValueError, match="broken"):
        importlib.import_module(name)
    assert state(bench) == {"waiting"}


def test_undo_before_the_import_wraps_nothing(bench: Bench, write: Write) -> None:
    name = write(SOURCE)
    bench.patch(f"{name}:Lamp.on")
    bench.patcher.undo()
    module = importlib.import_module(name)
    assert type(vars(module.Lamp)["on"]).__name__ == "function"


def test_undo_twice_is_harmless(bench: Bench, write: Write) -> None:
    module = importlib.import_module(write(SOURCE))
    before = dictionaries(module)
    bench.patch(f"{module.__name__}:Lamp.on")
    bench.patcher.undo()
    bench.patcher.undo()
    assert dictionaries(module) == before


@pytest.mark.parametrize("imported", ["before", "between", "after"])
def test_second_patch_after_an_undo_counts_once(bench: Bench, write: Write, imported: str) -> None:
    name, second = write(SOURCE), Bench()
    if imported == "before":
        importlib.import_module(name)
    bench.patch(f"{name}:Lamp.on")
    bench.patcher.undo()
    if imported == "between":
        importlib.import_module(name)
    second.patch(f"{name}:Lamp.on")
    module = importlib.import_module(name)
    assert module.Lamp().on() == "on"
    assert (len(bench.calls), len(second.calls)) == (0, 1)
    second.patcher.undo()
    assert type(vars(module.Lamp)["on"]).__name__ == "function"


# Undo


@pytest.mark.parametrize("path", USES)
def test_undo_leaves_every_dictionary_as_it_was(bench: Bench, write: Write, path: str) -> None:
    module = importlib.import_module(write(SOURCE))
    before = dictionaries(module)
    bench.patch(f"{module.__name__}:{path}")
    assert dictionaries(module) != before
    bench.patcher.undo()
    assert dictionaries(module) == before
    assert USES[path](module) == RESULTS[path]
    assert bench.calls == []


def test_undo_of_an_inherited_function_leaves_no_copy(bench: Bench, write: Write) -> None:
    module = importlib.import_module(write(SOURCE))
    bench.patch(f"{module.__name__}:Lamp.inherited")
    bench.patch(f"{module.__name__}:Base.inherited")
    bench.patcher.undo()
    assert "inherited" not in vars(module.Lamp)
    assert type(vars(module.Base)["inherited"]).__name__ == "function"


def test_foreign_wrapper_over_ours_stays_and_ours_is_inert(bench: Bench, write: Write) -> None:
    module = importlib.import_module(write(SOURCE))
    bench.patch(f"{module.__name__}:Lamp.on")
    ours = vars(module.Lamp)["on"]

    @functools.wraps(ours)
    def foreign(self: Any) -> str:
        return "foreign " + str(ours.__get__(self, type(self))())

    module.Lamp.on = foreign
    bench.engine.enabled = False
    bench.patcher.undo()
    assert vars(module.Lamp)["on"] is foreign
    assert module.Lamp().on() == "foreign on"
    assert bench.calls == []


def test_wrapper_over_a_foreign_wrapper_gives_it_back(bench: Bench, write: Write) -> None:
    module = importlib.import_module(write(SOURCE))
    original = vars(module.Lamp)["on"]

    @functools.wraps(original)
    def foreign(self: Any) -> str:
        return "foreign " + str(original(self))

    module.Lamp.on = foreign
    bench.patch(f"{module.__name__}:Lamp.on")
    assert module.Lamp().on() == "foreign on"
    assert len(bench.calls) == 1
    bench.patcher.undo()
    assert vars(module.Lamp)["on"] is foreign


@pytest.mark.parametrize("path", ["Lamp.on", "Lamp.inherited"])
def test_undo_after_another_tool_removed_our_wrapper(bench: Bench, write: Write, path: str) -> None:
    module = importlib.import_module(write(SOURCE))
    bench.patch(f"{module.__name__}:switch")
    bench.patch(f"{module.__name__}:{path}")
    delattr(module.Lamp, path.partition(".")[2])
    gc.collect()
    bench.patcher.undo()
    assert path.partition(".")[2] not in vars(module.Lamp)
    assert type(vars(module)["switch"]) is FunctionType


# What is missing


@pytest.mark.parametrize("path", ["Missing.on", "Lamp.missing", "missing", "Lamp.on.deeper.still"])
@pytest.mark.parametrize("order", ["before", "after"])
def test_missing_target_says_so_once_and_raises_nothing(
    bench: Bench, write: Write, caplog: pytest.LogCaptureFixture, path: str, order: str
) -> None:
    name = write(SOURCE)
    if order == "before":
        importlib.import_module(name)
    with caplog.at_level(logging.WARNING, "victor_otel"):
        bench.patch(f"{name}:{path}")
        importlib.import_module(name)
    assert state(bench) == {"missing"}
    (record,) = caplog.records
    assert f"{name}:{path}" in record.getMessage()
    assert bench.health.errors == {}
    bench.patcher.undo()


def test_missing_target_leaves_the_others(
    bench: Bench, write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    module = importlib.import_module(write(SOURCE))
    bench.patch(f"{module.__name__}:Lamp.missing")
    bench.patch(f"{module.__name__}:Lamp.on")
    assert module.Lamp().on() == "on"
    assert sorted(bench.health.hooks.values()) == ["bound", "missing"]


def test_error_of_ours_while_wrapping_is_swallowed(
    bench: Bench, write: Write, lenient: None, caplog: pytest.LogCaptureFixture
) -> None:
    module = importlib.import_module(write(SOURCE))
    bench.patcher.patch(f"{module.__name__}:Lamp.on", lambda original, owner: 1 / 0)
    assert state(bench) == {"missing"}
    assert bench.health.errors == {f"{module.__name__}:Lamp.on": 1}
    assert module.Lamp().on() == "on"


def test_lazy_attributes_of_a_module_are_not_loaded(bench: Bench, write: Write) -> None:
    lazy = "def __getattr__(name):\n    raise RuntimeError(f'{name} was loaded')\n"
    module = importlib.import_module(write(SOURCE + lazy))
    bench.patch(f"{module.__name__}:switch")
    assert state(bench) == {"bound"}
    bench.patcher.undo()


# The import system


@pytest.mark.parametrize("path", USES)
def test_reloaded_module_is_wrapped_again_once(bench: Bench, write: Write, path: str) -> None:
    name = write(SOURCE)
    bench.patch(f"{name}:{path}")
    module = importlib.import_module(name)
    for times in (1, 2, 3):
        USES[path](module)
        assert len(bench.calls) == times
        importlib.reload(module)


def test_what_a_reload_keeps_is_not_wrapped_twice(bench: Bench, write: Write) -> None:
    name = write('if "switch" not in globals():\n    def switch():\n        return "on"\n')
    bench.patch(f"{name}:switch")
    module = importlib.reload(importlib.import_module(name))
    assert module.switch() == "on"
    assert len(bench.calls) == 1
    bench.patcher.undo()
    assert type(module.switch).__name__ == "function"


def test_import_that_failed_is_wrapped_when_it_succeeds(bench: Bench, write: Write) -> None:
    name = write("import sys\nif not hasattr(sys, 'victor_works'):\n    raise OSError\n" + SOURCE)
    bench.patch(f"{name}:switch")
    with pytest.raises(OSError):
        importlib.import_module(name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "victor_works", True, raising=False)
        importlib.import_module(name).switch()
    assert len(bench.calls) == 1


def test_module_keeps_its_own_loader(bench: Bench, write: Write) -> None:
    name = write(SOURCE)
    bench.patch(f"{name}:switch")
    module = importlib.import_module(name)
    assert module.__spec__ is not None
    assert type(module.__spec__.loader) is type(module.__loader__)
    assert type(module.__loader__).__name__ == "SourceFileLoader"


def test_a_loader_is_what_it_was_also_before_the_module_runs(bench: Bench, write: Write) -> None:
    name = write(SOURCE)
    bench.patch(f"{name}:switch")
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert isinstance(spec.loader, importlib.machinery.SourceFileLoader)
    assert spec.loader.get_source(name) == SOURCE
    assert spec.loader.path == spec.origin


def test_nothing_is_left_in_the_import_system(bench: Bench) -> None:
    before = list(sys.meta_path), dict(imports._wanted)
    bench.patch("victor_never_imported:Lamp.on")
    assert len(sys.meta_path) == len(before[0]) + (not before[1])
    bench.patcher.undo()
    assert (sys.meta_path, imports._wanted) == before


class Asking:
    """A finder that asks all others, as wrapt's and some tools' do."""

    def __init__(self) -> None:
        self.asked = 0

    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        if self.asked or not name.startswith("victor_fake_"):
            return None
        self.asked += 1
        return importlib.util.find_spec(name)


@pytest.mark.parametrize("position", [0, 1])
def test_other_finders_that_ask_ours_as_well_see_the_module_once(
    bench: Bench, write: Write, position: int
) -> None:
    name = write(SOURCE)
    bench.patch(f"{name}:switch")
    asking = Asking()
    # Not in a copy of the list: ours is taken out of the one that it was put into.
    sys.meta_path.insert(position, asking)
    try:
        importlib.import_module(name).switch()
    finally:
        sys.meta_path.remove(asking)
    assert (asking.asked, len(bench.calls)) == (1, 1)


def test_hooks_of_wrapt_on_the_same_module_run_as_well(bench: Bench, write: Write) -> None:
    name, seen = write(SOURCE), list[ModuleType]()
    see: Callable[[ModuleType], None] = seen.append
    wrapt.register_post_import_hook(see, name)
    bench.patch(f"{name}:switch")
    module = importlib.import_module(name)
    module.switch()
    assert (seen, len(bench.calls)) == ([module], 1)
