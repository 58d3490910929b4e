"""What doctor found, for a terminal or a file: what needs somebody first."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from victor_otel.doctor import OK, PROBLEM, WARNING, Finding, Report

_STYLES = {
    OK: "green",
    WARNING: "yellow",
    PROBLEM: "red",
    "bound": "green",
    "found": "green",
    "waiting": "dim",
    "missing": "red",
}
_INDENT = 9
"""Columns of the status and a blank; everything else stands to the right of them."""


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """A report. The functions that are measured and the versions are listed if `verbose`."""

    report: Report
    verbose: bool = False

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        # In a file a finding is one line, so that `grep` shows all of it.
        width = options.max_width - _INDENT if console.is_terminal else None
        for finding in self.report.findings:
            yield from _shown(finding, console, width)
        if self.verbose:
            for name, version in self.report.versions.items():
                yield Text(f"{name:36}{version or 'not installed'}")
            for hook, state in self.report.hooks.items():
                yield Text.assemble((f"{state:{_INDENT}}", _STYLES[state]), hook)
        yield _conclusion(self.report)


def _shown(finding: Finding, console: Console, width: int | None) -> RenderResult:
    what = Text.assemble((finding.check, "bold"), f": {finding.detail}")
    for number, line in enumerate(_lines(what, console, width)):
        status = "" if number else finding.status
        yield Text.assemble((f"{status:{_INDENT}}", _STYLES[finding.status]), line)
    if finding.status == OK:
        return
    for name, said in (("why", finding.why), ("mend", finding.command)):
        # A command is one line: it is there to be copied.
        fitting = _lines(Text(said), console, None if name == "mend" else width and width - 6)
        for number, line in enumerate(fitting):
            heading = "" if number else f"{name}:"
            yield Text.assemble(" " * _INDENT, (f"{heading:6}", "dim"), line)


def _lines(text: Text, console: Console, width: int | None) -> list[Text]:
    lines = [text] if width is None else list(text.wrap(console, width))
    for line in lines:
        line.rstrip()
    return lines


def _conclusion(report: Report) -> Text:
    statuses = [finding.status for finding in report.findings]
    counts = [
        f"{statuses.count(status)} {status}{'s' * (status != OK and statuses.count(status) != 1)}"
        for status in (PROBLEM, WARNING, OK)
    ]
    return Text(", ".join(counts), style="bold" if report.healthy else "bold red")
