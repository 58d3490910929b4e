"""The tiered cache, asked by itself and by the tool cache."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.kit.agents import Recorded

CACHE = "victor.cache.requests"


def tiered() -> Any:
    from victor.storage.cache.config import CacheConfig
    from victor.storage.cache.tiered_cache import TieredCache

    return TieredCache(CacheConfig(enable_disk=False))


def asked(result: str, count: int = 1) -> dict[tuple[Any, ...], float]:
    return {(CACHE, ("cache", "tiered"), ("result", result)): count}


def test_a_miss_and_a_hit_are_one_question_each(recorded: Recorded) -> None:
    held = tiered()
    assert held.get("key") is None
    held.set("key", "value")
    assert held.get("key") == "value"
    assert recorded.points(CACHE) == {**asked("miss"), **asked("hit")}


@pytest.mark.parametrize("value", ["", 0, False, []])
def test_a_value_that_is_false_is_a_hit(recorded: Recorded, value: Any) -> None:
    held = tiered()
    held.set("key", value)
    assert held.get("key") == value
    assert recorded.points(CACHE) == asked("hit")


def test_a_get_inside_a_get_is_the_same_question(recorded: Recorded) -> None:
    held = tiered()
    assert held.get_with_rl("key", tool_name="read") is None
    held.set_with_tool("key", "value", tool_name="read")
    assert held.get_with_rl("key", tool_name="read") == "value"
    assert recorded.points(CACHE) == {**asked("miss"), **asked("hit")}


async def test_questions_from_many_threads_all_count(recorded: Recorded) -> None:
    held = tiered()
    await asyncio.gather(*(asyncio.to_thread(held.get, str(n)) for n in range(20)))
    assert recorded.points(CACHE) == asked("miss", 20)


def test_both_answers_of_both_caches_exist_from_the_start(recorded: Recorded) -> None:
    tiered()
    from victor_otel.runtime import RUNTIME

    RUNTIME.deactivate()
    RUNTIME.activate(recorded.provider).open()
    assert recorded.points(CACHE, zeros=True) == {
        (CACHE, ("cache", cache), ("result", result)): 0
        for cache in ("tool", "tiered")
        for result in ("hit", "miss")
    }
