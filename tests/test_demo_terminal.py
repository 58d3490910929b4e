"""The demo as a person sees it, in a real terminal."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.kit.processes import environment
from tests.kit.terminal import Terminal, terminal

COMMAND = (str(Path(sys.executable).with_name("victor-otel")), "demo", "--port=0", "--agents=1")
OVER = "the session is over, Ctrl-C ends the demo"


def variables(**more: str) -> dict[str, str]:
    # Victor behaves otherwise under pytest.
    kept = environment(**more).items()
    return {name: value for name, value in kept if not name.startswith("PYTEST_")}


def value(lines: Sequence[str], name: str) -> str:
    """What stands beside a name."""
    found = (re.match(rf"(?:[A-Z]\w+)? *{name}  +(\S+)", line) for line in lines)
    return next((match[1] for match in found if match), "")


def over(lines: Sequence[str]) -> bool:
    return OVER in lines[0]


def equal(lines: Sequence[str]) -> bool:
    """Whether the last line says that all series are as counted."""
    last = [line for line in lines if line][-1]
    found = re.fullmatch(r"(\d+) of (\d+) series equal the independent count", last)
    return found is not None and found[1] == found[2] != "0"


def values_of(shown: Terminal, name: str) -> list[str]:
    """Every value that a person saw beside a name until the session was over."""
    seen: list[str] = []

    def look(lines: Sequence[str]) -> bool:
        if (now := value(lines, name)) and seen[-1:] != [now]:
            seen.append(now)
        return over(lines)

    shown.until(look)
    return seen


def test_numbers_move_while_the_session_plays_and_fit_the_usual_terminal() -> None:
    with terminal(COMMAND, variables()) as shown:
        shown.until(lambda lines: value(lines, "memory usage") != "")
        requests = [int(each) for each in values_of(shown, "requests")]
        lines = shown.until(equal)
    assert len(set(requests)) > 3
    titles = [line.split()[0] for line in lines[1:] if line and not line.startswith(" ")]
    assert titles[:5] == ["Requests", "Tools", "Models", "Work", "Ourselves"]
    assert re.search(r"memory usage +\d+ MiB of [\d.]+ GiB", "\n".join(lines))
    assert re.search(r"provider latency +\d+ mean [\d.]+ m?s", "\n".join(lines))
    assert coloured(shown)


def test_a_narrow_terminal_without_colour_has_names_and_values() -> None:
    def plain(lines: Sequence[str]) -> bool:
        memory = any(re.fullmatch(r"memory usage +\d+ MiB", line) for line in lines)
        return memory and value(lines, "tool executions") not in {"", "0"}

    with terminal(COMMAND, variables(NO_COLOR="1"), rows=16, columns=40) as shown:
        lines = shown.until(plain)
    assert not any(line.startswith("Requests") for line in lines)
    assert not coloured(shown)


def coloured(shown: Terminal) -> bool:
    return re.search(rb"\x1b\[[0-9;]*3[0-7]m", shown.raw) is not None
