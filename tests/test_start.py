"""What a program that loads Victor's plugins has to import for us before it does any work."""

from __future__ import annotations

import pytest
import typer
from typer.main import get_group
from typer.testing import CliRunner

from tests.kit.processes import answer
from victor_otel import cli
from victor_otel.plugin import OtelPlugin

RUNNER = CliRunner()
UNASKED = (
    "click",
    "email.parser",
    "opentelemetry",
    "prometheus_client",
    "psutil",
    "rich",
    "typer",
    "victor",
    "victor_otel.cli",
    "victor_otel.signals.pipeline",
    "victor_otel.victor.usage",
    "wrapt",
)
"""What costs a start something, and serves only who measures, exports or types our command."""


def test_switching_on_imports_nothing_that_nobody_has_asked_for() -> None:
    imported = answer(
        """
import json, sys
from victor_otel.plugin import plugin
class Context:
    def register_command(self, name, app): pass
plugin.register(Context())
from victor_otel.runtime import RUNTIME
assert RUNTIME.instrumentation is not None
print(json.dumps(sorted(sys.modules)))
"""
    )
    unasked = [name for name in imported if f"{name}.".startswith(tuple(f"{u}." for u in UNASKED))]
    assert unasked == []


class Victor:
    """A command line that adds the commands of plugins as Victor's own does."""

    def __init__(self) -> None:
        self.app = typer.Typer(name="victor")
        self.app.callback(invoke_without_command=True)(lambda: None)

    def register_command(self, name: str, app: typer.Typer) -> None:
        self.app.add_typer(app, name=name)

    def says(self, *arguments: str) -> tuple[int, str]:
        said = RUNNER.invoke(self.app, arguments, prog_name="victor", env={"COLUMNS": "100"})
        return said.exit_code, said.output


@pytest.fixture
def victor() -> Victor:
    made = Victor()
    OtelPlugin().register(made)
    return made


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[typer.Typer]:
    """Grows when the commands of `victor otel` are made."""
    made: list[typer.Typer] = []

    def noted(app: typer.Typer) -> object:
        made.append(app)
        return get_group(app)

    monkeypatch.setattr(cli, "get_group", noted)
    return made


def test_a_start_of_victor_makes_none_of_our_commands(
    opened: list[typer.Typer], victor: Victor
) -> None:
    assert victor.says() == (0, "")
    code, said = victor.says("--help")
    assert (code, opened) == (0, [])
    assert cli.HELP in said


@pytest.mark.parametrize(
    "arguments",
    [[], ["--help"], ["--version"], ["top", "--help"], ["nonsense"], ["doctor", "--nonsense"]],
    ids=" ".join,
)
def test_within_victor_our_command_is_the_same(
    opened: list[typer.Typer], victor: Victor, arguments: list[str]
) -> None:
    whole = Victor()
    whole.register_command("otel", cli.app)
    assert victor.says("otel", *arguments) == whole.says("otel", *arguments)
    assert opened == [cli.app]


def test_a_shell_completes_our_commands_within_victor(victor: Victor) -> None:
    asked = {
        "_VICTOR_COMPLETE": "complete_bash",
        "COMP_WORDS": "victor otel d",
        "COMP_CWORD": "2",
    }
    said = RUNNER.invoke(victor.app, [], prog_name="victor", env=asked)
    assert said.stdout.split() == ["doctor", "demo"]
