"""What the command says of itself."""

from __future__ import annotations

import importlib.metadata

import pytest
from typer.models import CommandInfo
from typer.testing import CliRunner

from victor_otel.cli import app
from victor_otel.version import __version__

RUNNER = CliRunner()


def test_its_version_is_said_beside_victors() -> None:
    victor = importlib.metadata.version("victor-ai")
    said = RUNNER.invoke(app, ["--version"])
    assert (said.exit_code, said.stdout) == (
        0,
        f"victor-otel {__version__}, victor-ai {victor}\n",
    )


def test_the_version_is_said_without_victor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("victor_otel.victor.supported.installed", lambda _: None)
    said = RUNNER.invoke(app, ["--version"])
    assert (said.exit_code, said.stdout) == (0, f"victor-otel {__version__}, no victor-ai\n")


def test_a_shell_completes_its_commands() -> None:
    asked = {
        "_VICTOR_OTEL_COMPLETE": "complete_bash",
        "COMP_WORDS": "victor-otel d",
        "COMP_CWORD": "1",
    }
    said = RUNNER.invoke(app, [], prog_name="victor-otel", env=asked)
    assert said.stdout.split() == ["doctor", "demo"]


@pytest.mark.parametrize("command", app.registered_commands, ids=lambda one: one.callback.__name__)
def test_help_keeps_every_word(command: CommandInfo) -> None:
    """Rich takes what stands in square brackets for markup, an extra's name among it."""
    assert command.callback is not None
    said = RUNNER.invoke(app, [command.callback.__name__, "--help"], env={"COLUMNS": "200"})
    assert (command.callback.__doc__ or "nothing") in said.stdout
