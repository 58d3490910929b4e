"""What an outer call learns of inner ones, and what is under way."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import weakref
from typing import Any

import pytest

from tests.engine.bench import IN_FLIGHT, Bench, Facts
from tests.engine.fakes import driven, give, letters, words
from victor_otel.spec import Call, Scope

WHOLE = Scope(name="whole", in_flight=IN_FLIGHT)
TURNS = Scope(name="turns")


def part(bench: Bench, function: Any = give, name: str = "part", **options: Any) -> Any:
    return bench.wrap(function, bench.hook(part=name, of=WHOLE, **options))


def whole(bench: Bench, function: Any, *args: Any) -> Call:
    bench.wrap(function, bench.hook(scope=WHOLE))(*args)
    return bench.calls[-1]


# Parts


def test_outer_call_is_given_its_parts_in_order(bench: Bench) -> None:
    inner = part(bench, digest=lambda call: call.result * 2)
    call = whole(bench, lambda: [inner(value) for value in (1, 2, 3)])
    parts = call.parts["part"]
    assert [one.digest for one in parts] == [2, 4, 6]
    assert call.started <= parts[0].started <= parts[0].ended <= parts[1].started  # type: ignore[operator]
    assert call.last_part("part") is parts[-1]


def test_outermost_part_of_a_name_is_the_last_one(bench: Bench) -> None:
    inner = part(bench, lambda *more: [f() for f in more], digest=lambda call: len(call.args))
    call = whole(bench, lambda: inner(inner))
    last = call.last_part("part")
    assert last is not None
    assert last.digest == 1


def test_call_without_a_part_has_no_last_one(bench: Bench) -> None:
    call = whole(bench, give, 1)
    assert call.parts == {}
    assert call.last_part("part") is None


def test_part_without_a_digest_keeps_nothing_of_the_call(bench: Bench) -> None:
    inner = part(bench)
    call = whole(bench, lambda: inner("content"))
    assert [one.digest for one in call.parts["part"]] == [None]


def test_part_that_fails_has_ended(bench: Bench) -> None:
    def fail() -> None:
        raise ValueError

    inner = part(bench, fail, digest=lambda call: call.status)

    def survive() -> None:
        with pytest.raises(ValueError):
            inner()

    call = whole(bench, survive)
    assert [(one.digest, one.ended is None) for one in call.parts["part"]] == [("failure", False)]


async def test_part_that_outlives_the_call_has_no_end(bench: Bench) -> None:
    over = asyncio.Event()
    inner = part(bench, over.wait)
    tasks = []

    async def start() -> None:
        tasks.append(asyncio.create_task(inner()))
        await asyncio.sleep(0)

    ends = []
    hook = bench.hook(
        lambda call, _record: ends.append([one.ended for one in call.parts["part"]]), scope=WHOLE
    )
    await bench.wrap(start, hook)()
    assert ends == [[None]]
    over.set()
    assert await tasks[0] is True


def test_part_outside_of_any_whole_is_no_part(bench: Bench) -> None:
    assert part(bench)("value") == "value"
    assert bench.calls[0].parts == {}


def test_part_belongs_to_the_innermost_whole(bench: Bench) -> None:
    inner = part(bench)
    nested = bench.wrap(lambda: inner(1), bench.hook(scope=WHOLE))
    call = whole(bench, nested)
    assert call.parts == {}
    assert [list(one.parts) for one in bench.calls[1:]] == [["part"], []]


def test_lower_levels_and_parts_belong_to_one_call(bench: Bench) -> None:
    inner = part(bench)
    tool = bench.wrap(lambda: inner(1), bench.hook(scope=WHOLE))
    bench.wrap(lambda: [tool(), tool()], bench.hook(scope=WHOLE, level=2))()
    assert [len(call.parts["part"]) for call in bench.calls if call.parts] == [2]


def test_function_may_be_a_part_of_its_own_call(bench: Bench) -> None:
    hook = bench.hook(scope=WHOLE, part="turn", of=WHOLE, digest=lambda call: call.result)
    bench.wrap(give, hook)("answer")
    assert [one.digest for one in bench.calls[0].parts["turn"]] == ["answer"]


def test_digest_that_raises_leaves_the_part(bench: Bench, lenient: None) -> None:
    inner = part(bench, digest=lambda call: call.nothing)
    call = whole(bench, lambda: inner(1))
    assert [one.digest for one in call.parts["part"]] == [None]
    assert bench.health.errors == {"tests:fake": 1}


# Calls under way


def test_call_is_under_way_until_it_returns(bench: Bench) -> None:
    whole(bench, lambda: bench.calls.append(bench.in_flight()))  # type: ignore[arg-type]
    assert bench.calls[0] == {"sdk": 1}
    assert bench.in_flight() == {"sdk": 0}


def test_nested_entry_of_the_same_call_is_under_way_once(bench: Bench) -> None:
    inner = bench.wrap(bench.in_flight, bench.hook(scope=WHOLE))
    assert bench.wrap(inner, bench.hook(scope=WHOLE, level=2))() == {"sdk": 1}


def test_calls_under_way_are_told_by_interface(bench: Bench) -> None:
    hook = bench.hook(scope=WHOLE, interface="api")
    assert bench.wrap(bench.in_flight, hook)() == {"api": 1, "sdk": 0}
    assert bench.in_flight() == {"api": 0, "sdk": 0}


@pytest.mark.parametrize("error", [ValueError(), KeyboardInterrupt(), asyncio.CancelledError()])
def test_nothing_is_under_way_after_an_error(bench: Bench, error: BaseException) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(type(error)):
        whole(bench, fail)
    assert bench.in_flight() == {"sdk": 0}


async def test_nothing_is_under_way_after_a_cancellation(bench: Bench) -> None:
    wait = bench.wrap(asyncio.Event().wait, bench.hook(scope=WHOLE))
    tasks = [asyncio.create_task(wait()) for _ in range(3)]
    await asyncio.sleep(0)
    assert bench.in_flight() == {"sdk": 3}
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert bench.in_flight() == {"sdk": 0}


@pytest.mark.parametrize("original", [words, letters])
def test_nothing_is_under_way_after_a_stream_is_dropped(bench: Bench, original: Any) -> None:
    stream = bench.stream(original, scope=WHOLE)("a", "b")
    if original is letters:
        assert next(stream) == "a"
    else:
        driven(anext(stream))
    assert bench.in_flight() == {"sdk": 1}
    del stream
    gc.collect()
    bench.drain()
    assert bench.in_flight() == {"sdk": 0}


def test_nothing_is_under_way_after_we_were_switched_off(bench: Bench) -> None:
    stream = bench.stream(letters, scope=WHOLE)("a")
    next(stream)
    bench.engine.enabled = False
    assert list(stream) == []
    assert bench.in_flight() == {"sdk": 0}


@pytest.mark.parametrize("order", [0, 1])
def test_hook_that_fails_to_start_leaves_the_others_as_they_are(
    bench: Bench, lenient: None, order: int
) -> None:
    hooks = [bench.hook(scope=WHOLE), bench.hook(scope=TURNS, when=lambda call: call.nothing)]
    wrapped = bench.wrap(give, hooks[order], hooks[1 - order])
    assert wrapped("unaffected") == "unaffected"
    assert bench.in_flight() == {"sdk": 0}
    assert bench.health.errors == {"tests:fake": 1}
    assert len(bench.calls) == 1


def test_forked_child_starts_with_nothing_under_way(bench: Bench) -> None:
    def fork() -> dict[str, float]:
        bench.engine.renew(bench.observers, bench.followers)
        return bench.in_flight()

    assert bench.wrap(fork, bench.hook(scope=WHOLE))() == {"sdk": 0}


# What is kept


class Instance:
    def keep_context(self, _argument: Any) -> contextvars.Context:
        """A background task or a timer keeps its context for as long as it lives."""
        return contextvars.copy_context()


@pytest.mark.parametrize("what", ["instance", "argument"])
def test_context_that_outlives_a_call_keeps_nothing_of_it(bench: Bench, what: str) -> None:
    hook = bench.hook(lambda call, _record: None, scope=WHOLE)
    bench.wrap_method(Instance, "keep_context", hook)
    instance, argument = Instance(), Instance()
    reference = weakref.ref({"instance": instance, "argument": argument}[what])
    context = instance.keep_context(argument)
    del instance, argument
    gc.collect()
    assert context is not None
    assert reference() is None


def test_observers_are_given_facts_and_never_items(bench: Bench) -> None:
    stream = bench.stream(letters)("a", "end")
    assert list(stream) == ["a", "end"]
    (call,) = bench.calls
    assert call.stream is not None
    assert isinstance(call.stream.facts, Facts)
    assert call.stream.complete
    assert "a" not in vars(call.stream.facts).values()


def test_arguments_are_read_by_name_or_position() -> None:
    call = Call(None, ("first",), {"second": 2})
    assert call.argument("first", 0) == "first"
    assert call.argument("second", 1) == 2
    assert call.argument("third", 2, "default") == "default"
