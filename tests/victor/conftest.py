"""Victor keeps its state in a place of its own while it is tested."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.agents import Recorded, recording, sandboxed


@pytest.fixture(scope="session", autouse=True)
def _sandbox() -> Iterator[None]:
    with sandboxed():
        yield


@pytest.fixture
def recorded() -> Iterator[Recorded]:
    """What Victor does from now on, in a provider of the test's own."""
    with recording() as held:
        yield held


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
