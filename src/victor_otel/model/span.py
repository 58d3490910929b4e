"""Spans, as an area declares them."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any

from victor_otel.model.declared import declared
from victor_otel.model.operation import Operation, OperationType

AttributeValue = str | bool | int | float | tuple[str, ...]
Attributes = Mapping[str, AttributeValue | None]
"""By their names. None, False, the integer 0, "" and () are left out: there is no false."""


class SpanKind(enum.Enum):
    """Who waits for whom: work inside of the process, a request to another one, or of one."""

    INTERNAL = "internal"
    CLIENT = "client"
    SERVER = "server"


@declared
class Span:
    """One span for each operation of a type, named `operation` and what is known of `named`.

    With `when` only those have one of which it is true as they begin.

    `expect` gives the attributes that its start knows, by which a sampler may decide. Those in
    `facts` are read of the finished operation: the attribute of each fact. `content` gives what
    was said, structured, by the attribute that it goes into; it is asked only where a user wants
    contents.
    """

    of: OperationType[object]
    operation: str = ""
    """Its name in the conventions; empty for what is none, or where `expect` gives it."""
    named: tuple[str, ...] = ()
    """The attributes whose values the name has."""
    kind: SpanKind = SpanKind.INTERNAL
    when: Callable[[Operation], object] | None = None
    expect: Callable[[Operation], Attributes] | None = None
    facts: Mapping[str, str] = field(default_factory=dict[str, str])
    content: Callable[[Operation], Mapping[str, Any]] | None = None

    def __post_init__(self) -> None:
        for fact in self.facts:
            if not self.of.has_fact(fact):
                raise ValueError(f"{self.of.name} has no fact {fact!r}")
