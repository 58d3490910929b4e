"""Our own errors fail the suite instead of being swallowed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from victor_otel import failsafe, instrumentation


@pytest.fixture(autouse=True)
def _strict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failsafe, "STRICT", True)


@pytest.fixture(autouse=True)
def _off_afterwards() -> Iterator[None]:
    yield
    instrumentation.deactivate()
