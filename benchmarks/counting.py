"""Steps of the interpreter: instructions of bytecode, as many in each run of the same work."""

from __future__ import annotations

import sys

from benchmarks.interleaved import State

_WARM, _TIMES = 20, 5


async def steps(state: State) -> float:
    """How many steps the work of a state takes once, whatever each of them takes."""
    with state.around():
        await state.work(_WARM)
        return await _counted(state) / _TIMES


async def _counted(state: State) -> int:
    monitoring, taken = sys.monitoring, 0

    def step(_code: object, _offset: int) -> None:
        nonlocal taken
        taken += 1

    tool, event = monitoring.PROFILER_ID, monitoring.events.INSTRUCTION
    monitoring.use_tool_id(tool, __name__)
    monitoring.register_callback(tool, event, step)
    monitoring.set_events(tool, event)
    try:
        await state.work(_TIMES)
    finally:
        monitoring.set_events(tool, 0)
        monitoring.free_tool_id(tool)
    return taken
