"""Caches beside those that answer tool calls, which stand with the tools."""

from __future__ import annotations

from victor_otel.shared import CACHE_REQUESTS
from victor_otel.spec import UNSET, Area, Call, Hook, Record, Scope

_LOOKUP = Scope(name="cache_lookup")
"""A tool cache asks a tiered cache: one question."""


def observe_tiered(call: Call, record: Record) -> None:
    hit = call.result is not UNSET and call.result is not None
    record(CACHE_REQUESTS, cache="tiered", result="hit" if hit else "miss")


_TIERED = "victor.storage.cache.tiered_cache:TieredCache"

AREA = Area(
    name="caches",
    hooks=(
        Hook(target="victor.storage.cache.tool_cache:ToolCache.get", scope=_LOOKUP, level=2),
        *(
            Hook(
                target=f"{_TIERED}.{method}",
                scope=_LOOKUP,
                observe=observe_tiered,
                feeds=(CACHE_REQUESTS,),
            )
            for method in ("get", "get_with_rl")
        ),
    ),
)
