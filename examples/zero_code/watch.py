"""An ordinary Victor program. It knows nothing of metrics."""

from __future__ import annotations

import asyncio

from victor.framework import Agent


async def main() -> None:
    agent = await Agent.create()
    while True:
        result = await agent.run("List the files here and tell me what is new.")
        print(result.content)
        await asyncio.sleep(600)


if __name__ == "__main__":
    asyncio.run(main())
