"""What every proof is given: how it scales and reports, and a Victor with a state of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.agents import sandboxed
from tests.reliability.trials import Trials
from victor_otel.engine import failsafe


@pytest.fixture
def trials(request: pytest.FixtureRequest) -> Trials:
    page = request.config.getoption("rows")
    return Trials(long=request.config.getoption("long"), page=Path(page) if page else None)


@pytest.fixture(scope="session", autouse=True)
def sandbox() -> Iterator[None]:
    """Victor keeps its state in a place of its own."""
    with sandboxed():
        yield


@pytest.fixture
def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in production: our own errors are swallowed."""
    monkeypatch.setattr(failsafe, "STRICT", False)


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
