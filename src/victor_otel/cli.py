"""`victor otel ...`, and the same as `victor-otel ...`."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="otel",
    help="Metrics of this Victor: what is on, a demonstration, and what to deploy.",
    no_args_is_help=True,
    add_completion=False,
)

_STYLES = {"ok": "green", "warning": "yellow", "problem": "red"}


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say what is on, what is missing and what to do about it. Exit 1 on a problem."""
    from victor_otel.doctor import examine

    report = examine()
    if as_json:
        typer.echo(json.dumps(report.as_dict(), indent=2))
    else:
        from rich.console import Console
        from rich.markup import escape

        console = Console(highlight=False)
        for name, version in report.versions.items():
            console.print(f"[dim]{name:36}[/] {version or 'not installed'}")
        for hook, state in report.hooks.items():
            style = {"bound": "green", "waiting": "dim", "missing": "red"}[state]
            console.print(f"[{style}]{state:8}[/] {escape(hook)}", soft_wrap=True)
        for finding in report.findings:
            style = _STYLES[finding.status]
            console.print(
                f"[{style}]{finding.status:8}[/] [bold]{finding.check}[/]: "
                f"{escape(finding.detail)}",
                soft_wrap=True,
            )
            if finding.advice:
                console.print(f"         {escape(finding.advice)}", soft_wrap=True)
    raise typer.Exit(0 if report.healthy else 1)


@app.command()
def demo(
    *,
    once: Annotated[
        bool, typer.Option("--once", help="Print the table when the session is over, and exit.")
    ] = False,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of /metrics; 0 picks one.")
    ] = 9091,
    otlp: Annotated[
        str, typer.Option(metavar="URL", help="Push to this OTLP/HTTP endpoint instead.")
    ] = "",
    agents: Annotated[
        int, typer.Option(min=1, max=90, help="Agents that work in parallel at the end.")
    ] = 4,
    repeat: Annotated[
        bool,
        typer.Option("--repeat", help="Play sessions until Ctrl-C, for dashboards and alerts."),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print numbers and independent count as JSON.")
    ] = False,
) -> None:
    """Run a real Victor session on a scripted model and watch its numbers. No key, no network."""
    if importlib.util.find_spec("victor") is None:
        extra = '"victor-otel[instruments]"'
        _fail(
            "demo",
            f"victor-ai is not installed: pip install {extra}, "
            f"or uvx --from {extra} victor-otel demo",
        )
    if otlp and not otlp.startswith(("http://", "https://")):
        _fail("demo", f"--otlp wants a URL such as http://localhost:4318, not {otlp!r}")
    if repeat and (once or as_json):
        _fail("demo", "--repeat never ends: leave out --once and --json")
    # A process of its own: Victor settles its state folder while it is imported.
    options = [f"--port={port}", f"--otlp={otlp}", f"--agents={agents}"]
    options += ["--once"] * once + ["--repeat"] * repeat + ["--json"] * as_json
    with subprocess.Popen([sys.executable, "-m", "victor_otel.demo", *options]) as child:
        while child.poll() is None:
            # Ctrl-C reaches the child as well; killed now, it would leave its sandbox behind.
            with contextlib.suppress(KeyboardInterrupt):
                child.wait()
    raise typer.Exit(child.returncode)


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to; it is created.")],
    *,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite or remove files that were changed there.")
    ] = False,
    runbooks: Annotated[
        str, typer.Option(metavar="URL", help="Where your copies of the runbooks are.")
    ] = "",
) -> None:
    """Write dashboards, rules, runbooks, Collector, Docker and Kubernetes files of this version."""
    from victor_otel.export import ExportError
    from victor_otel.export import export as write

    if runbooks and not runbooks.startswith(("http://", "https://")):
        _fail("export", f"--runbooks wants a URL, not {runbooks!r}")
    try:
        outcome = write(folder, force=force, runbooks=runbooks)
    except ExportError as error:
        typer.echo(f"victor-otel export: {error}", err=True)
        raise typer.Exit(1) from error
    for name in outcome.removed:
        typer.echo(f"removed {folder / name}: this version has no such file")
    typer.echo(
        f"{folder}: {len(outcome.written)} files written, {len(outcome.unchanged)} as they were. "
        f"Begin with {folder / 'README.md'}"
    )


def _fail(command: str, message: str) -> None:
    typer.echo(f"victor-otel {command}: {message}", err=True)
    raise typer.Exit(2)


def main() -> None:
    """The `victor-otel` command."""
    app(prog_name="victor-otel")
