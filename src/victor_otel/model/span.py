"""Spans, as an area declares them."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import field

from victor_otel.model.declared import declared
from victor_otel.model.operation import Operation, OperationType

AttributeValue = str | bool | int | float
Attributes = Mapping[str, AttributeValue | None]
"""By the name of an attribute. None, False and "" are left out: the conventions have no false."""


class SpanKind(enum.Enum):
    """Who waits for whom: work inside of the process, or a request to another one."""

    INTERNAL = "internal"
    CLIENT = "client"


@declared
class Span:
    """One span for each operation of a type, named `operation` and the value of `named`.

    `expect` gives the attributes that its start knows, by which a sampler may decide. Those in
    `facts` are read of the finished operation: the attribute of each fact.
    """

    of: OperationType[object]
    operation: str
    named: str = ""
    kind: SpanKind = SpanKind.INTERNAL
    expect: Callable[[Operation], Attributes] | None = None
    facts: Mapping[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        for fact in self.facts:
            if not self.of.has_fact(fact):
                raise ValueError(f"{self.operation}: {self.of.name} has no fact {fact!r}")
