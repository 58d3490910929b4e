"""The values of Victor's that become labels are all declared: an undeclared one is lost."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import victor
from victor_otel import labels
from victor_otel.areas import components
from victor_otel.spec import Label


def value_of(member: Any) -> str:
    return member.value


def lower_name_of(member: Any) -> str:
    return member.name.lower()


@dataclass(frozen=True)
class Enumeration:
    """An enumeration, the label that holds it, and how a member becomes its value."""

    path: str
    label: Label
    value: Callable[[Any], str] = value_of

    def undeclared(self) -> set[str]:
        module, _, name = self.path.partition(":")
        members = getattr(importlib.import_module(module), name)
        return {self.value(member) for member in members} - set(self.label.values)


ENUMERATIONS = (
    Enumeration("victor.agent.mode_controller:AgentMode", labels.MODE),
    Enumeration("victor.storage.memory.unified:MemoryType", labels.MEMORY_TYPE, lower_name_of),
    Enumeration("victor.security.protocol:CVESeverity", labels.VULNERABILITY_SEVERITY),
    Enumeration("victor_coding.review.protocol:ReviewSeverity", labels.ISSUE_SEVERITY),
    Enumeration("victor.framework.ingestion.models:DocumentType", labels.DOC_TYPE),
)


@pytest.mark.parametrize("known", ENUMERATIONS, ids=lambda known: known.path)
def test_every_member_is_a_value_of_its_label(known: Enumeration) -> None:
    assert known.undeclared() == set()


def test_every_state_of_health_has_a_number_or_says_nothing() -> None:
    from victor.core.health import HealthStatus

    assert {status.value for status in HealthStatus} - {"unknown"} == set(components._VALUES)


def test_error_categories_fit_into_their_label() -> None:
    """Classes of exceptions share it, so most of its room must be left for them."""
    from victor.core.errors import ErrorCategory

    assert len(ErrorCategory) < labels.ERROR_TYPE.limit / 2


_NO_REJECTION = {
    "result_withheld",  # it ran; the withholding is a security event
    "tool_blocked",  # a streamed turn's note to the model of a call that reached no pipeline
}


def outcome_kinds() -> Iterator[str]:
    """What Victor's source writes as an outcome, which it never enumerates."""
    for path in Path(victor.__path__[0]).rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if "outcome_kind=" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if (
                isinstance(node, ast.keyword)
                and node.arg == "outcome_kind"
                and isinstance(node.value, ast.Constant)
                and isinstance(node.value.value, str)
            ):
                yield node.value.value


def test_every_outcome_of_a_call_that_did_not_run_is_a_reason() -> None:
    kinds = set(outcome_kinds())
    assert "middleware_blocked" in kinds
    assert kinds - _NO_REJECTION - set(labels.REASON.values) == set()
    assert labels.SECURITY_EVENT.values.count("result_withheld") == 1
