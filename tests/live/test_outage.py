"""An OTLP backend away for five minutes under load, and the Collector killed meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stack.outage import check, play

pytestmark = [pytest.mark.live, pytest.mark.timeout(900)]

MINUTES = 5


def test_a_backend_away_for_minutes_costs_no_more_than_promised(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = play(60 * MINUTES, tmp_path)
    with capsys.disabled():
        print(f"\n{outcome.table()}")
    check(outcome)
