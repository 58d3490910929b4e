"""`victor otel top` in any terminal, and in none."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.live import Live
from rich.text import Text

from victor_otel.numbers import History
from victor_otel.terminal import Board, Page
from victor_otel.top.scrape import Scraper


def once(scraper: Scraper, urls: Sequence[str]) -> bool:
    """Prints everything that is not 0; whether all pages were there."""
    board, problems = _look(scraper, {url: History() for url in urls}, all_lines=True)
    Console().print(board)
    return not problems


def follow(scraper: Scraper, urls: Sequence[str], interval: float) -> None:
    """Shows the numbers until Ctrl-C."""
    histories = {url: History() for url in urls}
    with Live(_look(scraper, histories)[0], auto_refresh=False, screen=True) as live:
        while True:
            time.sleep(interval)
            live.update(_look(scraper, histories)[0], refresh=True)


def _look(
    scraper: Scraper, histories: Mapping[str, History], *, all_lines: bool = False
) -> tuple[Board, list[str]]:
    """What the pages say now, and what is wrong with those that do not."""
    found, problems = scraper.read_all(histories)
    for url, series in found.items():
        histories[url].add(series)
    board = Board(
        headline=", ".join(histories),
        pages=[
            Page(series=found.get(url, {}), history=history, title=url.partition("//")[2])
            for url, history in histories.items()
        ],
        conclusion=Text("\n".join(problems), style="red") if problems else None,
        all_lines=all_lines,
    )
    return board, problems
