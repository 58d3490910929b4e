"""Tools, and a bench on which they are called."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


class Bench:
    """Victor's registry, executor and pipeline, wired as an orchestrator wires them."""

    def __init__(self, *tools: Any, **options: Any) -> None:
        from victor.agent.tool_executor import ToolExecutor
        from victor.agent.tool_pipeline import ToolPipeline, ToolPipelineConfig
        from victor.core.retry import ExponentialBackoffStrategy
        from victor.tools.registry import ToolRegistry

        pipeline = {
            name: options.pop(name)
            for name in ("permission_policy", "middleware_chain", "deduplication_tracker")
            if name in options
        }
        executor = {
            name: options.pop(name)
            for name in ("safety_checker", "rbac_manager", "tool_cache", "current_user")
            if name in options
        }
        self.registry = ToolRegistry()
        for tool in tools:
            self.registry.register(tool)
        self.executor = ToolExecutor(
            self.registry,
            retry_strategy=ExponentialBackoffStrategy(
                max_attempts=3, base_delay=0.02, max_delay=0.02, jitter=0.0
            ),
            **executor,
        )
        self.pipeline = ToolPipeline(
            self.registry, self.executor, config=ToolPipelineConfig(**options), **pipeline
        )

    async def batch(self, *calls: Any, **context: Any) -> Any:
        return await self.pipeline.execute_tool_calls(list(calls), context)

    async def call(self, name: str, **arguments: Any) -> Any:
        return (await self.batch(asked(name, **arguments))).results[0]


def asked(name: str, **arguments: Any) -> dict[str, Any]:
    """A call as the model makes it."""
    return {"name": name, "arguments": arguments}


def own_tool(run: Callable[..., Any], *, name: str = "own_tool", **options: Any) -> Any:
    """A tool class of an application's own; `run(tool, number)` may be asynchronous."""
    from victor.tools.base import BaseTool, ToolResult

    def execute_name(self: Any) -> str:
        return name

    async def execute(self: Any, _exec_ctx: Any, **kwargs: Any) -> Any:
        answer = run(self, **kwargs)
        if asyncio.iscoroutine(answer):
            answer = await answer
        return answer if isinstance(answer, ToolResult) else ToolResult(success=True, output=answer)

    members = {
        "name": property(execute_name),
        "description": property(lambda _: "Does something with a number."),
        "parameters": property(
            lambda _: {
                "type": "object",
                "properties": {"number": {"type": "integer"}},
                "required": ["number"],
            }
        ),
        "execute": execute,
        **options,
    }
    return type("OwnTool", (BaseTool,), members)()


def double(_tool: Any, number: int) -> str:
    return str(2 * number)


def shell(runs: list[str] | None = None) -> Any:
    def run(_tool: Any, cmd: str) -> str:
        if runs is not None:
            runs.append(cmd)
        return cmd

    schema = {"type": "object", "properties": {"cmd": {"type": "string"}}, "required": ["cmd"]}
    return own_tool(run, name="shell", parameters=property(lambda _: schema))


def human(answer: bool, *, after: float = 0.0) -> Any:
    """A safety checker that asks somebody."""
    from victor.agent.safety import SafetyChecker

    async def confirm(_request: Any) -> bool:
        await asyncio.sleep(after)
        return answer

    return SafetyChecker(confirmation_callback=confirm)
