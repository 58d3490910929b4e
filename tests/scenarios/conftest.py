"""Victor keeps its state in a place of its own while it works."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kit.agents import sandboxed


@pytest.fixture(scope="session", autouse=True)
def _sandbox() -> Iterator[None]:
    with sandboxed():
        yield
