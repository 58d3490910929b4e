"""What an outer call learns of inner ones, and what is under way."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import weakref
from typing import Any, NamedTuple

import pytest

from tests.engine.bench import FAKE, Bench, Facts, Hook
from tests.engine.fakes import driven, give, give_later, letters, words
from victor_otel.model.operation import UNSET, Operation, OperationType
from victor_otel.model.rows import Reports, Target, Tells
from victor_otel.victor import catalog

WHOLE = OperationType("whole")
TURNS = OperationType("turns")


def telling(bench: Bench, function: Any = give, **options: Any) -> Any:
    return bench.wrap(function, bench.telling(WHOLE, **options))


def whole(bench: Bench, function: Any, *args: Any) -> Operation:
    bench.wrap(function, bench.hook(type=WHOLE))(*args)
    return bench.calls[-1]


# What is told


def test_an_operation_is_told_what_inner_functions_returned_in_order(bench: Bench) -> None:
    inner = telling(bench, read=lambda result: result * 2)
    call = whole(bench, lambda: [inner(value) for value in (1, 2, 3)])
    assert call.told("part") == [2, 4, 6]
    assert call.last_told("part") == 6


def test_the_outermost_of_nested_functions_tells_last(bench: Bench) -> None:
    inner = telling(bench, lambda *more: [f() for f in more], read=len)
    call = whole(bench, lambda: inner(inner))
    assert call.told("part") == [0, 1]


def test_an_operation_that_nobody_told_anything_knows_nothing(bench: Bench) -> None:
    call = whole(bench, give, 1)
    assert call.told("part") == ()
    assert call.last_told("part") is None


def test_a_function_without_a_reader_tells_that_it_ran_and_nothing_of_its_result(
    bench: Bench,
) -> None:
    inner = telling(bench)
    assert whole(bench, lambda: inner("content")).told("part") == [None]


def test_what_is_timed_is_told_with_its_start_and_end(bench: Bench) -> None:
    inner = telling(bench, timed=True, read=lambda result: result)
    call = whole(bench, lambda: inner("answer"))
    (told,) = call.told("part")
    assert told.value == "answer"
    assert call.started <= told.started <= told.ended <= call.end


def test_a_function_that_fails_tells_that_it_has_no_result(bench: Bench) -> None:
    def fail() -> None:
        raise ValueError

    inner = telling(bench, fail, read=lambda result: result is UNSET)

    def survive() -> None:
        with pytest.raises(ValueError):
            inner()

    assert whole(bench, survive).told("part") == [True]


async def test_a_coroutine_tells_what_it_returned(bench: Bench) -> None:
    inner = telling(bench, give_later, read=lambda result: result)
    await bench.wrap(inner, bench.hook(type=WHOLE))("answer")
    assert bench.calls[0].told("part") == ["answer"]


async def test_a_function_that_outlives_the_operation_tells_nobody(bench: Bench) -> None:
    over = asyncio.Event()
    inner = telling(bench, over.wait)
    tasks = []

    async def start() -> None:
        tasks.append(asyncio.create_task(inner()))
        await asyncio.sleep(0)

    await bench.wrap(start, bench.hook(type=WHOLE))()
    assert bench.calls[0].told("part") == ()
    over.set()
    assert await tasks[0] is True


def test_a_function_outside_of_any_operation_tells_nobody(bench: Bench) -> None:
    assert telling(bench)("value") == "value"
    assert bench.calls == []


def test_the_innermost_operation_is_told(bench: Bench) -> None:
    inner = telling(bench)
    nested = bench.wrap(lambda: inner(1), bench.hook(type=WHOLE))
    assert whole(bench, nested).told("part") == ()
    assert [call.told("part") for call in bench.calls] == [[None], ()]


def test_lower_levels_are_told_as_the_operation_that_they_belong_to(bench: Bench) -> None:
    inner = telling(bench)
    tool = bench.wrap(lambda: inner(1), bench.hook(type=WHOLE))
    bench.wrap(lambda: [tool(), tool()], bench.hook(type=WHOLE, level=2))()
    (call,) = bench.calls
    assert call.told("part") == [None, None]
    assert [frame.level for frame in call.entered(1)] == [1, 1]
    assert all(frame.ended is not None for frame in call.entered(1))


def test_a_function_may_tell_its_own_operation(bench: Bench) -> None:
    rows = (bench.hook(type=WHOLE), bench.telling(WHOLE, read=lambda result: result))
    bench.wrap(give, *rows)("answer")
    assert bench.calls[0].told("part") == ["answer"]


class Answer(NamedTuple):
    text: str


ANSWER = OperationType("answer", Answer)


def test_a_finished_operation_tells_its_facts(bench: Bench) -> None:
    bench.engine.followers(ANSWER).tells.append(Tells(WHOLE, "answer", ANSWER))
    inner = bench.wrap(give, bench.hook(type=ANSWER, read=lambda one: Answer(one.result)))
    assert whole(bench, lambda: inner("yes")).told("answer") == [Answer("yes")]


def test_of_two_operations_of_one_function_the_inner_tells_the_outer(bench: Bench) -> None:
    bench.engine.followers(ANSWER).tells.append(Tells(WHOLE, "answer", ANSWER))
    hooks = (
        bench.hook(type=WHOLE),
        bench.hook(type=ANSWER, read=lambda one: Answer(one.result)),
    )
    bench.wrap(give, *hooks)("yes")
    assert [call.type for call in bench.calls] == [ANSWER, WHOLE]
    assert bench.calls[1].told("answer") == [Answer("yes")]


# Operations that another one reports


def read_text(one: Operation) -> Answer:
    return Answer(one.argument("text"))


def reporting(bench: Bench, find: Any, function: Any = give) -> Any:
    """A function in which a whole begins, with answers that its end tells of."""
    bench.hook(type=ANSWER, read=read_text)  # so that these are noted as well
    report = Reports(ANSWER, Target(FAKE), find, read_text)
    return bench.wrap(function, Hook(FAKE, [*bench.hook(type=WHOLE).rows, report]))


def test_what_a_result_tells_of_is_an_operation_at_its_end(bench: Bench) -> None:
    wrapped = reporting(bench, lambda whole: [({"text": text}, text) for text in whole.result])
    assert wrapped(["yes", "no"]) == ["yes", "no"]
    whole, *reported = bench.calls
    assert [(one.type, one.facts, one.result) for one in reported] == [
        (ANSWER, Answer("yes"), "yes"),
        (ANSWER, Answer("no"), "no"),
    ]
    assert {(one.started, one.ended) for one in reported} == {(whole.ended, whole.ended)}
    assert [one.status for one in reported] == ["success", "success"]
    assert bench.in_flight() == {"sdk": 0}


def test_a_report_that_fails_is_counted_and_harms_nothing(bench: Bench, lenient: None) -> None:
    assert reporting(bench, lambda whole: whole.nothing)("yes") == "yes"
    assert [call.type for call in bench.calls] == [WHOLE]
    assert bench.health.errors == {FAKE: 1}


def test_nothing_is_reported_once_we_are_off(bench: Bench) -> None:
    def switch_off(_whole: Any) -> Any:
        bench.engine.disable()
        return give("yes")

    assert reporting(bench, lambda _: [({"text": ""}, "")], switch_off)(None) == "yes"
    assert bench.calls == []


# Calls under way


def test_call_is_under_way_until_it_returns(bench: Bench) -> None:
    whole(bench, lambda: bench.calls.append(bench.in_flight()))  # type: ignore[arg-type]
    assert bench.calls[0] == {"sdk": 1}
    assert bench.in_flight() == {"sdk": 0}


def test_nested_entry_of_the_same_call_is_under_way_once(bench: Bench) -> None:
    inner = bench.wrap(bench.in_flight, bench.hook(type=WHOLE))
    assert bench.wrap(inner, bench.hook(type=WHOLE, level=2))() == {"sdk": 1}


def test_calls_under_way_are_told_by_interface(bench: Bench) -> None:
    hook = bench.hook(type=WHOLE, interface="api")
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
    wait = bench.wrap(asyncio.Event().wait, bench.hook(type=WHOLE))
    tasks = [asyncio.create_task(wait()) for _ in range(3)]
    await asyncio.sleep(0)
    assert bench.in_flight() == {"sdk": 3}
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert bench.in_flight() == {"sdk": 0}


@pytest.mark.parametrize("original", [words, letters])
def test_nothing_is_under_way_after_a_stream_is_dropped(bench: Bench, original: Any) -> None:
    stream = bench.stream(original, type=WHOLE)("a", "b")
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
    stream = bench.stream(letters, type=WHOLE)("a")
    next(stream)
    bench.engine.enabled = False
    assert list(stream) == []
    assert bench.in_flight() == {"sdk": 0}


@pytest.mark.parametrize("order", [0, 1])
def test_hook_that_fails_to_start_leaves_the_others_as_they_are(
    bench: Bench, lenient: None, order: int
) -> None:
    hooks = [bench.hook(type=WHOLE), bench.hook(type=TURNS, when=lambda call: call.nothing)]
    wrapped = bench.wrap(give, hooks[order], hooks[1 - order])
    assert wrapped("unaffected") == "unaffected"
    assert bench.in_flight() == {"sdk": 0}
    assert bench.health.errors == {"tests:fake": 1}
    assert len(bench.calls) == 1


def test_forked_child_starts_with_nothing_under_way(bench: Bench) -> None:
    def fork() -> dict[str, float]:
        bench.engine.renew()
        return bench.in_flight()

    assert bench.wrap(fork, bench.hook(type=WHOLE))() == {"sdk": 0}


# What is kept


class Instance:
    def keep_context(self, _argument: Any) -> contextvars.Context:
        """A background task or a timer keeps its context for as long as it lives."""
        return contextvars.copy_context()


@pytest.mark.parametrize("what", ["instance", "argument"])
def test_context_that_outlives_a_call_keeps_nothing_of_it(bench: Bench, what: str) -> None:
    hook = bench.hook(lambda call, _record: None, type=WHOLE)
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


def test_arguments_are_read_by_name_or_position(bench: Bench) -> None:
    def function(first: int, second: int, third: int = 3) -> None: ...

    hook = bench.hook(arguments=("first", "second", "third"))
    bench.wrap(function, hook)(1, second=2)
    (call,) = bench.calls
    assert call.argument("first") == 1
    assert call.argument("second") == 2
    assert call.argument("third", "default") == "default"


def test_each_override_has_its_arguments_where_it_likes(bench: Bench) -> None:
    class One:
        def work(self, first: int, second: int) -> None: ...

    class Other:
        def work(self, second: int, first: int) -> None: ...

    hook = bench.hook(arguments=("first",))
    for cls in (One, Other):
        bench.wrap_method(cls, "work", hook)
        cls().work(1, 2)
    assert [call.argument("first") for call in bench.calls] == [1, 2]


# Nobody listens


@pytest.mark.parametrize("leaves_state", [True, False])
def test_only_what_leaves_state_is_followed_while_nobody_listens(
    bench: Bench, *, leaves_state: bool
) -> None:
    bench.leaves_state = leaves_state
    function, coroutine = bench.wrap(give), bench.wrap(give_later)
    stream = bench.stream(letters)
    followed: list[int] = []
    for unheard in (True, False):
        bench.engine.connect(None, None, lambda unheard=unheard: unheard)
        assert function(1) == 1
        assert asyncio.run(coroutine(2)) == 2
        assert list(stream("a", "b")) == ["a", "b"]
        followed.append(len(bench.calls))
    assert followed == ([3, 6] if leaves_state else [0, 3])


def test_what_the_api_says_of_a_provider_is_where_it_is_looked_for() -> None:
    """It is private to OpenTelemetry, since its public function costs each call a microsecond."""
    from opentelemetry.metrics import _internal

    assert "_METER_PROVIDER" in vars(_internal)


def test_what_is_idle_wakes_when_somebody_listens(bench: Bench) -> None:
    bench.leaves_state = False
    function, heard = bench.wrap(give), []
    bench.engine.connect(None, None, lambda: not heard)
    function(1)
    heard.append("a provider")
    function(2)
    assert [call.result for call in bench.calls] == [2]


def test_a_call_that_decides_on_later_ones_leaves_state() -> None:
    rows = catalog.targets(None)
    leaving = {target for target, each in rows.items() if catalog.leave_state(each)}
    assert "victor.tools.base:BaseTool.execute" not in leaving
    assert "victor.providers.base:BaseProvider.chat" not in leaving
    assert {
        "victor.framework.agent_factory:AgentFactory.create",
        "victor.framework.skills:SkillRegistry.register",
    } <= leaving
