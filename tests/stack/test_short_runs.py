"""Short runs add up exactly, whoever lives and dies beside them."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest

from tests.stack.processes import collector, prometheus, wait_until
from tests.stack.replica import replica
from tests.stack.short_runs import NO_MODEL, added_up, alive, missed, play, pushing, served

pytestmark = pytest.mark.stack

RUNS = 200
# As shipped. So often nobody pushes: that a living replica does not flicker with two pushes in this
# time is for the long test.
EXPIRY = 30
EXPORT_INTERVAL = 1


def test_200_short_runs_add_up_while_one_of_two_replicas_is_killed() -> None:
    with (
        collector() as gateway,
        prometheus(collectors=[gateway]) as scraping,
        replica(NO_MODEL, **pushing("stays", gateway, EXPORT_INTERVAL)) as stays,
        replica(NO_MODEL, **pushing("dies", gateway, EXPORT_INTERVAL)) as dies,
        ThreadPoolExecutor() as threads,
    ):
        for each, requests in ((stays, 3), (dies, 5)):
            assert [each.modes() for _ in range(requests)] == [200] * requests
        wait_until(lambda: served(scraping.url) == {"stays": 3, "dies": 5})
        wait_until(lambda: alive(scraping.url) == {"stays", "dies"})
        began = time.monotonic()

        playing = threads.submit(play, gateway.otlp_http, RUNS)
        dies.process.kill()
        wait_until(lambda: alive(scraping.url) == {"stays"}, EXPIRY + 5)
        playing.result()
        wait_until(lambda: added_up(scraping.url, gateway, RUNS))

        assert stays.modes() == 200
        wait_until(lambda: served(scraping.url) == {"stays": 4, "dies": 5})
        page = urlsplit(gateway.long_metrics).netloc
        assert missed(scraping.url, "stays", page, began) == 0
