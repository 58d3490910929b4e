"""What every test of the engine is given, and must leave behind."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from tests.engine.bench import Bench
from victor_otel.engine import failsafe
from victor_otel.engine.nesting import CURRENT


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.patcher.undo()


@pytest.fixture(autouse=True)
def _garbage_of_its_own() -> Iterator[None]:
    """What a test collects is what it dropped, not all of Victor, which takes a second each time."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    failsafe.forget()
    yield
    failsafe.forget()
    assert CURRENT.get() is None


@pytest.fixture
def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in production: our own errors are swallowed."""
    monkeypatch.setattr(failsafe, "STRICT", False)
