"""Every hook against the installed Victor: it resolves, has the kind we wrap, and is put back."""

from __future__ import annotations

import ast
import contextlib
import dis
import importlib
import importlib.util
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from victor_otel import instrumentation
from victor_otel.engine.patching import resolve
from victor_otel.model.rows import Begins, Binds
from victor_otel.runtime import RUNTIME
from victor_otel.victor import catalog, classes, context
from victor_otel.victor.areas import events
from victor_otel.victor.areas.tools import read_call
from victor_otel.victor.catalog import WrappingRow
from victor_otel.victor.classes import VictorClass
from victor_otel.victor.supported import release, victor_version
from victor_otel.victor.verticals import dataanalysis, rag

VERSION = victor_version()


def is_here(row: WrappingRow) -> bool:
    """Whether the extra that a target's module needs is installed, if it needs one."""
    needs = catalog.target_of(row).needs
    return needs is None or importlib.util.find_spec(needs.module) is not None


DECLARED = catalog.targets(VERSION)
TARGETS = sorted(target for target, each in DECLARED.items() if all(map(is_here, each)))


def owner_and_name(target: str) -> tuple[Any, str]:
    module, _, path = target.partition(":")
    return resolve(importlib.import_module(module), path)


def identities(owner: Any) -> dict[str, int]:
    """What stands in a class or module. A wrapper equals what it wraps: only ids tell."""
    return {name: id(value) for name, value in vars(owner).items()}


def rows(target: str) -> Sequence[WrappingRow]:
    return DECLARED[target]


@pytest.mark.parametrize("target", TARGETS)
def test_hook_resolves_and_is_of_the_kind_that_is_wrapped(target: str) -> None:
    owner, name = owner_and_name(target)
    function = inspect.getattr_static(owner, name)
    function = getattr(function, "__func__", function)
    declared = [catalog.target_of(row) for row in rows(target)]
    streams = [each for each in declared if each.stream is not None]
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        assert streams, f"{target} is a generator: declare `stream`"
    elif streams:
        assert all(each.overrides for each in streams) or not inspect.iscoroutinefunction(function)
    if any(each.asgi for each in declared):
        assert not inspect.iscoroutinefunction(function)


@pytest.mark.parametrize("target", TARGETS)
def test_target_stands_in_the_module_that_is_named(target: str) -> None:
    """A module that only repeats it may never be imported: the hook would wait for ever."""
    module, _, path = target.partition(":")
    found = getattr(importlib.import_module(module), path.partition(".")[0])
    assert getattr(found, "__module__", module) == module


@pytest.mark.parametrize("known", classes.ALL, ids=lambda known: known.name)
def test_class_that_is_recognised_by_its_path_has_a_declared_one(known: VictorClass) -> None:
    modules = set[str]()
    for module in known.modules:
        with contextlib.suppress(ModuleNotFoundError):
            modules.add(getattr(importlib.import_module(module), known.name).__module__)
    assert len(modules) == 1
    assert modules <= set(known.modules)


def test_the_user_of_a_request_is_where_we_ask_for_it() -> None:
    from victor.core.context import auth_subject_id

    before = auth_subject_id.set("ann")
    try:
        assert context.authenticated_user() == "ann"
    finally:
        auth_subject_id.reset(before)


def test_the_bridge_into_a_thread_takes_a_coroutine_first() -> None:
    owner, name = owner_and_name(instrumentation.BRIDGE)
    assert next(iter(inspect.signature(getattr(owner, name)).parameters)) == "coro"
    assert RUNTIME.activate().health.hooks[instrumentation.BRIDGE] == "bound"
    RUNTIME.deactivate()


@dataclass(frozen=True)
class Look:
    """What a target looks like from outside."""

    owner: dict[str, int]
    seen_as: dict[str, Any]

    @classmethod
    def at(cls, target: str) -> Look | Exception:
        try:
            return cls._at(target)
        except Exception as error:
            return error

    @classmethod
    def _at(cls, target: str) -> Look:
        owner, name = owner_and_name(target)
        function = getattr(owner, name)
        seen_as = {
            "signature": inspect.signature(function),
            "coroutine": inspect.iscoroutinefunction(function),
            "generator": inspect.isasyncgenfunction(function),
            "method": inspect.ismethod(function),
            "name": function.__qualname__,
            "docstring": function.__doc__,
        }
        return cls(identities(owner), seen_as)


@dataclass(frozen=True)
class Switch:
    """All targets before, during and after; binding the hooks for each alone takes a minute."""

    before: dict[str, Look | Exception]
    bound: dict[str, Look | Exception]
    after: dict[str, Look | Exception]
    states: dict[str, str]

    def of(self, target: str) -> tuple[Look, Look, Look]:
        """One target's; what could not be looked at fails its own test and no other's."""
        looks = (self.before[target], self.bound[target], self.after[target])
        for look in looks:
            if isinstance(look, Exception):
                raise look
        return cast("tuple[Look, Look, Look]", looks)


@pytest.fixture(scope="module")
def switch() -> Switch:
    looks: list[dict[str, Look | Exception]] = []

    def look() -> None:
        looks.append({target: Look.at(target) for target in TARGETS})

    RUNTIME.deactivate()
    for target in TARGETS:
        Look.at(target)  # what is imported changes what imports it
    look()
    states = dict(RUNTIME.activate().health.hooks)
    look()
    RUNTIME.deactivate()
    look()
    return Switch(*looks, states)


@pytest.mark.parametrize("target", TARGETS)
def test_hook_binds_and_uninstrument_leaves_the_dictionary_as_it_was(
    switch: Switch, target: str
) -> None:
    before, bound, after = switch.of(target)
    assert switch.states[target] == "bound"
    assert bound.owner != before.owner
    assert after.owner == before.owner


@pytest.mark.parametrize("target", TARGETS)
def test_wrapped_function_looks_like_the_original(switch: Switch, target: str) -> None:
    before, bound, _ = switch.of(target)
    assert bound.seen_as == before.seen_as


def asked_of(function: Any) -> set[str]:
    """The arguments that a reader, and what it calls of its module, asks for."""
    found = set[str]()
    pending, seen = [function], set[Any]()
    while pending:
        function = inspect.unwrap(pending.pop())
        function = getattr(function, "__func__", function)
        code = getattr(function, "__code__", None)
        if code is None or code in seen or not function.__module__.startswith("victor_otel"):
            continue
        seen.add(code)
        steps = list(dis.get_instructions(code))
        for at, step in enumerate(steps):
            if step.opname.startswith("LOAD_") and step.argval == "argument":
                found.add(next(s.argval for s in steps[at + 1 :] if s.opname == "LOAD_CONST"))
        owner = function.__qualname__.rpartition(".")[0]
        around = {**function.__globals__, **vars(function.__globals__.get(owner, object))}
        around |= inspect.getclosurevars(function).nonlocals
        pending += [around[name] for name in (*code.co_names, *code.co_freevars) if name in around]
    return found


def readers(target: str) -> list[Any]:
    """The functions that are shown an operation which begins in a target."""
    found: list[Any] = []
    for row in rows(target):
        if isinstance(row, Begins):
            found += [row.when, row.at_start, row.read]
            found += [each.observe for _, kind, each in catalog.OBSERVED if kind is row.type]
        elif isinstance(row, Binds):
            found.append(row.owner)
    return [function for function in found if function is not None]


def declared(target: str) -> set[str]:
    return {name for row in rows(target) for name in catalog.target_of(row).arguments}


@pytest.mark.parametrize("target", [target for target in TARGETS if declared(target)])
def test_the_arguments_that_a_target_declares_are_there(target: str) -> None:
    owner, name = owner_and_name(target)
    assert declared(target) <= set(inspect.signature(getattr(owner, name)).parameters)


def test_readers_ask_for_no_argument_that_no_target_of_theirs_declares() -> None:
    """Several functions may begin an operation, each with arguments of its own."""
    given: dict[Any, set[str]] = {}
    for target in DECLARED:
        for reader in readers(target):
            given.setdefault(reader, set()).update(declared(target))
    assert {reader: asked_of(reader) - names for reader, names in given.items()} == {
        reader: set[str]() for reader in given
    }
    assert {reader for reader in given if asked_of(reader)} >= {read_call}


def names_read() -> set[str]:
    """The attributes and keys of Victor's objects that areas and verticals ask for."""
    ours = Path(catalog.__file__).parent
    found = set[str]()
    modules = (*ours.glob("areas/*.py"), *ours.glob("verticals/*.py"))
    for path in (*modules, ours / "context.py", ours / "identity.py", ours / "shared.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(
                    func=ast.Name("getattr" | "attribute"), args=[_, ast.Constant(str(name)), *_]
                ):
                    found.add(name)
                case ast.Call(func=ast.Attribute(attr="get"), args=[ast.Constant(str(name)), *_]):
                    found.add(name)
                case ast.Subscript(slice=ast.Constant(str(name))):
                    found.add(name)
                case ast.Attribute(attr=name) if _OF_VICTOR.match(ast.unparse(node.value)):
                    found.add(name)
                case _:
                    pass
    return found


_OF_VICTOR = re.compile(r"\w+\.(result|instance|error|argument\()")
_NOT_VICTORS = {"iowait", "sched_getaffinity", "victor.core.context"}
"""Names that psutil, Python and `sys.modules` are asked for."""
_LATER = {"execution_outcome": (0, 10)}
"""What older versions do not have."""


def test_every_attribute_and_key_that_is_read_occurs_in_victors_source() -> None:
    packages = {target.partition(".")[0] for target in catalog.targets(None)}
    words = set[str]()
    for name in packages:
        if (spec := importlib.util.find_spec(name)) is not None:
            for folder in spec.submodule_search_locations or ():
                for path in Path(folder).rglob("*.py"):
                    words.update(re.findall(r"\w+", path.read_text(encoding="utf-8")))
    version = release(VERSION or "")
    later = {name for name, since in _LATER.items() if version < since}
    asked = names_read()
    assert {"agentic_loop_success", "_vertical_context", "outcome_kind"} <= asked
    assert asked - _NOT_VICTORS - words == later


def test_every_metric_is_fed_by_a_row_a_reading_or_the_application() -> None:
    fed = {rag.SEARCH_ACCURACY, dataanalysis.VISUALIZATIONS, events.BUS_EVENTS}
    fed |= catalog.fed_by(catalog.WRAPPED)
    fed |= {reading.metric for area in catalog.AREAS for reading in area.readings}
    fed |= set(catalog.IN_FLIGHT.values())
    assert set(catalog.METRICS) == fed


def test_names_are_unique_and_buckets_are_floats_in_order() -> None:
    names = [metric.prometheus_name for metric in catalog.METRICS]
    assert len(names) == len(set(names))
    for metric in catalog.METRICS:
        assert list(metric.buckets) == sorted(set(metric.buckets))
        assert all(isinstance(bound, float) for bound in metric.buckets)


def test_uninstrument_leaves_every_provider_and_tool_class_as_it_was() -> None:
    from victor.core.errors import ProviderNotFoundError
    from victor.providers.base import BaseProvider
    from victor.providers.registry import ProviderRegistry
    from victor.tools.base import BaseTool

    for name in ProviderRegistry.list_providers():
        with contextlib.suppress(ImportError, ProviderNotFoundError):  # not on this machine
            ProviderRegistry.get(name)
    classes = {cls for base in (BaseProvider, BaseTool) for sub in below(base) for cls in sub.mro()}
    before = {cls: identities(cls) for cls in classes}
    RUNTIME.activate()
    assert sum(identities(cls) != before[cls] for cls in classes) > 20
    RUNTIME.deactivate()
    assert {cls: identities(cls) for cls in classes} == before


def below(base: type) -> Iterator[type]:
    yield base
    for cls in base.__subclasses__():
        yield from below(cls)


_BROKEN_TARGET = """
import json, sys
import victor.agent.services.chat_service as module
del module.ChatService.stream_chat
from typer.testing import CliRunner
from victor_otel.cli import app
answer = CliRunner().invoke(app, ["doctor", "--json", "--verbose"])
report = json.loads(answer.stdout)
missing = [hook for hook, state in report["hooks"].items() if state == "missing"]

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
import victor_otel
reader = InMemoryMetricReader()
victor_otel.start(MeterProvider([reader], shutdown_on_exit=False))
counted = [
    point.attributes["hook"]
    for scope in reader.get_metrics_data().resource_metrics[0].scope_metrics
    for metric in scope.metrics if metric.name == "victor.otel.hooks"
    for point in metric.data.data_points
    if point.attributes["state"] == "missing" and point.value == 1
]
print(json.dumps([answer.exit_code, report["healthy"], missing, counted]))
"""


def test_a_target_broken_by_hand_is_said_by_doctor_and_nothing_else_changes() -> None:
    answer = subprocess.run(
        [sys.executable, "-c", _BROKEN_TARGET], capture_output=True, text=True, check=True
    )
    assert json.loads(answer.stdout.splitlines()[-1]) == [
        1,
        False,
        ["victor.agent.services.chat_service:ChatService.stream_chat"],
        ["victor.agent.services.chat_service:ChatService.stream_chat"],
    ]


_WITHOUT_EXTRAS = """
import json, sys
from victor_otel.victor import catalog
targets = map(catalog.target_of, catalog.WRAPPED)
needed = {target.path: target.needs for target in targets if target.needs}
for extra in needed.values():
    sys.modules[extra.module] = None
from victor_otel.doctor import examine
report = examine()
states = {report.hooks[target] for target in needed}
said = [f.detail for f in report.findings if f.check == "extras"]
print(json.dumps([sorted(needed), sorted(states), report.healthy, said]))
"""


def test_what_needs_an_extra_of_victors_waits_without_it_and_doctor_says_so() -> None:
    answer = subprocess.run(
        [sys.executable, "-c", _WITHOUT_EXTRAS], capture_output=True, text=True, check=True
    )
    targets, states, healthy, said = json.loads(answer.stdout.splitlines()[-1])
    assert targets
    assert (states, healthy) == (["waiting"], True)
    assert said == [
        f"{len(targets)} waiting: {', '.join(targets)} (needs the extra victor-ai[tui])"
    ]
