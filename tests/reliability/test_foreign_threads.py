"""What a tool starts in threads runs as it does without us, whoever replaces Python's own.

The other library is the real sentry-sdk, which replaces `Thread.start` and `Thread.run`, and
one of ours that does what several do: it binds `run` anew on the thread that is started.
"""

from __future__ import annotations

import pytest

from tests.kit.processes import answer

PROGRAM = """
    import asyncio, json, sys, threading
    from concurrent.futures import ThreadPoolExecutor

    library, order = sys.argv[1:]

    def sentry():
        import sentry_sdk
        sentry_sdk.init()

    def rebinding():
        start = threading.Thread.start

        def with_run(thread, *args, **kwargs):
            run = getattr(thread.run, "__func__", thread.run)
            thread.run = lambda: run(thread)
            return start(thread, *args, **kwargs)

        threading.Thread.start = with_run

    def ours():
        import victor_otel
        from opentelemetry.sdk.metrics import MeterProvider
        victor_otel.start(MeterProvider())

    other = {"sentry": sentry, "rebinding": rebinding}[library]
    for patch in (other, ours) if order == "first" else (ours, other):
        patch()

    died, ran = [], []
    threading.excepthook = lambda arguments: died.append(repr(arguments.exc_value))

    class Worker(threading.Thread):
        def run(self):
            ran.append("subclass")

    async def main():
        import anyio
        from tests.kit.agents import agent, model
        from victor.tools.decorators import tool
        from victor_otel.demo.script import Step, ToolCall

        @tool
        async def work(task: str) -> str:
            '''Does it.

            Args:
                task: What.
            '''
            threads = [
                threading.Thread(target=ran.append, args=("thread",)),
                threading.Timer(0, ran.append, ["timer"]),
                Worker(),
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(10)
            with ThreadPoolExecutor(1) as pool:
                pool.submit(ran.append, "executor").result(10)
            await anyio.to_thread.run_sync(ran.append, "anyio")
            await asyncio.to_thread(ran.append, "asyncio")
            child = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
            ran.append(f"child {await asyncio.wait_for(child.wait(), 30)}")
            return "done"

        steps = [Step(calls=(ToolCall("work", {"task": "all"}),)), Step("Task complete.")]
        with model(m=steps) as served:
            async with agent(served, "m", work) as created:
                await created.run("Work on the file, and tell me what it says.")

    from victor_otel.demo import sandbox
    with sandbox():
        asyncio.run(main())
    print(json.dumps([ran, died]))
"""


@pytest.mark.parametrize("library", ["sentry", "rebinding"])
@pytest.mark.parametrize("order", ["first", "last"])
def test_what_a_tool_starts_runs_once(library: str, order: str) -> None:
    ran, died = answer(PROGRAM, library, order)
    each = ["thread", "timer", "subclass", "executor", "anyio", "asyncio", "child 0"]
    assert sorted(ran) == sorted(each)
    assert died == []
