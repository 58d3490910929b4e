"""Victor with us behaves as Victor without us."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import pickle
from typing import Any

import pytest

from tests.kit.agents import agent, model, recording
from victor_otel.demo.script import Step, ToolCall
from victor_otel.runtime import RUNTIME

ANSWER = Step("That is all. Task complete.")


class Refusal(Exception):
    pass


def provider_class() -> Any:
    from victor.providers.base import BaseProvider, CompletionResponse, StreamChunk

    class Own(BaseProvider):
        """A provider that an application defines, after us."""

        failure: BaseException | None = None
        thrown: BaseException | None = None

        @property
        def name(self) -> str:
            return "own"

        async def chat(self, messages: Any, *, model: str, **kwargs: Any) -> Any:
            if self.failure is not None:
                raise self.failure
            return CompletionResponse(content="hi", role="assistant", model=model)

        async def stream(self, messages: Any, *, model: str, **kwargs: Any) -> Any:
            try:
                for text in ("a", "b"):
                    yield StreamChunk(content=text)
            except Refusal as error:
                self.thrown = error
                yield StreamChunk(content="caught")
            yield StreamChunk(content="", is_final=True)

        async def close(self) -> None: ...

    return Own


REQUESTS = "victor.provider.requests"


def requests(status: str) -> dict[tuple[Any, ...], float]:
    labels = {"provider": "own", "model": "m", "status": status, "tool_calls": "false"}
    return {(REQUESTS, *sorted(labels.items())): 1}


async def test_the_same_exception_object_comes_through_and_counts_once() -> None:
    with recording() as recorded:
        provider = provider_class()()
        provider.failure = Refusal("no")
        with pytest.raises(Refusal) as raised:
            await provider.chat([], model="m")
        assert raised.value is provider.failure
        assert recorded.points(REQUESTS) == requests("failure")
        assert recorded.points("victor.errors") == {
            ("victor.errors", ("component", "provider"), ("error_type", "Refusal")): 1
        }


async def test_a_base_exception_comes_through_and_counts_as_cancelled() -> None:
    with recording() as recorded:
        provider = provider_class()()
        provider.failure = asyncio.CancelledError()
        with pytest.raises(asyncio.CancelledError):
            await provider.chat([], model="m")
        assert recorded.points(REQUESTS) == requests("cancelled")


async def test_athrow_reaches_the_generator_and_its_answer_comes_back() -> None:
    with recording() as recorded:
        provider = provider_class()()
        stream = provider.stream([], model="m")
        assert (await anext(stream)).content == "a"
        thrown = Refusal()
        assert (await stream.athrow(thrown)).content == "caught"
        assert provider.thrown is thrown
        assert [chunk.is_final async for chunk in stream] == [True]
        assert recorded.points(REQUESTS) == requests("success")


async def test_a_stream_closed_early_is_cancelled_and_one_closed_after_its_end_is_not() -> None:
    with recording() as recorded:
        early = provider_class()().stream([], model="m")
        await anext(early)
        await early.aclose()
        assert recorded.points(REQUESTS) == requests("cancelled")
    with recording() as recorded:
        whole = provider_class()().stream([], model="m")
        async for chunk in whole:
            if chunk.is_final:
                break
        await whole.aclose()
        assert recorded.points(REQUESTS) == requests("success")


async def test_super_and_a_chat_that_calls_stream_count_once() -> None:
    from victor.providers.base import CompletionResponse

    with recording() as recorded:

        class Gathering(provider_class()):  # type: ignore[misc]
            async def chat(self, messages: Any, *, model: str, **kwargs: Any) -> Any:
                await super().chat(messages, model=model)
                texts = [chunk.content async for chunk in self.stream(messages, model=model)]
                return CompletionResponse(content="".join(texts), role="assistant", model=model)

        assert (await Gathering().chat([], model="m")).content == "ab"
        assert recorded.points(REQUESTS) == requests("success")


async def test_twenty_calls_at_once_on_one_shared_provider_are_twenty() -> None:
    with recording() as recorded:
        provider = provider_class()()
        await asyncio.gather(*(provider.chat([], model="m") for _ in range(20)))
        assert sum(recorded.points(REQUESTS).values()) == 20


async def test_bound_methods_cached_before_uninstrument_fall_silent() -> None:
    with recording() as recorded:
        chat = provider_class()().chat
        await chat([], model="m")
        before = recorded.points(REQUESTS)
        RUNTIME.deactivate()
        await chat([], model="m")
        assert recorded.points(REQUESTS) == before


async def test_a_second_instrumentation_goes_on_where_the_first_ended() -> None:
    with recording() as recorded:
        provider = provider_class()()
        await provider.chat([], model="m")
        RUNTIME.deactivate()
        await provider.chat([], model="m")
        RUNTIME.activate(recorded.provider)
        await provider.chat([], model="m")
        assert sum(recorded.points(REQUESTS).values()) == 2


def test_functions_and_methods_pickle_and_copy_as_they_did() -> None:
    from victor.agent.durable_resume import resume_paused_run
    from victor.framework.graph import CompiledGraph

    with recording():
        import victor.agent.durable_resume as module

        assert pickle.loads(pickle.dumps(module.resume_paused_run)) is module.resume_paused_run
        assert pickle.loads(pickle.dumps(CompiledGraph.invoke)) == CompiledGraph.invoke
        assert copy.deepcopy(module.resume_paused_run) is module.resume_paused_run
        pickled = pickle.dumps(module.resume_paused_run)
    assert pickle.loads(pickled) is resume_paused_run


async def test_an_agent_answers_the_same_and_its_call_chain_leaks_nothing() -> None:
    from victor_otel.engine.nesting import CURRENT

    answers: list[Any] = []
    for instrumented in (False, True):
        with model(m=[ANSWER]) as served, recording() if instrumented else _plain():
            async with agent(served, "m") as created:
                answer = await created.run("Read the file and tell me what it says.")
                answers.append((answer.success, answer.content, type(answer)))
                events = [event.type.value async for event in created.stream("Read it again.")]
                answers.append(events)
                assert CURRENT.get() is None
    assert answers[:2] == answers[2:]


@contextlib.contextmanager
def _plain() -> Any:
    RUNTIME.deactivate()
    yield


async def test_a_tool_that_calls_a_tool_through_a_thread_is_two_calls_and_one_request() -> None:
    from victor.tools.decorators import tool

    @tool
    def inner_tool(number: int) -> int:
        """Doubles.

        Args:
            number: What to double.
        """
        return 2 * number

    script = [Step(calls=(ToolCall("outer_tool", {"number": 3}),)), ANSWER]
    with model(m=script) as served, recording() as recorded:
        async with agent(served, "m") as created:
            registry = created.get_orchestrator().tools

            @tool
            async def outer_tool(number: int) -> str:
                """Has another tool double, in a thread.

                Args:
                    number: What to double.
                """

                def in_thread() -> Any:
                    return asyncio.run(registry.execute("inner_tool", {}, number=number))

                loop = asyncio.get_running_loop()
                answer = await loop.run_in_executor(None, in_thread)
                return str(answer.output)

            registry.register(inner_tool)
            registry.register(outer_tool)
            await created.run("Read the number 3 and double it.")
        executions = recorded.points("victor.tool.executions")
        assert {dict(key[1:])["tool"]: value for key, value in executions.items()} == {
            "inner_tool": 1,
            "outer_tool": 1,
        }
        assert recorded.points("victor.requests") == {
            ("victor.requests", ("interface", "sdk"), ("status", "success")): 1
        }
