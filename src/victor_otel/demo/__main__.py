"""The process of `victor-otel demo`: the session, the numbers, and whether they are true."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.live import Live

import victor_otel
from victor_otel import instrumentation
from victor_otel.demo.ledger import Ledger
from victor_otel.demo.model import ScriptedModel
from victor_otel.demo.sandbox import leave_home, sandbox
from victor_otel.demo.scenario import Scenario
from victor_otel.demo.session import run_session
from victor_otel.demo.view import differences, table
from victor_otel.pipeline import Pipeline

Series = Mapping[tuple[str, frozenset[tuple[str, str]]], float]

SESSIONS = 15
"""After so many a new process goes on: Victor keeps some 80 MB of each session (0.9.5)."""


def main(
    *,
    port: int = 9091,
    otlp: str = "",
    agents: int = 4,
    once: Annotated[bool, typer.Option("--once")] = False,
    repeat: Annotated[bool, typer.Option("--repeat")] = False,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Runs the demo; `victor_otel.cli` explains the options."""
    _configure(port, otlp)
    signal.signal(signal.SIGTERM, _leave)
    if repeat:
        _repeat(port, otlp, agents)
    scenario = Scenario(agents)
    with sandbox(), ScriptedModel(scenario.scripts) as model:
        victor_otel.start()
        pipeline = _pipeline(port)
        ledger = Ledger(model)
        where = f"pushed to {otlp}, and at {pipeline.endpoint}" if otlp else str(pipeline.endpoint)

        def session() -> None:
            with asyncio.Runner() as runner:
                _play(runner, model, ledger, scenario)

        if once or as_json:
            session()
        else:
            _watch(session, lambda: table(_observed(pipeline), ledger.expected(), where))
        observed, expected = _observed(pipeline), ledger.expected()
        problems = ledger.problems() + differences(observed, expected)
        delivered = pipeline.flush()
        if as_json:
            print(json.dumps(_as_json(observed, expected, problems, where)), flush=True)
        elif once:
            Console().print(table(observed, expected, where))
        if not once:
            _stay(quiet=as_json, where=where)
    for problem in problems:
        print(problem, file=sys.stderr)
    if not delivered:
        print(f"victor-otel demo: {otlp} did not take the metrics", file=sys.stderr)
    raise typer.Exit(1 if problems or not delivered else 0)


def _play(runner: asyncio.Runner, model: ScriptedModel, ledger: Ledger, scenario: Scenario) -> None:
    with (
        Path(os.devnull).open("w", encoding="utf-8") as nowhere,
        contextlib.redirect_stdout(nowhere),
    ):
        runner.run(run_session(model.url, ledger, scenario))


def _repeat(port: int, otlp: str, agents: int) -> NoReturn:
    """Plays one session after the other, for whoever watches rates and alerts.

    All in one event loop: Victor's event bus lives as long as the process, and waits on a
    queue of the loop in which it began.
    """
    try:
        with sandbox(), asyncio.Runner() as runner:
            victor_otel.start()
            where = otlp or _pipeline(port).endpoint
            Console().print(f"Sessions are played until Ctrl-C; their numbers are at {where}")
            for _ in range(SESSIONS):
                scenario = Scenario(agents)
                with ScriptedModel(scenario.scripts) as model:
                    _play(runner, model, Ledger(model), scenario)
            _pipeline(port).flush()
    except KeyboardInterrupt:
        raise typer.Exit(0) from None
    leave_home()
    os.execv(sys.executable, [sys.executable, "-m", "victor_otel.demo", *sys.argv[1:]])  # noqa: S606


def _leave(_signal: int, _frame: object) -> None:
    """Ends as after Ctrl-C: the sandbox is removed on the way."""
    sys.exit(0)


def _configure(port: int, otlp: str) -> None:
    """The demo's own settings, whatever the user's environment says."""
    for name in list(os.environ):
        if name.startswith(("OTEL_", "VICTOR_OTEL_", "VICTOR_PROMETHEUS_")):
            del os.environ[name]
    os.environ["VICTOR_PROMETHEUS_ENABLED"] = "true"
    os.environ["VICTOR_PROMETHEUS_PORT"] = "0" if otlp else str(port)
    if otlp:
        os.environ["OTEL_METRICS_EXPORTER"] = "otlp"
        os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = otlp
        os.environ["OTEL_METRIC_EXPORT_INTERVAL"] = "1000"
        os.environ["VICTOR_OTEL_EXIT_TIMEOUT"] = "5"


def _pipeline(port: int) -> Pipeline:
    on = instrumentation.current()
    pipeline = on.pipeline if on is not None else None
    if pipeline is None or pipeline.endpoint is None:
        print(
            f"victor-otel demo: port {port} is taken; choose another with --port, 0 picks one",
            file=sys.stderr,
        )
        raise typer.Exit(2)
    return pipeline


def _observed(pipeline: Pipeline) -> Series:
    """What a scrape would show now."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in pipeline.registry.collect()
        for sample in family.samples
    }


def _watch(session: Callable[[], None], render: Callable[[], Any]) -> None:
    with Live(get_renderable=render, refresh_per_second=4, console=Console()):
        session()


def _stay(*, quiet: bool, where: str) -> None:
    if not quiet:
        Console().print(f"The session is over; its numbers stay at {where} until Ctrl-C.")
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()


def _as_json(observed: Series, expected: Series, problems: list[str], where: str) -> dict[str, Any]:
    def points(series: Series) -> list[Any]:
        return [[name, dict(labels), value] for (name, labels), value in series.items()]

    return {
        "where": where,
        "observed": points(observed),
        "expected": points(expected),
        "problems": problems,
    }


if __name__ == "__main__":
    typer.run(main)
