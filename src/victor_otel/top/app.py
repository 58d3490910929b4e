"""`victor otel top` in Textual (`victor-otel[top]`): tabs with tables that can be sorted."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import ClassVar, cast

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.css.query import NoMatches
from textual.widgets import DataTable, Footer, Header, Static, TabbedContent, TabPane

from victor_otel.numbers import Series
from victor_otel.top.scrape import Scraper
from victor_otel.top.tables import TABS, Tab, rows, said

_PROCESS = "process"
"""The column that tells processes apart, where there are several."""


class Top(App[None]):
    """Looks at some /metrics pages every `interval` seconds."""

    TITLE = "victor otel top"
    CSS = """
    TabbedContent { height: 1fr; }
    #problem { color: $error; height: auto; padding: 0 1; }
    DataTable { height: 1fr; scrollbar-gutter: auto; overflow-y: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        *(
            Binding(str(number), f"show('{tab.title}')", tab.title, show=False)
            for number, tab in enumerate(TABS, 1)
        ),
        Binding("s", "sort", "Sort by next column"),
        Binding("r", "reverse", "Reverse"),
        Binding("q", "quit", "Quit"),
    ]

    def __init__(self, scraper: Scraper, urls: Sequence[str], interval: float) -> None:
        super().__init__()
        self._scraper, self._urls, self._interval = scraper, urls, interval
        self._pages: dict[str, Series] = {}
        self._sorted: dict[str, int | None] = {tab.title: None for tab in TABS}
        self._reversed: dict[str, bool] = {tab.title: False for tab in TABS}
        self.sub_title = ", ".join(urls)

    def compose(self) -> ComposeResult:
        yield Header(icon="")  # its own is a box in many fonts
        with TabbedContent():
            for number, tab in enumerate(TABS, 1):
                with TabPane(f"{number} {tab.title}", id=tab.title):
                    yield DataTable[str | Text](cursor_type="row", zebra_stripes=True)
        yield Static(id="problem")
        yield Footer()

    def on_mount(self) -> None:
        for tab in TABS:
            self._table(tab).add_columns(*self._titles(tab))
        self.look()
        self.set_interval(self._interval, self.look)

    def look(self) -> None:
        """Asks the pages on a thread: one that does not answer must not stop the keys."""
        self.run_worker(self._ask, thread=True, exclusive=True)

    def action_show(self, title: str) -> None:
        self.query_one(TabbedContent).active = title

    def action_sort(self) -> None:
        """By the next column, and after the last as the largest first."""
        tab = self._shown()
        column = self._sorted[tab.title]
        following = 0 if column is None else column + 1
        self._sorted[tab.title] = following if following < len(self._titles(tab)) else None
        self._fill(tab)

    def action_reverse(self) -> None:
        tab = self._shown()
        self._reversed[tab.title] = not self._reversed[tab.title]
        self._fill(tab)

    def on_data_table_header_selected(self, event: DataTable.HeaderSelected) -> None:
        tab = self._shown()
        again = self._sorted[tab.title] == event.column_index
        self._reversed[tab.title] = again and not self._reversed[tab.title]
        self._sorted[tab.title] = event.column_index
        self._fill(tab)

    def _ask(self) -> None:
        pages, problems = self._scraper.read_all(self._urls)
        with suppress(RuntimeError, NoMatches):  # the app is over, or all that it shows is
            self.call_from_thread(self._show, pages, problems)

    def _show(self, pages: dict[str, Series], problems: list[str]) -> None:
        self._pages = pages
        self.query_one("#problem", Static).update("\n".join(problems))
        for tab in TABS:
            self._fill(tab)

    def _fill(self, tab: Tab) -> None:
        """Writes a table anew, sorted, with the cursor where it was."""
        several = len(self._urls) > 1
        found = [
            ([*([url] if several else []), *names], values)
            for url, series in self._pages.items()
            for names, values in rows(tab, series)
        ]
        column = self._sorted[tab.title]
        if column is not None:
            found.sort(key=lambda row: _order([*row[0], *row[1]][column]))
        if self._reversed[tab.title]:
            found.reverse()
        table = self._table(tab)
        cursor = table.cursor_coordinate
        table.clear()
        for names, values in found:
            numbers = (said(each, value) for each, value in zip(tab.columns, values, strict=True))
            table.add_row(*names, *(Text(number, justify="right") for number in numbers))
        if cursor.row < table.row_count:
            table.cursor_coordinate = cursor

    def _titles(self, tab: Tab) -> list[str]:
        process = [_PROCESS] if len(self._urls) > 1 else []
        return [*process, *tab.by, *(column.title for column in tab.columns)]

    def _shown(self) -> Tab:
        active = self.query_one(TabbedContent).active
        return next(tab for tab in TABS if tab.title == active)

    def _table(self, tab: Tab) -> DataTable[str | Text]:
        return cast("DataTable[str | Text]", self.query_one(f"#{tab.title} DataTable"))


def _order(cell: str | float | None) -> tuple[int, float, str]:
    """Names by the alphabet, numbers from the largest, what is absent last."""
    if isinstance(cell, str):
        return 0, 0, cell
    return (1, 0, "") if cell is None else (0, -cell, "")
