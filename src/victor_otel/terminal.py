"""Draws pages of numbers into a terminal of any size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from victor_otel.numbers import GROUPS, WIDTH, History, Line, Series, lines

_NARROW = 60
"""Below so many columns there are names and values alone."""


@dataclass(frozen=True, kw_only=True)
class Page:
    """What one process says, and has said before. `title` heads its column."""

    series: Series
    history: History = field(default_factory=History)
    title: str = ""


@dataclass(frozen=True, kw_only=True)
class Board:
    """Pages side by side under a headline, and one line of conclusion.

    One page has its details and spark lines beside it; several have a column each. There are as
    many lines as there is room for, or all of them, for a file.
    """

    headline: str
    pages: Sequence[Page]
    conclusion: Text | None = None
    all_lines: bool = False

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        groups = _groups(self.pages)
        wanted = sum(len(rows) for _, rows in groups)
        # The headline, the conclusion, what is left out, the titles and where the cursor stays.
        room = wanted if self.all_lines else max(1, (options.height or console.height) - 5)
        groups = _fitting(groups, min(wanted, room))
        shown = sum(len(rows) for _, rows in groups)
        yield Text(self.headline, style="bold", no_wrap=True, overflow="ellipsis")
        yield _table(groups, self.pages, options.max_width)
        if wanted > shown:
            left_out = f"{wanted - shown} more: a higher terminal shows them"
            yield Text(left_out, style="dim", no_wrap=True)
        if self.conclusion is not None:
            yield self.conclusion


Row = list[Line | None]
"""A metric, as each page has it."""
Groups = list[tuple[str, list[Row]]]


def _groups(pages: Sequence[Page]) -> Groups:
    found: Groups = []
    said = [lines(page.series, page.history) for page in pages]
    for title, metrics in GROUPS.items():
        rows: dict[str, Row] = {metric.name: [None] * len(pages) for metric in metrics}
        for number, groups in enumerate(said):
            for line in groups[title]:
                rows[line.metric.name][number] = line
        found.append((title, [row for row in rows.values() if any(row)]))
    return found


def _fitting(groups: Groups, room: int) -> Groups:
    """The first rows of each group, all groups in turn until there is no more room."""
    shares = [0] * len(groups)
    while sum(shares) < room:
        for number, (_, rows) in enumerate(groups):
            if sum(shares) < room and shares[number] < len(rows):
                shares[number] += 1
    return [(title, rows[:share]) for (title, rows), share in zip(groups, shares, strict=True)]


def _table(groups: Groups, pages: Sequence[Page], width: int) -> Table:
    wide = width >= _NARROW
    alone = len(pages) == 1
    table = Table(box=None, padding=(0, 1, 0, 0), show_header=not alone, expand=wide and alone)
    if wide:
        table.add_column(no_wrap=True, style="bold", width=max(map(len, GROUPS)))
    table.add_column(no_wrap=True, style="cyan", overflow="ellipsis")
    for page in pages:
        table.add_column(page.title, no_wrap=True, justify="right", min_width=_longest(groups))
    if wide and alone:
        table.add_column(no_wrap=True, style="dim", overflow="ellipsis", ratio=1)
        table.add_column(no_wrap=True, style="green", width=WIDTH)
    for title, rows in groups:
        for number, row in enumerate(rows):
            heading = ["" if number else title] if wide else []
            table.add_row(*heading, *_cells(row, extended=wide and alone))
    return table


def _cells(row: Row, *, extended: bool) -> list[str]:
    known = [line for line in row if line is not None]
    values = ["" if line is None else line.value for line in row]
    return [known[0].name, *values, *([known[0].detail, known[0].trend] if extended else [])]


def _longest(groups: Groups) -> int:
    every = (line for _, rows in groups for row in rows for line in row if line is not None)
    return max((len(line.value) for line in every), default=0)
