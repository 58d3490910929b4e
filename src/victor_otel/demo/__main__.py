"""The process of `victor-otel demo`: the session, the numbers, and whether they are true."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.live import Live

import victor_otel
from victor_otel.demo.ledger import Ledger
from victor_otel.demo.model import ScriptedModel
from victor_otel.demo.sandbox import leave_home, sandbox
from victor_otel.demo.scenario import Scenario
from victor_otel.demo.session import run_session
from victor_otel.demo.view import differences, verdict
from victor_otel.numbers import History, Series, series_of
from victor_otel.runtime import RUNTIME
from victor_otel.signals.pipeline import Pipeline
from victor_otel.terminal import Board, Page

_PAUSE = 0.5
"""Seconds between two looks."""

SESSIONS = 15
"""After so many a new process goes on: Victor keeps some 80 MB of each session (0.9.5)."""


def main(
    *,
    port: int = 9091,
    otlp: str = "",
    traces: str = "",
    agents: int = 4,
    once: Annotated[bool, typer.Option("--once")] = False,
    repeat: Annotated[bool, typer.Option("--repeat")] = False,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Runs the demo; `victor_otel.cli` explains the options."""
    _configure(port, otlp, traces)
    signal.signal(signal.SIGTERM, _leave)
    if repeat:
        _repeat(port, otlp, agents)
    scenario = Scenario(agents)
    watched = sys.stdout.isatty() and not (once or as_json)
    with sandbox(), ScriptedModel(scenario.scripts) as model:
        victor_otel.start()
        pipeline = _pipeline(port)
        ledger = Ledger(model)
        where = f"pushed to {otlp}, and at {pipeline.endpoint}" if otlp else str(pipeline.endpoint)

        def session() -> None:
            with asyncio.Runner() as runner:
                _play(runner, model, ledger, scenario)

        if watched:
            _watch(session, pipeline, ledger, where)
        else:
            session()
        observed, expected = _observed(pipeline), ledger.expected()
        problems = ledger.problems() + differences(observed, expected)
        delivered = pipeline.flush()
        if as_json:
            points = {"observed": _points(observed), "expected": _points(expected)}
            print(json.dumps({"where": where, **points, "problems": problems}), flush=True)
        elif not watched:
            board = Board(
                headline=f"Victor's numbers, {where}",
                pages=[Page(series=observed)],
                conclusion=verdict(observed, expected, over=True),
                all_lines=True,
            )
            Console().print(board)
        if not once:
            _stay(quiet=as_json or watched, where=where)
    for problem in problems:
        print(problem, file=sys.stderr)
    if not delivered:
        places = " or ".join(filter(None, (otlp, traces)))
        print(f"victor-otel demo: {places} did not take everything", file=sys.stderr)
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


def _configure(port: int, otlp: str, traces: str) -> None:
    """The demo's own settings, whatever the user's environment says.

    How spans are sent, their keys above all, is no option: it would be in the shell's history.
    """
    for name in list(os.environ):
        how = bool(traces) and name.startswith("OTEL_EXPORTER_OTLP_TRACES_")
        if name.startswith(("OTEL_", "VICTOR_OTEL_", "VICTOR_PROMETHEUS_")) and not how:
            del os.environ[name]
    os.environ["VICTOR_PROMETHEUS_ENABLED"] = "true"
    os.environ["VICTOR_PROMETHEUS_PORT"] = "0" if otlp else str(port)
    if otlp:
        os.environ["OTEL_METRICS_EXPORTER"] = "otlp"
        os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = otlp
        os.environ["OTEL_METRIC_EXPORT_INTERVAL"] = "1000"
        os.environ["VICTOR_OTEL_EXIT_TIMEOUT"] = "5"
    if traces:
        os.environ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] = traces


def _pipeline(port: int) -> Pipeline:
    on = RUNTIME.instrumentation
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
    return series_of(pipeline.registry.collect())


def _watch(session: Callable[[], None], pipeline: Pipeline, ledger: Ledger, where: str) -> None:
    """Plays the session under its moving numbers, which stay where they are at its end."""
    history, began, over = History(), time.monotonic(), threading.Event()

    def board() -> Board:
        observed = _observed(pipeline)
        history.add(observed)
        ended = "the session is over, Ctrl-C ends the demo" if over.is_set() else ""
        return Board(
            headline=f"{where}: {ended or f'{time.monotonic() - began:.0f} s'}",
            pages=[Page(series=observed, history=history)],
            conclusion=verdict(observed, ledger.expected(), over=over.is_set()),
        )

    # Of its own: what Victor prints meanwhile goes elsewhere (`_play`).
    console = Console(file=sys.stdout)
    with Live(
        get_renderable=board,
        console=console,
        refresh_per_second=1 / _PAUSE,
        redirect_stdout=False,
    ):
        try:
            session()
        finally:
            over.set()


def _stay(*, quiet: bool, where: str) -> None:
    if not quiet:
        Console().print(f"The session is over; its numbers stay at {where} until Ctrl-C.")
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()


def _points(series: Series) -> list[Any]:
    return [[name, dict(labels), value] for (name, labels), value in series.items()]


if __name__ == "__main__":
    typer.run(main)
