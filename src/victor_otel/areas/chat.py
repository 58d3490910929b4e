"""Chat turns: what an agent was asked, answered as a whole, streaming or not.

A turn is one outermost call of a chat service. The turns of a sub-agent or of a team's
members are turns of their own, and part of the request that caused them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from victor_otel import labels
from victor_otel.shared import (
    CHAT_TURN,
    ERRORS,
    FEATURES,
    REQUEST,
    REQUEST_FEEDS,
    error_type,
    keep_turn,
    observe_turn_request,
    record_error,
)
from victor_otel.spec import Area, Call, Hook, Kind, Metric, Observer, Record, mapping

DURATION = Metric(
    name="victor.chat.request.duration",
    kind=Kind.HISTOGRAM,
    unit="s",
    meaning="Wall time of a chat turn, with its stream and its wait for earlier turns of its agent",
    labels=(labels.INTERFACE, labels.VERTICAL, labels.TURN_STATUS),
    buckets=(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0, 45.0, 60.0, 120.0, 300.0, 600.0),
    guide=True,
)
VERTICAL_USAGE = Metric(
    name="victor.vertical.usage",
    kind=Kind.COUNTER,
    meaning="Chat turns",
    labels=(labels.VERTICAL, labels.MODE),
    guide=True,
)


_CANCELLED = "[Cancelled by user]"
"""How Victor ends the stream of a turn that its user cancelled."""


class Chunks:
    """How far a streamed turn came, without its content."""

    __slots__ = ("cancelled", "complete", "gave_up", "started")

    def __init__(self) -> None:
        self.started = self.complete = self.cancelled = self.gave_up = False

    def add(self, chunk: Any) -> None:
        content = getattr(chunk, "content", None)
        if content:
            self.started = True
        if getattr(chunk, "is_final", False):
            self.complete = True
            self.cancelled = self.cancelled or (content or "").strip() == _CANCELLED
        # Since 0.13 the verdict on a streamed turn is in a chunk, which may bear no content.
        if getattr(chunk, "metadata", None):  # of most chunks there is nothing to read
            self.gave_up = self.gave_up or _gave_up(chunk)


def _gave_up(answer: Any) -> bool:
    """Victor apologises after a provider's failure and calls it a success, except here."""
    metadata = mapping(getattr(answer, "metadata", None))
    plan_failed = mapping(metadata.get("planning")).get("success") is False
    return plan_failed or metadata.get("agentic_loop_success") is False


def turn_status(call: Call) -> str:
    if call.status != "success":
        return call.status
    facts = call.stream.facts if call.stream is not None else None
    if facts is not None and facts.cancelled:
        return "cancelled"
    if any(part.digest for part in call.parts.get("gate_request", ())):
        return "success"  # since 0.13 Victor says failure of a stream that policies refused
    gave_up = (
        _gave_up(call.result)
        or (facts is not None and facts.gave_up)
        or any(part.digest for part in call.parts.get("answer", ()))
    )
    return "failure" if gave_up else "success"


def answer_gave_up(call: Call) -> bool:
    """What Victor before 0.13 judges at the end of a turn; a stream's caller sees no answer."""
    return _gave_up(call.argument("response", 0))


def resumed_status(call: Call) -> str:
    """A resumed turn may pause once more."""
    waiting = call.status == "success" and getattr(call.result, "awaiting_run_id", None)
    return "paused" if waiting else call.status


def observe_turn(call: Call, record: Record) -> None:
    _record_turn(call, turn_status(call), record)


def observe_resumed(call: Call, record: Record) -> None:
    _record_turn(call, resumed_status(call), record)


def _record_turn(call: Call, status: str, record: Record) -> None:
    context = call.context
    record(
        DURATION,
        call.elapsed,
        interface=context.interface,
        vertical=context.vertical,
        status=status,
    )
    record(VERTICAL_USAGE, vertical=context.vertical, mode=context.mode)
    if call.stream is not None:
        record(FEATURES, feature="streaming")
    if status in {"failure", "timeout"} and not _failed_within(call):
        kind = "agentic_loop" if call.error is None else error_type(call.error)
        record_error(record, "chat", kind)


def _failed_within(call: Call) -> bool:
    """A turn that failed because its plan or a provider did is no failure of its own.

    Victor apologises through the same provider, which may have recovered by then.
    """
    plan = call.last_part("plan")
    if plan is not None and plan.digest:
        return True
    if call.error is None:
        return any(part.digest for part in call.parts.get("provider", ()))
    last = call.last_part("provider")
    return last is not None and bool(last.digest)


_TURN_FEEDS = (DURATION, VERTICAL_USAGE, FEATURES, ERRORS)


def _turn(
    target: str,
    *,
    observe: Observer = observe_turn,
    status: Callable[[Call], str] = turn_status,
    stream: type[Any] | None = None,
    owner: Callable[[Call], Any] | None = None,
) -> tuple[Hook, Hook]:
    """A function that is a chat turn, and a request unless it runs inside of one."""
    return (
        Hook(
            target=target,
            scope=CHAT_TURN,
            owner=owner,
            stream=stream,
            observe=observe,
            feeds=_TURN_FEEDS,
        ),
        Hook(
            target=target,
            scope=REQUEST,
            part="turn",
            of=REQUEST,
            digest=keep_turn(status),
            owner=owner,
            stream=stream,
            observe=observe_turn_request,
            feeds=REQUEST_FEEDS,
        ),
    )


_SERVICE = "victor.agent.services.chat_service:ChatService"

AREA = Area(
    name="chat",
    metrics=(DURATION, VERTICAL_USAGE),
    hooks=(
        *_turn(f"{_SERVICE}.chat"),
        *_turn(f"{_SERVICE}.chat_with_planning"),
        *_turn(f"{_SERVICE}.stream_chat", stream=Chunks),
        Hook(
            target=f"{_SERVICE}._response_execution_success",
            part="answer",
            of=CHAT_TURN,
            digest=answer_gave_up,
        ),
        # A durable turn that waited for an approval goes on below the chat service.
        *_turn(
            "victor.agent.durable_resume:resume_paused_run",
            observe=observe_resumed,
            status=resumed_status,
            owner=lambda call: call.argument("orchestrator", 0),
        ),
    ),
)
