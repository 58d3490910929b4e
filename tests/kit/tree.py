"""The tree of a session: as it was planned and counted, and as spans show it.

Spans are read wherever they are by now, in this process or in a backend, into the same `Seen`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan

from victor_otel.demo.expected import TRANSIENT
from victor_otel.demo.extras import WORKFLOW
from victor_otel.demo.model import Answer
from victor_otel.demo.scenario import HIT, Part, Scenario, Turn

FAILED = frozenset({"failure", "timeout"})
"""The endings that are errors."""


class Node(NamedTuple):
    """One operation and what it did, in the order of the beginnings."""

    name: str
    ending: str
    """Its status; of a tool that did not run the reason, or that a cache answered."""
    below: tuple[Node, ...] = ()
    kind: str = "internal"
    tokens: tuple[int, int] = (0, 0)
    """Of a call to a model: those that went in, and those that came out."""
    is_error: bool = False


Conversation = tuple[Node, ...]
"""The turns of one session, one after the other."""


def node(name: str, ending: str, *below: Node, **options: Any) -> Node:
    """What a span must be like; whether it is an error, its ending says."""
    return Node(name, ending, below, is_error=ending in FAILED, **options)


def chat(model: str, ending: str = "success", tokens: tuple[int, int] = (0, 0)) -> Node:
    return node(f"chat {model}", ending, kind="client", tokens=tokens)


def tool(name: str, ending: str = "success", *below: Node) -> Node:
    known = "unknown" if ending == "tool_unavailable" else name
    return node(f"execute_tool {known}", ending, *below)


def answered(answer: Answer) -> Node:
    """The call of a request that the model's server answered, or left without an answer."""
    usage = answer.usage
    ending = "cancelled" if answer.status == 0 else "success" if usage else "failure"
    return chat(answer.model, ending, (usage.prompt, usage.completion) if usage else (0, 0))


# The demo's, as its plan and the server of its model have it.


def of_demo(scenario: Scenario, answers: Iterable[Answer]) -> list[Conversation]:
    """What `victor-otel demo` must leave, with the plan's outcomes and the server's answers."""
    given: defaultdict[str, list[Answer]] = defaultdict(list)
    for answer in answers:
        given[answer.model].append(answer)
    sessions = [_session(part, iter(given[part.model])) for part in scenario.parts]
    runs = (node(f"invoke_workflow {WORKFLOW}", ending) for ending in ("success", "failure"))
    return sorted([*sessions, tuple(runs)])


def _session(part: Part, answers: Iterator[Answer]) -> Conversation:
    turns = [node("invoke_agent victor", turn.ends, *_turn(turn, answers)) for turn in part.turns]
    assert list(answers) == []
    return tuple(turns)


def _turn(turn: Turn, answers: Iterator[Answer]) -> Iterator[Node]:
    steps, outcomes = iter(turn.steps), iter(turn.outcomes)
    for answer in islice(answers, len(turn.steps) + turn.side_calls):
        calls = () if answer.side else next(steps).calls
        if answer.status not in TRANSIENT:  # else Victor asks once more in the same call
            yield answered(answer)
        for call, outcome in zip(calls, outcomes, strict=False):
            yield tool(call.name, outcome)


# What spans show.


class Seen(NamedTuple):
    """A span, wherever it was found."""

    id: str
    parent: str
    begun: int
    name: str
    kind: str
    is_error: bool
    attributes: Mapping[str, Any]


def seen(span: ReadableSpan) -> Seen:
    """One of OpenTelemetry's own."""
    return Seen(
        id=trace.format_span_id(span.context.span_id),
        parent=trace.format_span_id(span.parent.span_id) if span.parent else "",
        begun=span.start_time or 0,
        name=span.name,
        kind=span.kind.name.lower(),
        is_error=span.status.status_code is trace.StatusCode.ERROR,
        attributes=span.attributes or {},
    )


def conversations(spans: Iterable[Seen]) -> list[Conversation]:
    """The turns of each conversation; those outside of any are one as well."""
    below: defaultdict[str, list[Seen]] = defaultdict(list)
    for span in sorted(spans, key=lambda span: span.begun):
        below[span.parent].append(span)

    def grown(span: Seen) -> Node:
        assert ("error.type" in span.attributes) is span.is_error, span
        return Node(
            span.name,
            _ending(span.attributes),
            tuple(map(grown, below.pop(span.id, ()))),
            kind=span.kind,
            tokens=_tokens(span.attributes),
            is_error=span.is_error,
        )

    found: defaultdict[str, list[Node]] = defaultdict(list)
    for root in below.pop("", ()):
        found[root.attributes.get("gen_ai.conversation.id", "")].append(grown(root))
    assert not below, f"orphans: {list(below.values())}"
    return sorted(map(tuple, found.values()))


def _ending(attributes: Mapping[str, Any]) -> str:
    cached = HIT if attributes.get("victor.tool.cached") else ""
    return (
        attributes.get("victor.tool.rejection") or cached or attributes["victor.operation.status"]
    )


def _tokens(attributes: Mapping[str, Any]) -> tuple[int, int]:
    into, out = (attributes.get(f"gen_ai.usage.{way}_tokens", 0) for way in ("input", "output"))
    return int(into), int(out)


def hold(seen: Sequence[Conversation], expected: Sequence[Conversation]) -> None:
    """Compares them as docs/spans.md draws a tree, for whoever reads a failure, and in all else."""
    assert "\n".join(map(_drawn, seen)) == "\n".join(map(_drawn, expected))
    assert seen == expected


def _drawn(nodes: Sequence[Node], depth: int = 0) -> str:
    return "\n".join(
        f"{'  ' * depth}{one.name}: {one.ending}\n{_drawn(one.below, depth + 1)}".rstrip()
        for one in nodes
    )
