"""Victor's enumerations whose members we read by their values.

A member that we do not know is recorded as `other`, or not at all, and one
that we compare with and that is gone never matches again, both in silence: so each
enumeration stands here once, with what we know of it, and is looked at in the installed
Victor by the tests, by `doctor` and by a metric (drift.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from victor_otel.model.declared import declared
from victor_otel.victor import labels
from victor_otel.victor.classes import VictorClass

__all__ = ["ALL", "Enumeration"]


def value_of(member: Any) -> str:
    return str(member.value)


def lower_name_of(member: Any) -> str:
    return str(member.name).lower()


@declared
class Enumeration:
    """An enumeration, where it is defined, and how a member becomes the word that we read."""

    where: VictorClass
    known: tuple[str, ...] = ()
    """Every word that is recorded as itself, or left out on purpose; empty: any word will do."""
    compared: tuple[str, ...] = ()
    """Words that must be members, since a number hangs on a comparison with them."""
    word: Callable[[Any], str] = value_of

    def undeclared(self, members: Iterable[Any]) -> tuple[str, ...]:
        """The words of members that are not known."""
        words = (self.word(member) for member in members)
        return tuple(word for word in words if self.known and word not in self.known)

    def lost(self, members: Iterable[Any]) -> tuple[str, ...]:
        """The words that no member has any more."""
        words = {self.word(member) for member in members}
        return tuple(word for word in self.compared if word not in words)


ALL = (
    Enumeration(
        # Newer versions define it in the second module, which the first one repeats.
        where=VictorClass(
            "AgentMode", ("victor.agent.mode_controller", "victor.core.mode_controller")
        ),
        known=labels.MODE.values,
    ),
    Enumeration(
        where=VictorClass("MemoryType", ("victor.storage.memory.unified",)),
        known=labels.MEMORY_TYPE.values,
        word=lower_name_of,
    ),
    Enumeration(
        where=VictorClass("CVESeverity", ("victor.security.protocol",)),
        known=labels.VULNERABILITY_SEVERITY.values,
    ),
    Enumeration(
        where=VictorClass("ReviewSeverity", ("victor_coding.review.protocol",)),
        known=labels.ISSUE_SEVERITY.values,
    ),
    Enumeration(
        where=VictorClass("DocumentType", ("victor.framework.ingestion.models",)),
        known=labels.DOC_TYPE.values,
    ),
    Enumeration(
        where=VictorClass("HealthStatus", ("victor.core.health",)),
        # Victor says "unknown" where nobody looked: no number stands for that.
        known=("healthy", "degraded", "unhealthy", "unknown"),
    ),
    Enumeration(
        where=VictorClass("PipelineStatus", ("victor.observability.pipeline.protocol",)),
        # Of these the last three are no end of a run, and count nowhere.
        known=("success", "failure", "cancelled", "running", "pending", "skipped"),
    ),
    Enumeration(
        # Its label is open, so that any category will do, but one tells a tool's timeout.
        where=VictorClass("ErrorCategory", ("victor.core.errors",)),
        compared=("tool_timeout",),
    ),
)
