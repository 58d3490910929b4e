"""Workflows of Victor's."""

from __future__ import annotations

from typing import Any


def graph(*steps: Any, **options: Any) -> Any:
    """A compiled graph of the steps, one after the other."""
    from victor.framework.graph import END, StateGraph

    drawn = StateGraph(dict)
    for number, step in enumerate(steps):
        drawn.add_node(str(number), step)
        drawn.add_edge(str(number), str(number + 1) if number + 1 < len(steps) else END)
    drawn.set_entry_point("0")
    return drawn.compile(**options)


def named(*steps: Any, **options: Any) -> Any:
    from victor.workflows.unified_compiler import CachedCompiledGraph

    return CachedCompiledGraph(compiled_graph=graph(*steps), workflow_name="report", **options)
