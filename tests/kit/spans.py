"""Spans of real work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.kit.agents import recording
from tests.kit.traced import Traced

SECRET = "my secret"


@contextmanager
def tracing(traced: Traced | None = None) -> Iterator[Traced]:
    """Instrumented into a TracerProvider of the test's own, and nothing is wrong afterwards."""
    traced = traced or Traced()
    with recording(traced=traced):
        yield traced
    assert traced.problems() == []
