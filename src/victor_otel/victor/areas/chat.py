"""Chat turns: a question to an agent and its whole answer, streamed or not.

A turn is one outermost call of a chat service. A sub-agent and each member of a team take turns
of their own, which are part of the request that caused them.
"""

from typing import Any, NamedTuple

from victor_otel.model import semconv
from victor_otel.model.metric import Counter, Histogram
from victor_otel.model.operation import Operation, OperationType
from victor_otel.model.rows import Area, Begins, Binds, Feeds, Row, Target, Tells
from victor_otel.model.span import Span
from victor_otel.victor import labels
from victor_otel.victor.operations import CHAT_TURN, PLAN, REQUEST, Plan, Turn
from victor_otel.victor.outcomes import error_type
from victor_otel.victor.shared import FEATURES, read_request
from victor_otel.victor.values import mapping

DURATION = Histogram(
    "victor.chat.request.duration",
    "Duration of a chat turn, including its stream and its wait for earlier turns of its agent",
    unit="s",
    labels=(labels.INTERFACE, labels.VERTICAL, labels.TURN_STATUS),
    buckets=(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0, 45.0, 60.0, 120.0, 300.0, 600.0),
    guide=True,
    of=CHAT_TURN,
    value="seconds",
)
VERTICAL_USAGE = Counter(
    "victor.vertical.usage",
    "Chat turns that ended",
    labels=(labels.VERTICAL, labels.MODE),
    guide=True,
    of=CHAT_TURN,
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


class Answer(NamedTuple):
    """The verdict on an answer, as Victor before 0.13 gives it at the end of a turn."""

    gave_up: bool


ANSWER = OperationType("answer", Answer)


def read_turn(turn: Operation) -> Turn:
    return _turn(turn, _status(turn))


def read_resumed(turn: Operation) -> Turn:
    """A resumed turn may pause once more."""
    waiting = turn.status == "success" and getattr(turn.result, "awaiting_run_id", None)
    return _turn(turn, "paused" if waiting else turn.status)


def _turn(turn: Operation, status: str) -> Turn:
    failed = status in {"failure", "timeout"} and not _failed_within(turn)
    kind = "agentic_loop" if turn.error is None else error_type(turn.error)
    return Turn(
        status=status,
        seconds=turn.elapsed,
        streamed=turn.stream is not None,
        user=turn.context.user,
        agent=turn.agent,
        error_type=kind if failed else "",
        inference_calls=len(turn.told("provider")),
        tool_calls=sum(turn.told("tool")),
    )


def _status(turn: Operation) -> str:
    if turn.status != "success":
        return turn.status
    facts = turn.stream.facts if turn.stream is not None else None
    if facts is not None and facts.cancelled:
        return "cancelled"
    if True in turn.told("gate_request"):
        return "success"  # since 0.13 Victor says failure of a stream that policies refused
    gave_up = (
        _gave_up(turn.result)
        or (facts is not None and facts.gave_up)
        or Answer(gave_up=True) in turn.told("answer")
    )
    return "failure" if gave_up else "success"


def read_answer(call: Operation) -> Answer:
    """A stream's caller sees no answer, so it is looked at where Victor judges it."""
    return Answer(_gave_up(call.argument("response")))


def _failed_within(turn: Operation) -> bool:
    """Whether a turn failed because its plan or a provider failed, which is already counted.

    Victor apologises through the same provider, which may have recovered by then.
    """
    plan: Plan | None = turn.last_told("plan")
    if plan is not None and plan.failed:
        return True
    if turn.error is None:
        return True in turn.told("provider")
    return bool(turn.last_told("provider"))


def _rows(target: Target, read: Any) -> tuple[Row, ...]:
    """A function that is a chat turn, and a request unless it runs inside of one."""
    return (
        Begins(REQUEST, target, read=read_request),
        Begins(CHAT_TURN, target, read=read),
    )


_SERVICE = "victor.agent.services.chat_service:ChatService"
# A durable turn that waited for an approval goes on below the chat service.
_RESUMED = Target("victor.agent.durable_resume:resume_paused_run", arguments=("orchestrator",))

AREA = Area(
    name="chat",
    metrics=(DURATION, VERTICAL_USAGE),
    rows=(
        *_rows(Target(f"{_SERVICE}.chat"), read_turn),
        *_rows(Target(f"{_SERVICE}.chat_with_planning"), read_turn),
        *_rows(Target(f"{_SERVICE}.stream_chat", stream=Chunks), read_turn),
        Binds(_RESUMED, owner=lambda turn: turn.argument("orchestrator")),
        *_rows(_RESUMED, read_resumed),
        Tells(REQUEST, "turn", CHAT_TURN),
        Begins(
            ANSWER,
            Target(f"{_SERVICE}._response_execution_success", arguments=("response",)),
            read=read_answer,
        ),
        Tells(CHAT_TURN, "answer", ANSWER),
        Tells(CHAT_TURN, "plan", PLAN),
        Feeds(CHAT_TURN, FEATURES, when="streamed", labels={"feature": "streaming"}),
    ),
    spans=(Span(CHAT_TURN, "invoke_agent", named=(semconv.AGENT_NAME,)),),
)
