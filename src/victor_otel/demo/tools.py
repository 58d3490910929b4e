"""The demo's own tools. They count themselves: nobody knows better whether a tool really ran."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from victor_otel.demo.victor_parts import part

TIME_LIMIT = 0.5
"""Seconds that Victor gives the slow tool; the smallest that a busy machine does not reach."""


def own_tools(note: Callable[[str, str], None]) -> Sequence[Any]:
    """Make the tools. Each calls `note(tool, status)` once for each time that it ran."""
    tool = part("victor.tools.decorators", "tool")

    @tool
    async def demo_sum(a: int, b: int) -> str:
        """Add two numbers.

        Args:
            a: One number.
            b: The other number.
        """
        note("demo_sum", "success")
        return str(a + b)

    @tool
    async def demo_fail(subject: str) -> str:
        """Fail at something.

        Args:
            subject: What to fail at.
        """
        note("demo_fail", "failure")
        message = f"failed at {subject}"
        raise ValueError(message)

    @tool(timeout=TIME_LIMIT)
    async def demo_slow(subject: str) -> str:
        """Take longer than allowed.

        Args:
            subject: What to be slow at.
        """
        try:
            await asyncio.sleep(60 * TIME_LIMIT)
        except asyncio.CancelledError:
            note("demo_slow", "timeout")
            raise
        note("demo_slow", "success")
        return f"done with {subject}"

    return [demo_sum, demo_fail, demo_slow]
