"""Metrics that tests of the recorder record."""

from __future__ import annotations

from typing import Any

from tests.engine.points import BY_KIND
from victor_otel.model.metric import Kind, Label, Metric

STATUS = Label(name="status", values=("success", "failure"), meaning="outcome")

TOOL = Label(name="tool", limit=3, meaning="tool")

USER = Label(name="user", limit=200, meaning="user")


def metric(kind: Kind = Kind.COUNTER, *labels: Label, **options: Any) -> Metric:
    return BY_KIND[kind](f"test.{kind.value}", "m", labels=labels, **options)
