"""Cancelled at every wait and closed at every item: Victor ends as without us, counted once.

Each call is tried without us and with us, with the same agents' same history. Its parts count
themselves (`inside.Work`), so that the numbers have something to be held against.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from tests.kit.agents import Recorded, recording
from tests.kit.chat import team
from tests.kit.tools import Bench, asked
from tests.kit.workflows import named
from tests.reliability.inside import ASK, TOOL, Work, agent_of, provider_of, tool_of
from tests.reliability.steps import Ended, cancelled_at, left_after, settle, whole
from tests.reliability.trials import Trials
from victor_otel.runtime import RUNTIME

pytestmark = pytest.mark.usefixtures("sandbox", "own_folder")

PROVIDER, TOOLS = "victor.provider.requests", "victor.tool.executions"
REQUESTS, TURNS = "victor.requests", "victor.chat.request.duration"
WORKFLOWS, HTTP = "victor.workflow.executions", "victor.request.duration"
MEMORY, IN_FLIGHT = "victor.memory.operations", "victor.requests_in_flight"
COUNTED = (PROVIDER, TOOLS, REQUESTS, TURNS, WORKFLOWS, HTTP, MEMORY)

CODES = {"200": "success", "499": "cancelled"}


@dataclass
class Case:
    """One way to call Victor. `call` begins a call, `stream` opens a stream, where it is one."""

    call: Callable[[], Awaitable[Any]]
    counts: tuple[str, ...]
    """What one call adds one to."""
    stream: Callable[[], Any] | None = None
    told: Callable[[Any], Any] = type
    begins: str = ""
    """The part of Victor's that must have begun for the call to count; at once if empty."""
    slow: bool = False
    """Victor does much for it, and some of it beside it; the quick form tries few waits."""
    answered: int = 0
    """How many whole answers of the provider make a stream complete, however it is left then."""


Kind = Callable[[Work], AbstractAsyncContextManager[Case]]
KINDS: list[Kind] = []


def kind(made: Callable[[Work], AsyncIterator[Case]]) -> Kind:
    """A way to call Victor whose parts note in `work` what they did."""
    opened = asynccontextmanager(made)
    KINDS.append(opened)
    return opened


@kind
async def provider_chat(work: Work) -> AsyncIterator[Case]:
    provider = provider_of(work, "own")()
    yield Case(call=lambda: provider.chat([], model="m"), counts=(PROVIDER,))


@kind
async def provider_stream(work: Work) -> AsyncIterator[Case]:
    provider = provider_of(work, "own")()

    def stream() -> Any:
        return provider.stream([], model="m")

    yield Case(call=lambda: whole(stream()), stream=stream, counts=(PROVIDER,))


@kind
async def registry(work: Work) -> AsyncIterator[Case]:
    bench = Bench(tool_of(work))
    yield Case(call=lambda: bench.registry.execute(TOOL, {}, number=1), counts=(TOOLS,))


@kind
async def executor(work: Work) -> AsyncIterator[Case]:
    bench = Bench(tool_of(work))
    yield Case(
        call=lambda: bench.executor.execute(TOOL, {"number": 1}),
        counts=(TOOLS,),
        told=lambda result: result.success,
    )


@kind
async def pipeline(work: Work) -> AsyncIterator[Case]:
    bench = Bench(tool_of(work), enable_caching=False)
    numbers = iter(range(10_000))  # a pipeline runs no call twice
    yield Case(
        call=lambda: bench.batch(asked(TOOL, number=next(numbers))),
        counts=(TOOLS,),
        told=lambda batch: [one.success for one in batch.results],
    )


@kind
async def agent_run(work: Work) -> AsyncIterator[Case]:
    async with agent_of(work) as created:
        yield Case(
            call=lambda: created.run(ASK),
            counts=(REQUESTS, TURNS),
            begins="provider",
            slow=True,
            told=lambda result: result.content,
        )


@kind
async def agent_stream(work: Work) -> AsyncIterator[Case]:
    async with agent_of(work) as created:

        def kind_of(event: Any) -> str:
            return event.type.value

        yield Case(
            call=lambda: whole(created.stream(ASK), kind_of),
            stream=lambda: created.stream(ASK),
            counts=(REQUESTS, TURNS),
            begins="provider",
            slow=True,
            told=lambda events: events if isinstance(events, list) else kind_of(events),
            answered=2,
        )


@kind
async def agent_chat(work: Work) -> AsyncIterator[Case]:
    async with agent_of(work) as created:
        service = created.get_orchestrator()._chat_service
        yield Case(
            call=lambda: whole(service.stream_chat(ASK)),
            stream=lambda: service.stream_chat(ASK),
            counts=(REQUESTS, TURNS),
            slow=True,
            answered=2,
        )


async def _wait(state: Any) -> Any:
    for _ in range(3):
        await asyncio.sleep(0)
    return {**state, "waited": True}


@kind
async def workflow(work: Work) -> AsyncIterator[Case]:
    yield Case(
        call=lambda: named(_wait, _wait).invoke({"subject": "x"}),
        counts=(WORKFLOWS,),
        told=lambda result: result.success,
    )


@kind
async def workflow_stream(work: Work) -> AsyncIterator[Case]:
    def stream() -> Any:
        return named(_wait, _wait).stream({"subject": "x"})

    yield Case(call=lambda: whole(stream()), stream=stream, counts=(WORKFLOWS,))


@kind
async def team_run(work: Work) -> AsyncIterator[Case]:
    async with agent_of(work) as created:

        async def run() -> Any:
            return await (await team(created, "researcher", "planner")).run()

        yield Case(
            call=run,
            counts=(REQUESTS,),
            begins="provider",
            slow=True,
            told=lambda result: result.success,
        )


@kind
async def http_request(work: Work) -> AsyncIterator[Case]:
    from tests.kit.interfaces import connect, server

    api = server()

    @api.app.get("/wait")
    async def wait() -> None:
        await _wait({})

    yield Case(
        call=lambda: connect(api.app, "/wait", method="GET"),
        counts=(HTTP, REQUESTS),
        told=lambda sent: sent.status,
    )


@kind
async def memory_search(work: Work) -> AsyncIterator[Case]:
    from tests.kit.memory import Notes, coordinator

    class Slow(Notes):
        async def search(self, query: Any) -> list[Any]:
            await _wait({})
            return await super().search(query)

    everywhere = coordinator(Slow())
    yield Case(call=lambda: everywhere.search_all("fern"), counts=(MEMORY,))


NAMES = [one.__name__ for one in KINDS]


@pytest.fixture(autouse=True)
def _garbage_of_its_own() -> Iterator[None]:
    yield
    gc.unfreeze()


async def leave_behind() -> None:
    """What a call dropped is collected, and the loop does what was left to it.

    What is there already is not looked at again: all of Victor takes a second.
    """
    gc.collect()
    await settle()
    gc.freeze()


class Ledger:
    """What is exported of calls, by status, since the last look."""

    def __init__(self, recorded: Recorded) -> None:
        self._recorded = recorded
        self._before: Counter[tuple[str, str]] = Counter()

    def new(self) -> Counter[tuple[str, str]]:
        now: Counter[tuple[str, str]] = Counter()
        for (name, *labels), count in self._recorded.points(*COUNTED).items():
            status = dict(labels)["status"]
            now[name, CODES.get(status, status)] += int(count)
        before, self._before = self._before, now
        return now - before

    def in_flight(self) -> set[float]:
        return set(self._recorded.points(IN_FLIGHT, zeros=True).values())


async def attempts(
    case: Case, quick: int, check: Callable[[Ended], None] = lambda _: None
) -> list[Ended]:
    """A whole call, one for each wait that it has, cancelled there, and a whole one again."""

    async def attempt(wait: int) -> Ended:
        ended = await cancelled_at(case.call, wait, case.told)
        await leave_behind()
        check(ended)
        return ended

    ended = [await attempt(0)]
    stride = max(1, ended[0].waits // quick)
    wait = 1
    while ended[-1].cancelled or wait == 1:
        ended.append(await attempt(wait))
        wait += stride
    return [*ended, await attempt(0)]


@pytest.mark.parametrize("number", range(len(KINDS)), ids=NAMES)
async def test_a_call_cancelled_at_each_of_its_waits(number: int, trials: Trials) -> None:
    made = KINDS[number]
    RUNTIME.deactivate()
    async with made(Work()) as case:
        quick = trials.times(2 if case.slow else 10, 10_000)
        without = await attempts(case, quick)
    with recording() as recorded:
        work = Work()
        async with made(work) as case:
            ledger = Ledger(recorded)

            def check(ended: Ended) -> None:
                counted = ledger.new()
                assert ledger.in_flight() == {0}, ended
                assert_counted_once(case, ended, work, counted)

            ledger.new()
            within = await attempts(case, quick, check)
    if case.slow:  # how often it waits depends on what Victor does beside it
        assert {one.outcome for one in within} == {one.outcome for one in without}
    else:
        assert within == without
    trials.row(f"{NAMES[number]} cancelled at each wait", times=len(within))


def assert_counted_once(
    case: Case, ended: Ended, work: Work, counted: Counter[tuple[str, str]]
) -> None:
    """Each logical call has one outcome, and each of its parts has the one that it saw itself."""
    begun, parts = work.take()
    allowed = {"cancelled" if ended.cancelled else "success"}
    if case.answered and parts["provider", "success"] == case.answered:
        allowed.add("success")  # complete, if the last word came out before
    began = not case.begins or begun[case.begins] > 0
    for name in case.counts:
        own = {key[1]: count for key, count in counted.items() if key[0] == name}
        # A call that was cancelled on its way to where it begins may be one, or none.
        assert list(own.values()) == [1] or (not began and not own), (ended, counted)
        assert own.keys() <= allowed, (ended, counted)
    calls = {key[1]: count for key, count in counted.items() if key[0] == PROVIDER}
    assert calls == {status: n for (part, status), n in parts.items() if part == "provider"}
    ran = {key[1]: n for key, n in counted.items() if key[0] == TOOLS}
    assert sum(ran.values()) == begun["tool"]
    assert ran.get("cancelled", 0) >= parts["tool", "cancelled"]


@pytest.mark.parametrize("close", [True, False], ids=["closed", "dropped"])
@pytest.mark.parametrize(
    "number",
    [number for number, name in enumerate(NAMES) if "stream" in name or name == "agent_chat"],
    ids=lambda number: NAMES[number],
)
async def test_a_stream_left_after_each_of_its_items(
    number: int, close: bool, trials: Trials
) -> None:
    made = KINDS[number]

    async def leave(case: Case, check: Callable[[list[str]], None]) -> list[list[str]]:
        assert case.stream is not None
        left: list[list[str]] = []
        while not left or left[-1][-1:] != ["exhausted"]:
            items = len(left) * trials.times(3 if case.slow else 1, 1)
            left.append(await left_after(case.stream(), items, close=close, told=case.told))
            await leave_behind()
            check(left[-1])
        return left

    RUNTIME.deactivate()
    async with made(Work()) as case:
        without = await leave(case, lambda _: None)
    with recording() as recorded:
        work = Work()
        async with made(work) as case:
            ledger = Ledger(recorded)
            ledger.new()

            def check(read: list[str]) -> None:
                counted = ledger.new()
                assert ledger.in_flight() == {0}, read
                begun, _ = work.take()
                for name in case.counts:
                    own = {key[1]: count for key, count in counted.items() if key[0] == name}
                    assert sum(own.values()) <= 1, (read, own)
                    assert set(own) <= {"success", "cancelled"}
                    if read[-1:] == ["exhausted"]:
                        assert own == {"success": 1}
                    elif not read:
                        assert own == {}, "a stream that nobody read was no call"
                calls = sum(count for key, count in counted.items() if key[0] == PROVIDER)
                assert calls == begun["provider"]

            within = await leave(case, check)
    assert within == without
    ending = "closed" if close else "dropped"
    trials.row(f"{NAMES[number]} {ending} after each item", times=len(within))


# Driven by hand, where the one who begins a call need not be the one who ends it.


@pytest.mark.parametrize("ending", ["closed", "cancelled"])
@pytest.mark.parametrize("name", ["provider_chat", "registry", "http_request"])
async def test_a_call_that_another_context_ends_is_one_cancelled_call(
    name: str, ending: str
) -> None:
    made = KINDS[NAMES.index(name)]
    with recording() as recorded:
        async with made(Work()) as case:
            ledger = Ledger(recorded)
            ledger.new()
            for steps in range(1, 3):
                coroutine: Any = case.call()
                for _ in range(steps):
                    contextvars.copy_context().run(coroutine.send, None)
                assert ledger.new() == Counter()
                if ending == "closed":
                    contextvars.Context().run(coroutine.close)
                else:
                    with pytest.raises(asyncio.CancelledError):
                        contextvars.Context().run(coroutine.throw, asyncio.CancelledError())
                assert ledger.new() == {(name, "cancelled"): 1 for name in case.counts}
                assert ledger.in_flight() == {0}


async def test_a_call_that_never_began_is_none() -> None:
    with recording() as recorded:
        async with provider_chat(Work()) as case:
            coroutine: Any = case.call()
            coroutine.close()
            task = asyncio.ensure_future(case.call())
            task.cancel()
            await asyncio.wait([task])
            del coroutine, task
            await leave_behind()
            assert Ledger(recorded).new() == Counter()


async def test_a_second_reader_is_refused_and_the_stream_goes_on() -> None:
    with recording() as recorded:
        async with provider_stream(Work()) as case:
            assert case.stream is not None
            stream = case.stream()
            first = asyncio.ensure_future(anext(stream))
            await asyncio.sleep(0)
            for again in (stream.__anext__, stream.aclose):
                with pytest.raises(RuntimeError, match="already running"):
                    await again()
            ledger = Ledger(recorded)
            assert ledger.new() == Counter()
            await first
            await whole(stream)
            assert ledger.new() == {(PROVIDER, "success"): 1}
