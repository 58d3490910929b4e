"""Which functions are one logical call, which are calls of their own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.engine.bench import Bench
from victor_otel.engine.nesting import CURRENT
from victor_otel.model.operation import OperationType

TOOLS = OperationType("tools")
TURNS = OperationType("turns")
REQUESTS = OperationType("requests", outermost=True)
LEVELS = {"pipeline": 3, "executor": 2, "tool": 1}


class Layer:
    """Runs what it is given: a function of a pipeline, an executor or a tool."""

    def pipeline(self, *inner: Any) -> None:
        self.run(inner)

    def executor(self, *inner: Any) -> None:
        self.run(inner)

    def tool(self, *inner: Any) -> None:
        self.run(inner)

    def run(self, inner: Any) -> None:
        for function, *arguments in inner:
            function(*arguments)

    async def chat(self, inner: Any = None) -> None:
        await asyncio.sleep(0)
        if inner is not None:
            await inner


@pytest.fixture
def layer(bench: Bench) -> type[Layer]:
    """A class whose functions have a level each; `chat` has the same one as `stream`."""
    cls = type("Layer", (Layer,), dict(vars(Layer)))
    for name, level in LEVELS.items():
        bench.wrap_method(cls, name, bench.hook(target=f"tests:{name}", type=TOOLS, level=level))
    bench.wrap_method(cls, "chat", bench.hook(type=TURNS))
    return cls


@pytest.mark.parametrize(
    ("chain", "calls"),
    [
        ("pipeline executor tool", 1),
        ("pipeline tool", 1),
        ("executor tool", 1),
        ("tool", 1),
        ("tool tool", 2),
        ("tool executor", 2),
        ("tool pipeline", 2),
        ("executor executor", 2),
        ("executor pipeline", 2),
        ("pipeline executor tool tool", 2),
        ("pipeline executor tool pipeline executor tool", 2),
        ("pipeline executor tool executor tool executor tool", 3),
    ],
)
def test_lower_level_is_the_same_call_and_others_their_own(
    bench: Bench, layer: type[Layer], chain: str, calls: int
) -> None:
    nested: tuple[Any, ...] = ()
    for name in reversed(chain.split()):
        nested = (getattr(layer(), name), nested) if nested else (getattr(layer(), name),)
    nested[0](*nested[1:])
    assert len(bench.calls) == calls
    assert bench.in_flight() == {"sdk": 0}


def test_call_counts_where_it_began(bench: Bench, layer: type[Layer]) -> None:
    outer, inner = layer(), layer()
    outer.pipeline((inner.executor, (inner.tool,)))
    assert [call.instance for call in bench.calls] == [outer]


def test_same_instance_at_the_same_level_is_the_same_call(bench: Bench, layer: type[Layer]) -> None:
    one = layer()
    one.executor((one.executor, (one.executor,)))
    assert len(bench.calls) == 1


def test_same_instance_entered_again_below_a_tool_is_a_call_of_its_own(
    bench: Bench, layer: type[Layer]
) -> None:
    one = layer()
    one.executor((one.tool, (one.executor, (one.tool,))))
    assert len(bench.calls) == 2


def test_functions_without_an_instance_are_calls_of_their_own(bench: Bench) -> None:
    def recurse(times: int) -> None:
        if times:
            wrapped(times - 1)

    wrapped = bench.wrap(recurse, bench.hook(type=TURNS))
    wrapped(2)
    assert len(bench.calls) == 3


def test_calls_one_after_the_other_are_two(bench: Bench, layer: type[Layer]) -> None:
    one = layer()
    one.pipeline((one.tool,), (one.tool,))
    one.pipeline((one.tool,))
    assert len(bench.calls) == 2


def test_super_counts_once(bench: Bench) -> None:
    class Base:
        def chat(self) -> str:
            return "base"

    class Derived(Base):
        def chat(self) -> str:
            return "derived " + super().chat()

    hook = bench.hook(type=TURNS)
    for cls in (Base, Derived):
        bench.wrap_method(cls, "chat", hook)
    assert Derived().chat() == "derived base"
    assert len(bench.calls) == 1


def test_outermost_scope_counts_only_the_outermost(bench: Bench) -> None:
    def answer(*inner: Any) -> None:
        for function in inner:
            function()

    wrapped = bench.wrap(answer, bench.hook(type=REQUESTS))
    wrapped(wrapped, wrapped, wrapped)
    assert len(bench.calls) == 1


def test_what_an_outermost_operation_contains_leaves_no_trace_on_it(bench: Bench) -> None:
    """It may last for hours and contain thousands."""
    wrapped = bench.wrap(lambda *inner: [f() for f in inner], bench.hook(type=REQUESTS))
    wrapped(*[wrapped] * 100)
    (call,) = bench.calls
    assert call.entered(1) == [call]


def test_scopes_do_not_see_each_other(bench: Bench) -> None:
    turn = bench.wrap(lambda *inner: [f() for f in inner], bench.hook(type=TURNS))
    request = bench.wrap(lambda *inner: [f() for f in inner], bench.hook(type=REQUESTS))
    request(turn, turn)
    assert [call.facts for call in bench.calls] == [{"requests"}, {"requests"}, set()]


def test_two_hooks_of_one_function_are_two_calls(bench: Bench) -> None:
    bench.wrap(lambda: None, bench.hook(type=TURNS), bench.hook(type=REQUESTS))()
    assert [call.facts for call in bench.calls] == [{"turns"}, set()]


def test_hook_without_a_scope_counts_each_entry(bench: Bench) -> None:
    def recurse(times: int) -> None:
        if times:
            wrapped(times - 1)

    wrapped = bench.wrap(recurse)
    wrapped(2)
    assert len(bench.calls) == 3


async def test_concurrent_calls_on_a_shared_instance_are_all_counted(
    bench: Bench, layer: type[Layer]
) -> None:
    shared = layer()
    await asyncio.gather(*(shared.chat() for _ in range(20)))
    assert len(bench.calls) == 20


async def test_concurrent_calls_inside_another_scope_are_all_counted(
    bench: Bench, layer: type[Layer]
) -> None:
    shared = layer()

    async def request() -> None:
        await asyncio.gather(*(shared.chat(shared.chat()) for _ in range(20)))

    await bench.wrap(request, bench.hook(type=REQUESTS))()
    assert len(bench.calls) == 21
    assert [call.facts for call in bench.calls] == [{"requests"}] * 20 + [set()]


async def test_background_task_inside_a_running_call_is_nested(
    bench: Bench, layer: type[Layer]
) -> None:
    one = layer()
    await one.chat(asyncio.create_task(layer().chat()))
    assert len(bench.calls) == 2  # created outside of the call
    bench.calls.clear()

    async def parent() -> None:
        await asyncio.create_task(one.chat())

    await bench.wrap(parent, bench.hook(type=REQUESTS))()
    assert [call.facts for call in bench.calls] == [{"requests"}, set()]


async def test_background_task_that_outlives_its_call_counts_by_itself(
    bench: Bench, layer: type[Layer]
) -> None:
    one, over = layer(), asyncio.Event()
    tasks: list[asyncio.Task[None]] = []

    async def linger() -> None:
        await over.wait()
        await one.chat()

    async def start() -> None:
        tasks.append(asyncio.create_task(linger()))

    await one.chat(start())
    assert len(bench.calls) == 1
    over.set()
    await tasks[0]
    assert len(bench.calls) == 2
    assert bench.calls[1].facts == set()
    assert CURRENT.get() is None


async def test_call_under_way_when_its_outer_call_ends_is_still_nested(
    bench: Bench,
) -> None:
    over = asyncio.Event()
    tasks: list[asyncio.Task[None]] = []

    async def linger() -> None:
        await over.wait()

    inner = bench.wrap(linger, bench.hook(type=REQUESTS))

    async def start() -> None:
        tasks.append(asyncio.create_task(inner()))
        await asyncio.sleep(0)

    await bench.wrap(start, bench.hook(type=REQUESTS))()
    over.set()
    await tasks[0]
    assert len(bench.calls) == 1


async def test_interface_is_inherited_by_what_a_call_causes(bench: Bench) -> None:
    inner = bench.wrap(lambda: None, bench.hook(type=TURNS))
    bench.wrap(inner, bench.hook(interface="mcp"))()
    inner()
    bench.wrap(bench.wrap(inner, bench.hook(interface="tui")), bench.hook(interface="mcp"))()
    by_turn = [call.context.interface for call in bench.calls if call.args == ()]
    assert [by_turn[0], by_turn[2], by_turn[3]] == ["mcp", "sdk", "tui"]


def test_interface_of_a_hook_is_that_of_its_own_call(bench: Bench) -> None:
    bench.wrap(lambda: None, bench.hook(type=REQUESTS, interface="api"))()
    assert [call.context.interface for call in bench.calls] == ["api"]


@pytest.mark.parametrize(
    ("program", "interface"),
    [
        ("/usr/bin/victor", "cli"),
        ("C:/victor.exe", "cli"),
        ("/lib/victor/__main__.py", "cli"),
        ("/home/me/app.py", "sdk"),
        ("/lib/chainlit/__main__.py run /lib/victor/ui/chat_app/bootstrap.py --host x", "web"),
        ("/usr/bin/chainlit run /lib/victor/ui/chat_app/app.py", "web"),
        ("/usr/bin/chainlit run /home/me/app.py", "sdk"),
        ("/usr/bin/chainlit", "sdk"),
        ("/home/me/app.py run /lib/victor/ui/chat_app/app.py", "sdk"),
        ("", "sdk"),
    ],
)
def test_interface_without_a_server_is_told_by_the_program(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, program: str, interface: str
) -> None:
    monkeypatch.setattr("sys.argv", program.split())
    bench.wrap(lambda: None, bench.hook(type=REQUESTS))()
    assert [call.context.interface for call in bench.calls] == [interface]


@pytest.mark.parametrize("wanted", [True, False])
def test_only_calls_that_are_wanted_count(bench: Bench, *, wanted: bool) -> None:
    hook = bench.hook(type=REQUESTS, arguments=("work",), when=lambda call: call.argument("work"))
    inner = bench.wrap(lambda: None, bench.hook(type=TURNS))
    bench.wrap(lambda work: inner(), hook)(wanted)
    expected = [{"requests"}, set()] if wanted else [set()]
    assert [call.facts for call in bench.calls] == expected


def test_unwanted_hook_leaves_the_other_hooks_of_its_function(bench: Bench) -> None:
    never = bench.hook(type=REQUESTS, when=lambda call: False)
    bench.wrap(lambda: None, never, bench.hook(type=TURNS))()
    assert len(bench.calls) == 1


def test_pipeline_opens_on_entry_and_only_where_real_work_begins(bench: Bench) -> None:
    bench.wrap(lambda: None, bench.hook(type=TURNS))()
    assert bench.opened == 0
    bench.wrap(lambda: bench.opened, bench.hook(opens=True))()
    assert bench.opened == 1
    assert bench.calls[1].result == 1


def test_followers_see_each_logical_call_of_their_scope_once(bench: Bench) -> None:
    seen: list[str] = []
    bench.engine.followers(TURNS).observers.append(
        ("area.follow", lambda call, _record: seen.append(call.status))
    )
    turn = bench.wrap(lambda *inner: [f() for f in inner], bench.hook(type=TURNS))
    bench.wrap(lambda: turn(turn), bench.hook(type=REQUESTS))()
    assert seen == ["success", "success"]
