"""Our own errors fail the suite instead of being swallowed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from victor_otel.engine import failsafe
from victor_otel.runtime import RUNTIME


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("reliability")
    group.addoption("--long", action="store_true", help="try as often as docs/reliability.md says")
    group.addoption("--rows", metavar="FILE", help="where the results of its table are collected")


@pytest.fixture(autouse=True)
def _strict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failsafe, "STRICT", True)


@pytest.fixture(autouse=True)
def _off_afterwards() -> Iterator[None]:
    yield
    RUNTIME.deactivate()
