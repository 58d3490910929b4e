"""What Victor moved, renamed or added is told by the metric, by `doctor` and by the radar."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tools.paths import ROOT
from victor_otel.engine.health import Health
from victor_otel.victor import classes, drift, enumerations, ourselves
from victor_otel.victor.classes import VictorClass
from victor_otel.victor.drift import State
from victor_otel.victor.enumerations import Enumeration

OLD, NEW = "victor_known.old", "victor_known.new"
PAUSE = VictorClass("Pause", (OLD, NEW))
MOOD = Enumeration(
    where=VictorClass("Mood", (OLD,)), known=("calm", "cross", "keen"), compared=("keen",)
)


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """One class and one enumeration are known, and no module of theirs is imported."""
    monkeypatch.setattr(classes, "ALL", (PAUSE,))
    monkeypatch.setattr(enumerations, "ALL", (MOOD,))
    drift._lacks.cache_clear()


@pytest.fixture
def victor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Victor:
    return Victor(monkeypatch, tmp_path / "victor_known")


class Victor:
    """A package that stands for Victor's: `has` writes modules, `imports` imports them."""

    def __init__(self, patch: pytest.MonkeyPatch, folder: Path) -> None:
        self._patch = patch
        self._folder = folder
        self.has("__init__")
        package = ModuleType("victor_known")
        package.__file__ = str(folder / "__init__.py")
        package.__path__ = [str(folder)]
        patch.setitem(sys.modules, "victor_known", package)

    def has(self, *modules: str) -> None:
        self._folder.mkdir(exist_ok=True)
        for module in modules:
            (self._folder / f"{module}.py").touch()

    def imports(self, name: str, **members: Any) -> ModuleType:
        module = ModuleType(name)
        vars(module).update(members)
        self._patch.setitem(sys.modules, name, module)
        return module

    def removes_its_files(self) -> None:
        (self._folder / "__init__.py").unlink()


def defined_in(module: str, name: str = "Pause") -> type:
    return type(name, (), {"__module__": module})


def told() -> dict[str, State]:
    return {state.path: state for state in drift.look()}


def moved() -> bool | None:
    """Whether the class is said to have moved; None if nothing is said of it."""
    state = told().get(f"{NEW}:Pause")
    return None if state is None else state.moved


# Classes


def test_nothing_is_said_of_what_is_not_imported(victor: Victor) -> None:
    victor.has("old", "new")
    assert told() == {}


@pytest.mark.parametrize("module", [OLD, NEW])
def test_a_class_is_where_any_supported_version_has_it(victor: Victor, module: str) -> None:
    victor.has("old", "new")
    victor.imports(module, Pause=defined_in(module))
    assert moved() is False


def test_a_module_that_repeats_a_class_tells_where_it_is_defined(victor: Victor) -> None:
    victor.has("old")
    victor.imports(OLD, Pause=defined_in(NEW))
    assert moved() is False
    victor.imports(OLD, Pause=defined_in("victor_known.third"))
    assert moved() is True


def test_a_class_that_is_gone_or_has_another_name_has_moved(victor: Victor) -> None:
    victor.imports(OLD)
    assert moved() is True
    victor.imports(OLD, Pause=defined_in(OLD, "Rest"))
    assert moved() is True


def test_what_may_still_be_in_a_module_that_is_not_imported_has_not_moved(victor: Victor) -> None:
    victor.has("new")
    victor.imports(OLD)
    assert moved() is None


def test_a_class_whose_modules_are_all_gone_has_moved(victor: Victor) -> None:
    assert moved() is True


def test_a_package_that_is_not_made_of_files_tells_nothing(victor: Victor) -> None:
    victor.removes_its_files()
    assert moved() is None


def test_a_module_in_the_middle_of_its_import_tells_nothing(victor: Victor) -> None:
    module = victor.imports(OLD)
    module.__spec__ = ModuleSpec(OLD, None)
    module.__spec__._initializing = True  # type: ignore[attr-defined]
    assert moved() is None


# Enumerations


def mood(*words: str) -> type[Enum]:
    return Enum("Mood", {word.upper(): word for word in words})


def test_members_that_are_known_are_no_news(victor: Victor) -> None:
    victor.imports(OLD, Mood=mood("calm", "keen"), Pause=defined_in(OLD))
    assert told()[f"{OLD}:Mood"] == State(path=f"{OLD}:Mood", moved=False, members=True)
    assert told()[f"{NEW}:Pause"] == State(path=f"{NEW}:Pause", moved=False)


def test_members_are_new_or_lost_whereever_the_enumeration_is_defined(victor: Victor) -> None:
    there = mood("calm", "cross", "tired", "glad")
    there.__module__ = "victor_known.third"
    victor.imports(OLD, Mood=there)
    state = told()[f"{OLD}:Mood"]
    assert (state.moved, state.undeclared, state.lost) == (False, ("tired", "glad"), ("keen",))


def test_what_is_no_enumeration_any_more_has_moved(victor: Victor) -> None:
    victor.imports(OLD, Mood=("calm", "cross"))
    state = told()[f"{OLD}:Mood"]
    assert (state.moved, state.members) == (True, False)


def test_the_metric_counts_members_and_is_absent_where_nothing_is_known(victor: Victor) -> None:
    assert list(ourselves.read_drift(Health())) == [
        (1.0, {"kind": "class", "symbol": f"{NEW}:Pause"}),
        (1.0, {"kind": "class", "symbol": f"{OLD}:Mood"}),
    ]
    victor.has("old", "new")
    drift._lacks.cache_clear()
    assert list(ourselves.read_drift(Health())) == []
    victor.imports(OLD, Mood=mood("calm", "tired", "glad"), Pause=defined_in(OLD))
    assert list(ourselves.read_drift(Health())) == [
        (0.0, {"kind": "class", "symbol": f"{NEW}:Pause"}),
        (0.0, {"kind": "class", "symbol": f"{OLD}:Mood"}),
        (3.0, {"kind": "member", "symbol": f"{OLD}:Mood"}),
    ]


# Hooks


def test_a_hook_whose_module_is_gone_is_missing(victor: Victor) -> None:
    victor.has("old")
    health = Health()
    health.hooks = {f"{NEW}:f": "waiting", f"{OLD}:f": "waiting", "victor_absent.any:f": "waiting"}
    assert ourselves.states(health) == {
        f"{NEW}:f": "missing",
        f"{OLD}:f": "waiting",
        "victor_absent.any:f": "waiting",
    }


# By hand, on the real Victor

_CHANGES = """
import importlib.machinery
from victor.agent.services.chat_service import ChatService
from victor.core.errors import ToolTimeoutError
from victor.framework.ingestion.models import DocumentType

ChatService.stream_talk = ChatService.stream_chat
del ChatService.stream_chat

ToolTimeoutError.__module__ = "victor.core.failures"

added = object.__new__(DocumentType)
added._name_, added._value_ = "POEM", "poem"
DocumentType._member_map_["POEM"] = DocumentType._value2member_map_["poem"] = added
DocumentType._member_names_.append("POEM")

find = importlib.machinery.PathFinder.find_spec
def without(name, *rest):
    return None if name == "victor.agent.durable_resume" else find(name, *rest)
importlib.machinery.PathFinder.find_spec = without
"""

_LOOK = """
import asyncio, json, sys
from tools import radar
from tests.kit.agents import Recorded, sandboxed
from tests.kit.providers import own
from victor_otel.victor.areas import process
import victor_otel
from victor_otel.doctor import examine

with sandboxed():
    exec(sys.argv[1])
    report = examine(thorough=True).as_dict()
    recorded = Recorded()
    victor_otel.start(recorded.provider)
    asyncio.run(own().chat([], model="m"))
    unsteady = {metric.name for metric in process.AREA.metrics}
    points = {
        str(point): value
        for point, value in recorded.points(zeros=True).items()
        if point[0] not in unsteady and "rate" not in point[0].rpartition(".")[2]
    }
said = [[f["check"], f["status"], f["detail"]] for f in report["findings"]]
lines = [str(line) for line in radar.findings(report) if line.moved]
print(json.dumps([said, lines, points]))
"""


def looked(changes: str) -> Any:
    """What is told in a process of its own, after `changes` to Victor."""
    done = subprocess.run(
        [sys.executable, "-c", _LOOK, changes],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_what_was_changed_by_hand_is_told_and_nothing_else_changes() -> None:
    with ThreadPoolExecutor() as pool:
        found = pool.map(looked, ("", _CHANGES))
    (as_is, lines_as_is, points_as_is), (said, lines, points) = found
    targets = [
        "victor.agent.durable_resume:resume_paused_run",
        "victor.agent.services.chat_service:ChatService.stream_chat",
    ]
    error = "victor.core.errors:ToolTimeoutError"
    types = "victor.framework.ingestion.models:DocumentType"

    assert lines_as_is == []
    new = [one for one in said if one not in as_is]
    assert [(check, status) for check, status, _ in new] == [
        ("hooks", "problem"),
        ("classes", "problem"),
        ("classes", "warning"),
    ]
    details = [detail.partition("missing: ")[2] or detail for _, _, detail in new]
    assert details == [
        ", ".join(targets),
        f"not where they were: {error}",
        f"{types} has new members: poem",
    ]
    assert lines == [f"MOVED {check:14}{detail}" for check, _, detail in new]

    def hook(target: str, state: str) -> str:
        return str(("victor.otel.hooks", ("hook", target), ("state", state)))

    def differs(kind: str, symbol: str) -> str:
        return str(("victor.otel.drift", ("kind", kind), ("symbol", symbol)))

    assert points_as_is.keys() == points.keys()
    assert {point: value for point, value in points.items() if value != points_as_is[point]} == {
        **{hook(target, "bound"): 0.0 for target in targets},
        **{hook(target, "missing"): 1.0 for target in targets},
        differs("class", error): 1.0,
        differs("member", types): 1.0,
    }
