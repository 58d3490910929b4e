"""The values of Victor's that become labels are all declared: an undeclared one is lost."""

from __future__ import annotations

import ast
import contextlib
import importlib
from collections.abc import Iterator
from enum import Enum
from pathlib import Path

import pytest
import victor

from victor_otel.victor import enumerations, labels
from victor_otel.victor.areas import components
from victor_otel.victor.enumerations import Enumeration
from victor_otel.victor.verticals import devops


@pytest.mark.parametrize("known", enumerations.ALL, ids=lambda known: known.where.path)
def test_what_we_know_of_an_enumeration_is_what_victor_has(known: Enumeration) -> None:
    defined = set[type[Enum]]()
    for module in known.where.modules:
        with contextlib.suppress(ModuleNotFoundError):
            defined.add(getattr(importlib.import_module(module), known.where.name))
    (members,) = defined
    assert members.__module__ in known.where.modules
    assert known.undeclared(members) == known.lost(members) == ()
    assert known.known or known.compared


def known_of(name: str) -> tuple[str, ...]:
    (found,) = (one.known for one in enumerations.ALL if one.where.name == name)
    return found


def test_every_state_of_health_has_a_number_or_says_nothing() -> None:
    assert set(known_of("HealthStatus")) - {"unknown"} == set(components._VALUES)


def test_every_state_of_a_pipeline_is_an_end_or_is_not() -> None:
    ends = [state for state in known_of("PipelineStatus") if devops.outcome(state)]
    assert ends == ["success", "failure", "cancelled"]
    assert set(ends) <= set(labels.STATUS.values)


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
