"""What happens in the demo, as data: who asks what, what the model says, how each thing must end.

The scripts for the model and the plan for the ledger come from the same lines, so a reader can
check the expected numbers by counting.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from victor_otel.demo.script import Script, Step, ToolCall, Usage

Ending = Literal["success", "failure", "cancelled"]
Manner = Literal["to the end", "left after a tool", "cancelled while waiting"]

RAN = frozenset({"success", "failure", "timeout"})
"""Outcomes of a tool call that ran. Any other outcome but HIT is the reason why it did not."""
HIT = "hit"
"""A cache answered the call instead of the tool."""

DENIED = Step(status=401)
"""The cheapest lasting failure: Victor's transport does not try again."""
BUSY = Step(status=500)
"""A passing failure: Victor's transport tries again inside the same call."""


@dataclass(frozen=True)
class Turn:
    """One question of the user and everything that follows from it."""

    prompt: str
    steps: Sequence[Step]
    outcomes: Sequence[str] = ()
    """How each tool call in the steps must end, in order."""
    ends: Ending = "success"
    stream: bool = False
    manner: Manner = "to the end"
    side_calls: int = 0
    """Requests without tools that Victor makes by itself."""

    @property
    def calls(self) -> Sequence[tuple[ToolCall, str]]:
        """Each tool call with its outcome."""
        made = [call for step in self.steps for call in step.calls]
        return list(zip(made, self.outcomes, strict=True))


@dataclass(frozen=True)
class Part:
    """One agent: its model name, which nobody else uses, and its turns."""

    model: str
    turns: Sequence[Turn]

    @property
    def script(self) -> Script:
        """What the model says to this agent."""
        steps = [step for turn in self.turns for step in turn.steps]
        side = DENIED if any(turn.side_calls for turn in self.turns) else Script.side
        return Script(steps, side)


class Scenario:
    """The whole demo: a few agents with a story of their own, then `agents` working in parallel."""

    def __init__(self, agents: int = 4) -> None:
        self._token = secrets.token_hex(4)
        self.soloists = (
            Part("demo-reader", self._reader("demo-reader")),
            Part("demo-second-reader", self._second_reader("demo-reader")),
            Part("demo-calculator", self._calculator()),
            Part("demo-unlucky", self._unlucky()),
            Part("demo-outage", self._outage()),
            Part("demo-flaky", self._flaky()),
            Part("demo-leaver", self._leaver()),
        )
        workers = {f"demo-worker-{number:02}": number for number in range(1, agents + 1)}
        self.workers = tuple(Part(me, self._worker(me, number)) for me, number in workers.items())

    @property
    def parts(self) -> Sequence[Part]:
        return (*self.soloists, *self.workers)

    @property
    def scripts(self) -> Mapping[str, Script]:
        """What the model server needs."""
        return {part.model: part.script for part in self.parts}

    @property
    def files(self) -> Sequence[str]:
        """The files that must exist, relative to the working directory."""
        return [self._file(part.model) for part in self.parts]

    def _file(self, who: str) -> str:
        """Give a name that no other session has used: one of Victor's caches outlives the agent."""
        return f"{who}-{self._token}.txt"

    def _read(self, who: str) -> ToolCall:
        return ToolCall("read", {"path": self._file(who)})

    def _reader(self, me: str) -> Sequence[Turn]:
        """Victor's own tools, and what it does when a file is read once more."""
        read, look = self._read(me), ToolCall("ls", {"path": "."})
        return (
            _asked(
                f"Read the file {self._file(me)} and tell me what it says.",
                (read,),
                (read,),
                outcomes=("success", HIT),
            ),
            _asked(
                f"Read the file {self._file(me)} again and list the folder beside it.",
                (read, look),
                outcomes=("duplicate_read", "success"),
                stream=True,
            ),
        )

    def _second_reader(self, theirs: str) -> Sequence[Turn]:
        """Read what another agent has read before: Victor's shared cache answers."""
        prompt = f"Read the file {self._file(theirs)} and tell me what it says."
        return (_asked(prompt, (self._read(theirs),), outcomes=(HIT,)),)

    def _calculator(self) -> Sequence[Turn]:
        """Use the application's tool, make a call twice at once, and invent a tool."""
        return (
            _asked(
                "Read the numbers 1 and 2 and tell me their sum.",
                (_sum(1), _sum(1)),
                outcomes=("success", "duplicate_in_batch"),
            ),
            _asked(
                "Read the numbers 3 and 4 and tell me their product.",
                (ToolCall("demo_invented_by_the_model", {"a": 3}),),
                outcomes=("tool_unavailable",),
            ),
        )

    def _unlucky(self) -> Sequence[Turn]:
        """Meet a tool that raises, one that takes too long, and try the first again."""
        fail, slow = (ToolCall(name, {"subject": "x"}) for name in ("demo_fail", "demo_slow"))
        prompt = "Read the file of failures and tell me what it says."
        outcomes = ("failure", "timeout", "repeated_failure")
        return (_asked(prompt, (fail, slow), (fail,), outcomes=outcomes),)

    def _outage(self) -> Sequence[Turn]:
        """Meet a provider that refuses: without a stream Victor asks three more times."""
        prompt = "Read the file of outages and tell me what it says."
        return (
            Turn(prompt, (DENIED,), ends="failure", side_calls=3),
            Turn(prompt, (DENIED,), ends="failure", stream=True),
        )

    def _flaky(self) -> Sequence[Turn]:
        """Meet a provider that fails once: Victor's transport hides it inside one call."""
        prompt = "Read the numbers 5 and 6 and tell me their sum."
        turn = _asked(prompt, (_sum(5),), outcomes=("success",))
        return (replace(turn, steps=(BUSY, *turn.steps)),)

    def _leaver(self) -> Sequence[Turn]:
        """Stop reading a stream, and interrupt an agent that waits for its provider."""
        return (
            Turn(
                "Read the numbers 7 and 8 and tell me their sum.",
                (Step(calls=(_sum(7),), usage=Usage(prompt=90, completion=9)),),
                ("success",),
                ends="cancelled",
                stream=True,
                manner="left after a tool",
            ),
            Turn(
                "Read the numbers 9 and 10 and tell me their sum.",
                (Step(silent=True),),
                ends="cancelled",
                manner="cancelled while waiting",
            ),
        )

    def _worker(self, me: str, number: int) -> Sequence[Turn]:
        """Work at the same time as many others alike: their numbers must not mix."""
        return (
            _asked(
                f"Read the file {self._file(me)} and tell me what it says.",
                (self._read(me), _sum(number)),
                outcomes=("success", "success"),
            ),
            _asked(
                f"Read the number {number} and tell me a sum.",
                (_sum(number + 100), ToolCall("demo_fail", {"subject": me})),
                outcomes=("success", "failure"),
                stream=True,
            ),
        )


def _asked(
    prompt: str,
    *rounds: Sequence[ToolCall],
    outcomes: Sequence[str],
    stream: bool = False,
) -> Turn:
    """Make the common turn: the model calls tools, round by round, and then answers."""
    asking = [
        Step(calls=calls, usage=Usage(prompt=120, completion=15, cached=64)) for calls in rounds
    ]
    answer = Step("That is all. Task complete.", usage=Usage(prompt=160, completion=6, cached=128))
    return Turn(prompt, (*asking, answer), outcomes, stream=stream)


def _sum(number: int) -> ToolCall:
    return ToolCall("demo_sum", {"a": number, "b": number + 1})
