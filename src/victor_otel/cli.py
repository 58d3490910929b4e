"""`victor otel ...`, and the same as `victor-otel ...`."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup
from typer.main import get_group

HELP = "OpenTelemetry metrics of Victor: check, demonstrate, watch and deploy them."

app = typer.Typer(name="otel", help=HELP, no_args_is_help=True)


class _Unopened(TyperGroup):
    """Makes its commands and options when somebody looks at them.

    Victor makes all that it has at each start, even for `--version`.
    """

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        del self.commands, self.params

    def __getattr__(self, name: str) -> Any:
        if name not in {"commands", "params"}:
            raise AttributeError(name)
        opened = get_group(app)
        self.commands, self.params = opened.commands, opened.params
        return getattr(self, name)


subcommand = typer.Typer(name="otel", help=HELP, no_args_is_help=True, cls=_Unopened)
"""The same as part of `victor`."""


def _print_version(asked: bool) -> None:
    if asked:
        from victor_otel.version import __version__
        from victor_otel.victor.supported import installed

        found = installed("victor-ai")
        victor = f"victor-ai {found}" if found else "no victor-ai"
        typer.echo(f"victor-otel {__version__}, {victor}")
        raise typer.Exit


@app.callback()
def options(
    *,
    _version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Print the versions of victor-otel and of Victor, and exit.",
        ),
    ] = False,
) -> None:
    """What precedes a command."""


@app.command()
def doctor(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose", help="Import all of Victor that is measured, and list its functions."
        ),
    ] = False,
) -> None:
    """Say what is missing, why, and what mends it; then what is on. Exit 1 on a problem."""
    from victor_otel.doctor import examine

    report = examine(thorough=verbose)
    if as_json:
        typer.echo(json.dumps(report.as_dict(), indent=2))
    else:
        from rich.console import Console

        from victor_otel.diagnosis import Diagnosis

        console = Console(highlight=False)
        # Nothing is cut off: what is longer than the terminal is a command, to be copied whole.
        console.print(Diagnosis(report=report, verbose=verbose), soft_wrap=True)
    raise typer.Exit(0 if report.healthy else 1)


@app.command()
def demo(
    *,
    once: Annotated[
        bool, typer.Option("--once", help="Print the table at the end of the session, and exit.")
    ] = False,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of /metrics; 0 picks a free one.")
    ] = 9091,
    otlp: Annotated[
        str, typer.Option(metavar="URL", help="Push to this OTLP/HTTP endpoint instead.")
    ] = "",
    traces: Annotated[
        str,
        typer.Option(
            metavar="URL",
            help="Send the spans there, such as http://localhost:4318/v1/traces; "
            "OTEL_EXPORTER_OTLP_TRACES_HEADERS may hold the key.",
        ),
    ] = "",
    agents: Annotated[
        int, typer.Option(min=1, max=90, help="Agents that work in parallel at the end.")
    ] = 4,
    repeat: Annotated[
        bool,
        typer.Option("--repeat", help="Play sessions until Ctrl-C, for dashboards and alerts."),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print metrics and the independent count as JSON.")
    ] = False,
) -> None:
    """Run a real Victor session on a scripted model and watch its metrics. No key, no network."""
    if importlib.util.find_spec("victor") is None:
        from victor_otel.victor.supported import INSTALL

        _fail("demo", f"victor-ai is not installed: {INSTALL}")
    for option, url, path in (("--otlp", otlp, ""), ("--traces", traces, "/v1/traces")):
        if url and not url.startswith(("http://", "https://")):
            _fail("demo", f"{option} wants a URL such as http://localhost:4318{path}, not {url!r}")
    if repeat and (once or as_json):
        _fail("demo", "--repeat never ends: leave out --once and --json")
    # Anew in the same process: Victor settles its state folder while it is imported. A child would
    # outlive whoever ends only its parent.
    options = [f"--port={port}", f"--otlp={otlp}", f"--traces={traces}", f"--agents={agents}"]
    options += ["--once"] * once + ["--repeat"] * repeat + ["--json"] * as_json
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-m", "victor_otel.demo", *options])  # noqa: S606


@app.command()
def top(
    urls: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[URL]...", help="URLs of /metrics, host:port, or ports; default 9091."
        ),
    ] = None,
    *,
    interval: Annotated[float, typer.Option(min=0.2, help="Seconds between two updates.")] = 2.0,
    once: Annotated[
        bool, typer.Option("--once", help="Read the pages once, print all, and exit.")
    ] = False,
    plain: Annotated[
        bool, typer.Option("--plain", help="Plain table without tabs, for any terminal.")
    ] = False,
    serve: Annotated[
        int,
        typer.Option(
            metavar="PORT", min=0, max=65535, help="Serve the view to a browser on this port."
        ),
    ] = 0,
    cacert: Annotated[
        Path | None, typer.Option(metavar="FILE", help="CA certificate of the pages.")
    ] = None,
    user: Annotated[str, typer.Option(metavar="NAME", help="User name for the pages.")] = "",
    password_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File with the password of --user.")
    ] = None,
) -> None:
    """Show live metrics of running processes, in tabs if Textual is installed."""
    from victor_otel.signals.settings import PROMETHEUS_PORT, Settings, metrics_url
    from victor_otel.top import plain as shown
    from victor_otel.top.scrape import Scraper, address

    settings = Settings.from_environment()
    served = "prometheus" in settings.exporters
    port = (served and settings.prometheus_port) or int(PROMETHEUS_PORT.default)
    pages = [address(each) for each in urls or [metrics_url("127.0.0.1", port)]]
    scraper = Scraper(certificates=cacert, user=user, password_file=password_file)
    if serve:
        options = {"cacert": cacert, "user": user, "password-file": password_file}
        given = [f"--{name}={value}" for name, value in options.items() if value]
        _in_browser(serve, ["top", *pages, f"--interval={interval}", *given])
    # Textual's own server reads the program by a pipe, and says so.
    if once or not (sys.stdout.isatty() or "TEXTUAL_DRIVER" in os.environ):
        raise typer.Exit(0 if shown.once(scraper, pages) else 1)
    if plain or importlib.util.find_spec("textual") is None:
        with contextlib.suppress(KeyboardInterrupt):
            shown.follow(scraper, pages, interval)
        return
    from victor_otel.top.app import Top

    Top(scraper, pages, interval).run()


@app.command()
def export(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder to write to; it is created.")
    ],
    *,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite or remove files that were changed there.")
    ] = False,
    runbooks: Annotated[
        str, typer.Option(metavar="URL", help="Address of your copies of the runbooks.")
    ] = "",
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Another value of an alert, such as slo.availability=99.9; docs/alerts.md lists "
            "them. May be repeated.",
        ),
    ] = None,
) -> None:
    """Write dashboards, rules, runbooks, Collector, Docker and Kubernetes files of this version."""
    from victor_otel.alerting.parameters import ParameterError
    from victor_otel.export import ExportError
    from victor_otel.export import export as write

    if runbooks and not runbooks.startswith(("http://", "https://")):
        _fail("export", f"--runbooks wants a URL, not {runbooks!r}")
    try:
        outcome = write(folder, force=force, runbooks=runbooks, assignments=assignments or ())
    except ParameterError as error:
        _fail("export", str(error))
    except ExportError as error:
        typer.echo(f"victor-otel export: {error}", err=True)
        raise typer.Exit(1) from error
    for name in outcome.removed:
        typer.echo(f"removed {folder / name}: this version has no such file")
    typer.echo(
        f"{folder}: {len(outcome.written)} files written, {len(outcome.unchanged)} as they were. "
        f"Begin with {folder / 'deploy' / 'README.md'}"
    )


def _in_browser(port: int, arguments: list[str]) -> NoReturn:
    """Serves a command of ours to browsers of this machine, until Ctrl-C."""
    try:
        from textual_serve.server import Server
    except ImportError:
        _fail("top", "for --serve: pip install textual textual-serve")
    command = shlex.join([sys.executable, "-m", "victor_otel.cli", *arguments])
    Server(command, host="127.0.0.1", port=port, title="victor otel top").serve()
    raise typer.Exit(0)


def _fail(command: str, message: str) -> NoReturn:
    typer.echo(f"victor-otel {command}: {message}", err=True)
    raise typer.Exit(2)


def main() -> None:
    """The `victor-otel` command."""
    app(prog_name="victor-otel")


if __name__ == "__main__":
    main()
