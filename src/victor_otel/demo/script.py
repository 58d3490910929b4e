"""What a scripted model says: plain data, so that a scenario reads like a dialogue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Usage:
    """Tokens of one answer, as a provider would bill them; `cached` is a part of `prompt`."""

    prompt: int
    completion: int
    cached: int = 0

    @property
    def tokens(self) -> Mapping[str, int]:
        """By the types that the metrics tell apart."""
        return {"input": self.prompt, "output": self.completion, "cache_read": self.cached}


@dataclass(frozen=True)
class ToolCall:
    """A tool call that the model makes. The name may be invented."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Step:
    """One answer of the model: text, tool calls, or an HTTP error, after a delay."""

    text: str = ""
    calls: Sequence[ToolCall] = ()
    usage: Usage = Usage(prompt=11, completion=7)
    status: int = 200
    delay: float = 0.0
    """Seconds before the answer, cut short when the server closes."""
    silent: bool = False
    """Never answer: whoever asked has to give up."""


@dataclass(frozen=True)
class Script:
    """What one model name answers, step by step; the last step repeats.

    `side` answers requests that offer no tools. Victor makes some of these by itself (recovery,
    judging), so they must not use up a step of the dialogue.
    """

    steps: Sequence[Step]
    side: Step = Step("OK.", usage=Usage(prompt=5, completion=1))
