"""Caches: how often each of Victor's caches had an answer.

What a cache answers to a tool call counts with the call, in the area of tools.
"""

from __future__ import annotations

from victor_otel.model.operation import UNSET, Operation
from victor_otel.model.rows import Area, Begins, Feeds, Target
from victor_otel.victor.operations import CACHE_LOOKUP, CacheLookup
from victor_otel.victor.shared import CACHE_REQUESTS


def read_tool_cache(lookup: Operation) -> CacheLookup:
    """A tool outside of the cache's allow-list does not count: its cache was not asked."""
    asked = lookup.argument("tool_name") in lookup.instance.allowlist
    return CacheLookup("tool", _result(lookup) if asked else "")


def read_tiered(lookup: Operation) -> CacheLookup:
    return CacheLookup("tiered", _result(lookup))


def _result(lookup: Operation) -> str:
    return "hit" if lookup.result is not UNSET and lookup.result is not None else "miss"


_TIERED = "victor.storage.cache.tiered_cache:TieredCache"

AREA = Area(
    name="caches",
    rows=(
        # A tool cache asks a tiered cache: one question.
        Begins(
            CACHE_LOOKUP,
            Target("victor.storage.cache.tool_cache:ToolCache.get", arguments=("tool_name",)),
            level=2,
            read=read_tool_cache,
        ),
        *(
            Begins(CACHE_LOOKUP, Target(f"{_TIERED}.{method}"), read=read_tiered)
            for method in ("get", "get_with_rl")
        ),
        Feeds(CACHE_LOOKUP, CACHE_REQUESTS, when="tiered"),
    ),
)
