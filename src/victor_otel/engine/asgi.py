"""An ASGI application's requests as calls: one middleware, no framework."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from victor_otel.engine import failsafe
from victor_otel.engine.nesting import enter, leave
from victor_otel.engine.plan import Plan


@dataclass(slots=True)
class Response:
    """What was answered. `status` is None when nothing was sent."""

    status: int | None = None
    finished: bool = False
    disconnected: bool = False


def installer(plan: Plan, attribute: str) -> Callable[[Any], None]:
    """A function that puts the middleware in front of the application that `attribute` holds."""

    def install(instance: Any) -> None:
        try:
            getattr(instance, attribute).add_middleware(Middleware, plan=plan, server=instance)
        except Exception as error:
            failsafe.caught(plan.engine.health, plan.target, error)

    return install


class Middleware:
    """Follows each HTTP request to the end of its response, and each WebSocket."""

    def __init__(self, app: Any, plan: Plan, server: Any) -> None:
        self._app = app
        self._plan = plan
        self._server = server

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if not self._plan.engine.enabled:
            await self._app(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._app(scope, receive, self._flushing(send))
        elif scope["type"] in {"http", "websocket"}:
            await self._follow(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _flushing(self, send: Any) -> Any:
        """Exports when the server has shut down: uvicorn then dies of the signal it caught."""
        engine = self._plan.engine

        async def watch(message: Any) -> None:
            if message["type"].startswith("lifespan.shutdown."):
                try:
                    await asyncio.to_thread(engine.flush)
                except Exception as error:
                    failsafe.caught(engine.health, "asgi.lifespan", error)
            await send(message)

        return watch

    async def _follow(self, scope: Any, receive: Any, send: Any) -> None:
        plan = self._plan
        entry = plan.enter(self._server, (scope,), {})
        if entry is None:
            await self._app(scope, receive, send)
            return
        response = Response()

        async def watch_receive() -> Any:
            message = await receive()
            if message["type"] == "http.disconnect" and not response.finished:
                response.disconnected = True
            return message

        async def watch_send(message: Any) -> None:
            try:
                await send(message)
            except OSError:  # how servers of ASGI 2.4 say that the client has left
                response.disconnected = True
                raise
            if message["type"] == "http.response.start":
                response.status = message["status"]
            elif message["type"] == "http.response.body" and not message.get("more_body"):
                response.finished = True

        token = enter(entry)
        try:
            await self._app(scope, watch_receive, watch_send)
        except BaseException as error:
            plan.fail(entry, token, error, response)
            raise
        leave(entry, token)
        plan.exit(entry, response, None)
