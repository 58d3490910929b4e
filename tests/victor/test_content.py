"""What was said: nowhere by default, and where the switch says so as the conventions have it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from importlib.metadata import EntryPoint
from types import ModuleType
from typing import Any, ClassVar

import pytest
from opentelemetry._logs import _internal as logs
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from tests.kit.agents import agent, model, recording
from tests.kit.providers import own, response
from tests.kit.spans import SECRET
from tests.kit.tools import Bench, asked, double, own_tool
from tests.kit.traced import Traced
from victor_otel.demo.script import Step, ToolCall
from victor_otel.signals.contents import fitted
from victor_otel.signals.settings import CAPTURE, HOOK

SAY = f"The answer is {SECRET}. Task complete."
ASK = f"Read the file of {SECRET} and tell me what it says."
USE = Step(calls=(ToolCall("own_tool", {"number": 7}),))

CONTENTS = {
    "gen_ai.input.messages",
    "gen_ai.output.messages",
    "gen_ai.tool.definitions",
    "gen_ai.tool.call.arguments",
    "gen_ai.tool.call.result",
}


class Events:
    """An application's LoggerProvider, and what it got."""

    def __init__(self) -> None:
        self._kept = InMemoryLogRecordExporter()
        self.provider = LoggerProvider(shutdown_on_exit=False)
        self.provider.add_log_record_processor(SimpleLogRecordProcessor(self._kept))

    def all(self) -> list[Any]:
        return [each.log_record for each in self._kept.get_finished_logs()]


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> Events:
    made = Events()
    monkeypatch.setattr(logs, "_LOGGER_PROVIDER", made.provider)
    return made


async def play(monkeypatch: pytest.MonkeyPatch, mode: str, *, stream: bool = False) -> Traced:
    """One turn with a tool call, under a value of the switch."""
    if mode:
        monkeypatch.setenv(CAPTURE.name, mode)
    traced = Traced()
    tool = own_tool(lambda _, number: f"{number} {SECRET}")
    with recording(traced=traced), model(m=[USE, Step(SAY)]) as served:
        async with agent(served, "m", tool) as created:
            if stream:
                async for _ in created.stream(ASK):
                    pass
            else:
                await created.run(ASK)
    return traced


def contents(span: ReadableSpan) -> dict[str, Any]:
    known = span.attributes or {}
    return {name: json.loads(str(known[name])) for name in CONTENTS & known.keys()}


def turns(traced: Traced) -> list[ReadableSpan]:
    """The calls to the model of the turn itself, without those that Victor makes beside it."""
    told = {
        span: str((span.attributes or {}).get("gen_ai.output.messages"))
        for span in traced.named("chat m")
    }
    return [span for span, output in told.items() if "own_tool" in output or SECRET in output]


def answers(outputs: list[Any]) -> list[list[str]]:
    return [texts(output, "assistant") for output in outputs]


def texts(messages: list[Any], role: str) -> list[str]:
    parts = [part for one in messages if one["role"] == role for part in one["parts"]]
    return [part["content"] for part in parts if part["type"] == "text"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_on_spans_it_is_json_in_the_shape_of_the_conventions(
    stream: bool, monkeypatch: pytest.MonkeyPatch, events: Events
) -> None:
    traced = await play(monkeypatch, "span_only", stream=stream)
    first, last = turns(traced)
    (tool,) = traced.named("execute_tool own_tool")
    said = contents(first)
    assert ASK in str(texts(said["gen_ai.input.messages"], "user"))
    assert said["gen_ai.output.messages"][0]["role"] == "assistant"
    (asked,) = (
        part for part in said["gen_ai.output.messages"][0]["parts"] if part["type"] == "tool_call"
    )
    assert (asked["name"], asked["arguments"]) == ("own_tool", {"number": 7})
    defined = said["gen_ai.tool.definitions"]
    assert {key for one in defined for key in one} == {"type", "name", "description"}
    said = contents(last)
    assert texts(said["gen_ai.output.messages"], "assistant") == [SAY]
    responses = [
        part
        for one in said["gen_ai.input.messages"]
        for part in one["parts"]
        if part["type"] == "tool_call_response"
    ]
    assert SECRET in str(responses)
    arguments = contents(tool)["gen_ai.tool.call.arguments"]
    assert arguments == {"number": 7}
    assert contents(tool)["gen_ai.tool.call.result"] == f"7 {SECRET}"
    assert events.all() == []


async def test_of_a_call_that_was_left_out_of_a_batch_it_is_what_the_model_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(CAPTURE.name, "SPAN_ONLY")
    traced = Traced()
    calls = [asked("own_tool", number=number) for number in (1, 2, 3)]
    with recording(traced=traced):
        await Bench(own_tool(double), tool_budget=1).batch(
            calls[0], {**calls[1], "id": "b"}, calls[2]
        )
    known = [contents(span) for span in traced.named("execute_tool own_tool")]
    first, *left_out = (one.get("gen_ai.tool.call.arguments") for one in known)
    # Victor names no call whose model gave it no id, and keeps no arguments of it.
    assert (first, left_out) == ({"number": 1}, [{"number": 2}, None])


async def test_in_events_it_is_structured_and_not_on_spans(
    monkeypatch: pytest.MonkeyPatch, events: Events
) -> None:
    traced = await play(monkeypatch, "EVENT_ONLY")
    assert not any(contents(span) for span in traced.ours)
    spans = traced.named("chat m")
    records = events.all()
    assert [one.event_name for one in records] == [
        "gen_ai.client.inference.operation.details"
    ] * len(spans)
    assert [one.span_id for one in records] == [span.context.span_id for span in spans]
    outputs = [[*one.attributes.get("gen_ai.output.messages", ())] for one in records]
    assert [SAY] in answers(outputs)
    for record, span in zip(records, spans, strict=True):
        shared = {
            name: record.attributes[name] for name in record.attributes if name not in CONTENTS
        }
        assert shared == dict(span.attributes or {})


async def test_both_have_both(monkeypatch: pytest.MonkeyPatch, events: Events) -> None:
    traced = await play(monkeypatch, "Span_And_Event")
    assert all(contents(span) for span in traced.named("chat m"))
    assert len(events.all()) == len(traced.named("chat m"))


async def test_what_is_searched_for_is_content(monkeypatch: pytest.MonkeyPatch) -> None:
    from victor.storage.memory.entity_memory import EntityMemory

    for mode, told in (("SPAN_ONLY", SECRET), ("NO_CONTENT", None)):
        monkeypatch.setenv(CAPTURE.name, mode)
        traced = Traced()
        with recording(traced=traced):
            await EntityMemory().search(SECRET)
        (span,) = traced.named("search_memory")
        text = (span.attributes or {}).get("gen_ai.memory.query.text")
        assert (None if text is None else json.loads(str(text))) == told


@pytest.mark.parametrize("mode", ["", "NO_CONTENT", "true", "false", "all"])
async def test_anything_else_is_nothing(
    mode: str,
    monkeypatch: pytest.MonkeyPatch,
    events: Events,
    caplog: pytest.LogCaptureFixture,
) -> None:
    traced = await play(monkeypatch, mode)
    assert SECRET not in str([dict(span.attributes or {}) for span in traced.ended])
    assert events.all() == []
    warned = CAPTURE.name in caplog.text
    assert warned == (mode in {"true", "false", "all"})
    assert SECRET not in "".join(
        record.getMessage() for record in caplog.records if record.name == "victor_otel"
    )


async def test_without_anybody_for_events_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    traced = await play(monkeypatch, "EVENT_ONLY")
    assert not any(contents(span) for span in traced.ours)


@pytest.mark.parametrize(
    ("structure", "limit", "text"),
    [
        ("abcdef", 100, '"abcdef"'),
        (["abcdefghijkl", "gh"], 20, '["abcde...", "gh"]'),
        ({"a": [1, None, True, 1.5]}, 100, '{"a": [1, null, true, 1.5]}'),
        ({"a": float("nan")}, 100, '{"a": "float"}'),
        ([object], 100, '["type"]'),
        ([1111, 2222, 3333], 12, "[2222, 3333]"),
        ({"a": 123456}, 5, ""),
        ({1: "a", (): "b"}, 100, '{"1": "a", "tuple": "b"}'),
    ],
    ids=str,
)
def test_what_is_too_long_is_cut_inside_of_the_structure(
    structure: Any, limit: int, text: str
) -> None:
    found = fitted(structure, limit)
    assert found == text
    assert len(found) <= limit
    assert not found or json.loads(found) is not None


def test_a_structure_without_an_end_is_cut() -> None:
    endless: list[Any] = []
    endless.append(endless)
    assert json.loads(fitted(endless, 1000))


async def test_the_limit_of_opentelemetry_counts(
    monkeypatch: pytest.MonkeyPatch, events: Events
) -> None:
    monkeypatch.setenv("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "300")
    traced = await play(monkeypatch, "SPAN_ONLY")
    found = [contents(span) for span in traced.named("chat m")]
    assert all(
        len(json.dumps(each, ensure_ascii=False)) <= 300 for one in found for each in one.values()
    )
    assert [SAY] in answers([one["gen_ai.output.messages"] for one in found])


# Hooks. Their interface is opentelemetry-util-genai's.

genai = pytest.importorskip("opentelemetry.util.genai.completion_hook")


class Hook:
    """One that notes what it is given, and edits it."""

    seen: ClassVar[list[dict[str, Any]]] = []

    def on_completion(self, **given: Any) -> None:
        self.seen.append(given)
        for message in (*given["inputs"], *given["outputs"]):
            for part in message.parts:
                if hasattr(part, "content"):
                    part.content = part.content.replace(SECRET, "***")


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    module = ModuleType("own_hook")
    module.__dict__["Hook"] = Hook
    monkeypatch.setitem(sys.modules, "own_hook", module)
    entry = EntryPoint("own", "own_hook:Hook", "opentelemetry_genai_completion_hook")
    monkeypatch.setattr(genai, "entry_points", lambda **_: [entry])
    monkeypatch.setenv(HOOK.name, "own")
    Hook.seen = []
    return Hook.seen


async def test_a_hook_sees_each_call_to_a_model_whatever_the_switch_says(
    hook: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, events: Events
) -> None:
    traced = await play(monkeypatch, "")
    assert len(hook) == len(traced.named("chat m"))
    assert not any(contents(span) for span in traced.ours)
    given: Mapping[str, Any] = hook[-1]
    assert given["span"].get_span_context() == traced.named("chat m")[-1].context
    assert given["outputs"][0].role == "assistant"
    assert given["log_record"] is None


async def test_what_a_hook_edits_is_what_is_recorded(
    hook: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, events: Events
) -> None:
    traced = await play(monkeypatch, "SPAN_AND_EVENT")
    edited = [SAY.replace(SECRET, "***")]
    said = [contents(span).get("gen_ai.output.messages", []) for span in traced.named("chat m")]
    assert edited in answers(said)
    told = [[*one.attributes.get("gen_ai.output.messages", ())] for one in events.all()]
    assert edited in answers(told)
    assert hook[-1]["log_record"] is not None


async def test_what_a_model_gives_a_tool_keeps_its_nulls_behind_a_hook(
    hook: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, events: Events
) -> None:
    asked = {"id": "1", "name": "own_tool", "arguments": {"number": None}}

    async def chat(self: Any, messages: Any, *, model: str, **_: Any) -> Any:
        return response(tool_calls=[asked])

    monkeypatch.setenv(CAPTURE.name, "SPAN_ONLY")
    traced = Traced()
    with recording(traced=traced):
        await own(chat=chat).chat([], model="m")
    assert len(hook) == 1
    (span,) = traced.named("chat m")
    (message,) = contents(span)["gen_ai.output.messages"]
    assert message["parts"][-1] == {"type": "tool_call", **asked}


async def test_a_hook_runs_where_nothing_is_sampled_and_without_a_tracer_provider(
    hook: list[dict[str, Any]],
) -> None:
    asked = 0
    for traced in (Traced(ALWAYS_OFF), None):
        with recording(traced=traced), model(m=[Step(SAY)]) as served:
            async with agent(served, "m") as created:
                await created.run(ASK)
            asked += len(served.answers)
        assert len(hook) == asked > 0


async def test_a_hook_that_is_nowhere_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(HOOK.name, "nowhere")
    await play(monkeypatch, "")
    assert caplog.text.count("nowhere is not a valid option") == 1


async def test_a_hook_without_its_interface_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(HOOK.name, "own")
    monkeypatch.setitem(sys.modules, "opentelemetry.util.genai.completion_hook", None)
    await play(monkeypatch, "")
    assert "pip install opentelemetry-util-genai" in caplog.text
