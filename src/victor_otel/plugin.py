"""Victor's plugin: switches the instrumentation on and adds `victor otel`.

Victor's command line registers plugins while it is imported, even for `--help`. So
registering installs import hooks and a command, and opens nothing.
"""

from __future__ import annotations

import logging
from typing import Any

logger = logging.getLogger("victor_otel")


class _Command:
    """The Typer application of `victor otel`, imported when Victor's command line looks at it.

    A script that has plugins loaded needs neither the command nor Typer.
    """

    def __getattr__(self, name: str) -> Any:
        from victor_otel.cli import subcommand

        return getattr(subcommand, name)


class OtelPlugin:
    """Satisfies Victor's runtime-checkable `VictorPlugin` protocol; raises nothing."""

    @property
    def name(self) -> str:
        return "otel"

    def register(self, context: Any) -> None:
        """Called once or more by Victor's bootstrap."""
        try:
            from victor_otel.runtime import RUNTIME, note_activation

            note_activation()
            RUNTIME.activate()
            context.register_command("otel", _Command())
        except Exception:
            logger.warning("victor-otel could not be switched on.", exc_info=True)

    def get_cli_app(self) -> None:
        """The older way to add a command; `register` has done it."""

    def on_activate(self) -> None: ...

    def on_deactivate(self) -> None: ...

    async def on_activate_async(self) -> None: ...

    async def on_deactivate_async(self) -> None: ...

    def health_check(self) -> dict[str, Any]:
        """Healthy as long as no hook misses its target."""
        from victor_otel.runtime import RUNTIME

        current = RUNTIME.instrumentation
        if current is None:
            return {"healthy": False, "reason": "not switched on"}
        missing = [hook for hook, state in current.health.hooks.items() if state == "missing"]
        return {"healthy": not missing, "missing_hooks": missing}


plugin = OtelPlugin()
